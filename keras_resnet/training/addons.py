"""The optimizers of tensorflow-addons, by the rules and hyper-parameters of Keras' own.

They are made of Keras 2's legacy optimizers. Only imported where tensorflow-addons is installed.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from keras_resnet import compat
from keras_resnet.errors import InputError

tfa = compat.addons("keras_resnet.training.addons")


@keras.saving.register_keras_serializable(package="keras_resnet")
class Decay(keras.optimizers.schedules.LearningRateSchedule):
    """The weight decay of a step: in tensorflow-addons it is not multiplied by the learning rate, in Keras it is.

    Args:
        rate: the learning rate or its schedule.
        decay: coefficient.
    """

    def __init__(self, rate, decay):
        self.rate, self.decay = rate, decay

    def __call__(self, step):
        return self.decay * (self.rate(step) if callable(self.rate) else self.rate)

    def get_config(self):
        return {"rate": keras.saving.serialize_keras_object(self.rate), "decay": self.decay}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["rate"]), config["decay"])


@keras.saving.register_keras_serializable(package="keras_resnet")
class CoupledSGD(keras.optimizers.legacy.SGD):
    """`training.optimizers.SGD` as a legacy optimizer, for Lookahead: decay in the gradient, under the momentum.

    Args:
        l2: coefficient of the decay.
        excluded: parts of the names of variables that do not decay.
        **kwargs: as for `keras.optimizers.legacy.SGD`.
    """

    def __init__(self, *args, l2=0.0, excluded=(), **kwargs):
        super().__init__(*args, **kwargs)
        self.l2, self.excluded = l2, tuple(excluded)

    def _resource_apply_dense(self, grad, var, apply_state=None):
        if not any(part in var.name for part in self.excluded):
            grad = grad + self.l2 * var
        return super()._resource_apply_dense(grad, var, apply_state=apply_state)

    def get_config(self):
        return {**super().get_config(), "l2": self.l2, "excluded": self.excluded}


@functools.cache
def decoupled(kind: type) -> type:
    """Extend an optimizer without weight decay, or with another one, by that of Keras 3: before the step, by the rate.

    `tfa.optimizers.extend_with_decoupled_weight_decay` does the same for those that share their rate in one way.

    Args:
        kind: a legacy optimizer.

    Returns:
        A class with two more arguments: `decoupled`, coefficient or schedule of the decay, and `excluded`, parts of the
        names of variables that do not decay.
    """

    class Decoupled(kind):
        def __init__(self, *args, decoupled=0.0, excluded=(), **kwargs):
            super().__init__(*args, **kwargs)
            self.decoupled, self.excluded = decoupled, tuple(excluded)

        def _resource_apply_dense(self, grad, var):
            if not any(part in var.name for part in self.excluded):
                decay = self.decoupled(self.iterations) if callable(self.decoupled) else self.decoupled
                var.assign_sub(tf.cast(decay, var.dtype) * var)
            return super()._resource_apply_dense(grad, var)

        def get_config(self):
            own = {"decoupled": keras.saving.serialize_keras_object(self.decoupled), "excluded": self.excluded}
            return {**super().get_config(), **own}

        @classmethod
        def from_config(cls, config, custom_objects=None):
            own = keras.saving.deserialize_keras_object(config["decoupled"])
            return super().from_config({**config, "decoupled": own}, custom_objects)

    return keras.saving.register_keras_serializable("keras_resnet", f"Decoupled{kind.__name__}")(Decoupled)


def _sgd(rate, momentum, nesterov, decay, excluded, options):
    return CoupledSGD(rate, momentum, nesterov, l2=decay, excluded=excluded, **options)


def _sgdw(rate, momentum, nesterov, decay, excluded, options):
    return tfa.optimizers.SGDW(
        Decay(rate, decay), rate, momentum, nesterov, exclude_from_weight_decay=list(excluded), **options
    )


def _adamw(rate, momentum, nesterov, decay, excluded, options):
    return tfa.optimizers.AdamW(
        Decay(rate, decay), rate, beta_1=momentum, exclude_from_weight_decay=list(excluded), **options
    )


def _lamb(rate, momentum, nesterov, decay, excluded, options):
    # Outside of the trust ratio, as in Keras 3; the decay of tfa:LAMB is inside, as in the paper.
    return decoupled(tfa.optimizers.LAMB)(
        rate, beta_1=momentum, epsilon=1e-7, decoupled=Decay(rate, decay), excluded=excluded, **options
    )


def _novograd(rate, momentum, nesterov, decay, excluded, options):
    if excluded:
        raise InputError("decay_norm must be True with novograd, which decays all variables.")
    return tfa.optimizers.NovoGrad(rate, beta_1=momentum, weight_decay=decay, **options)


MAKERS: dict[str, Callable] = {"sgd": _sgd, "sgdw": _sgdw, "adamw": _adamw, "lamb": _lamb, "novograd": _novograd}


def make(
    name: str,
    rate,
    momentum: float,
    nesterov: bool,
    decay: float,
    excluded: Sequence[str],
    options: dict,
    average: Callable | None = None,
):
    """Make an optimizer of tensorflow-addons; see `optimizers.make`.

    Args:
        excluded: parts of the names of variables that do not decay.
        options: the limit of the gradients' norm, by Keras' name.
        average: of `averaged`, to be put around the optimizer.

    Raises:
        ValueError: tensorflow-addons has no such class, or it needs what a configuration cannot say.
    """
    if average:
        # The limit of the norm belongs to the outer optimizer, which is the one that sees all gradients.
        return average(make(name, rate, momentum, nesterov, decay, excluded, {}), options)
    if name.startswith("tfa:"):
        return _by_class(name.removeprefix("tfa:"), rate, momentum, decay, excluded, options)
    inner = name.removeprefix("lookahead_")
    if inner == name:
        return MAKERS[name](rate, momentum, nesterov, decay, excluded, options)
    return tfa.optimizers.Lookahead(_ready(MAKERS[inner](rate, momentum, nesterov, decay, excluded, {})), **options)


def averaged(decay: float, every: int, start: int) -> Callable:
    """Return what makes an optimizer average the weights that it trains, as `averaging.WeightAverage` does.

    Args:
        decay: of the moving average.
        every: steps between updates.
        start: the step from which on weights count alike; 0 for the moving average.

    Raises:
        ValueError: `every` is not 1, for the moving average.
    """
    if not start and every != 1:
        raise InputError(f"ema_steps must be 1 where tensorflow-addons averages, average=trained; got {every}.")

    def wrap(optimizer, options):
        # Steps are counted from 0 there and from 1 here.
        if start:
            return tfa.optimizers.SWA(_ready(optimizer), start - 1, every, **options)
        return tfa.optimizers.MovingAverage(_ready(optimizer), decay, start_step=-1, dynamic_decay=True, **options)

    return wrap


def _ready(inner):
    """An optimizer for the inside of another, told which variables decay; outside it would learn it by itself."""
    if hasattr(inner, "_set_decay_var_list"):
        create = inner._create_slots

        def create_slots(var_list):
            inner._set_decay_var_list(var_list)
            create(var_list)

        inner._create_slots = create_slots
    return inner


def _by_class(name: str, rate, momentum: float, decay: float, excluded: Sequence[str], options: dict):
    kind = getattr(tfa.optimizers, name, None)
    if not (inspect.isclass(kind) and issubclass(kind, keras.optimizers.legacy.Optimizer)):
        raise InputError(f"optimizer must name a class of tfa.optimizers after 'tfa:'; got {name!r}.")
    known = inspect.signature(kind).parameters
    if any(argument.startswith("optimizer") for argument in known):
        raise InputError(f"optimizer must not be 'tfa:{name}', which is made around others.")
    given = {argument: momentum for argument in ("momentum", "beta_1", "beta1") if argument in known}
    if "learning_rate" in known:
        given["learning_rate"] = rate
    if "weight_decay" in known:
        given["weight_decay"] = decay
        if excluded and "exclude_from_weight_decay" not in known:
            raise InputError(f"decay_norm must be True with tfa:{name}, which decays all variables.")
        given |= {"exclude_from_weight_decay": list(excluded)} if excluded else {}
    elif decay:
        kind = decoupled(kind)
        given |= {"decoupled": Decay(rate, decay), "excluded": excluded}
    return kind(**given, **options)
