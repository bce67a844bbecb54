"""Optimizers of tensorflow-addons, with the rules and hyperparameters of Keras' own.

They build on Keras 2's legacy optimizers. Import this module only if tensorflow-addons is installed.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_resnet import compat
from keras_resnet.errors import InputError
from keras_resnet.training.schedules import Rate

tfa = compat.addons("keras_resnet.training.addons")


@keras.saving.register_keras_serializable(package="keras_resnet")
class Decay(keras.optimizers.schedules.LearningRateSchedule):
    """The weight decay of a step, times the learning rate: Keras multiplies by the rate, tensorflow-addons does not.

    Args:
        rate: the learning rate or its schedule.
        decay: coefficient.
    """

    def __init__(self, rate: Rate, decay: float):
        self.rate: Any = rate
        self.decay = decay

    def __call__(self, step: Any) -> Any:
        return self.decay * (self.rate(step) if callable(self.rate) else self.rate)

    def get_config(self) -> dict[str, Any]:
        return {"rate": keras.saving.serialize_keras_object(self.rate), "decay": self.decay}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Decay:
        return cls(keras.saving.deserialize_keras_object(config["rate"]), config["decay"])


@keras.saving.register_keras_serializable(package="keras_resnet")
class CoupledSGD(keras.optimizers.legacy.SGD):
    """`training.optimizers.SGD` as a legacy optimizer, for Lookahead: decay in the gradient, before the momentum.

    Args:
        l2: coefficient of the decay.
        excluded: substrings of the names of variables that do not decay.
        **kwargs: as for `keras.optimizers.legacy.SGD`.
    """

    def __init__(self, *args: Any, l2: float = 0.0, excluded: Sequence[str] = (), **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.l2, self.excluded = l2, tuple(excluded)

    def _resource_apply_dense(self, grad: Any, var: Any, apply_state: Any = None) -> Any:
        if not any(part in var.name for part in self.excluded):
            grad = grad + self.l2 * var
        return super()._resource_apply_dense(grad, var, apply_state=apply_state)  # type: ignore[misc]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "l2": self.l2, "excluded": self.excluded}  # type: ignore[misc]


@functools.cache
def decoupled(kind: type) -> type:
    """Extend the class of an optimizer by Keras 3's weight decay: before the step, times the rate.

    `tfa.optimizers.extend_with_decoupled_weight_decay` supports only optimizers that read their rate in one way.

    Args:
        kind: the class of a legacy optimizer.

    Returns:
        A class with two more arguments: `decoupled`, coefficient or schedule of the decay, and `excluded`, substrings
        of the names of variables that do not decay.
    """

    class Decoupled(kind):
        def __init__(self, *args: Any, decoupled: Any = 0.0, excluded: Sequence[str] = (), **kwargs: Any):
            super().__init__(*args, **kwargs)
            self.decoupled, self.excluded = decoupled, tuple(excluded)

        def _resource_apply_dense(self, grad: Any, var: Any) -> Any:
            if not any(part in var.name for part in self.excluded):
                decay = self.decoupled(self.iterations) if callable(self.decoupled) else self.decoupled
                var.assign_sub(tf.cast(decay, var.dtype) * var)
            return super()._resource_apply_dense(grad, var)

        def get_config(self) -> dict[str, Any]:
            decay = {"decoupled": keras.saving.serialize_keras_object(self.decoupled), "excluded": self.excluded}
            return {**super().get_config(), **decay}

        @classmethod
        def from_config(cls, config: dict[str, Any], custom_objects: dict | None = None) -> Any:
            decay = keras.saving.deserialize_keras_object(config["decoupled"])
            return super().from_config({**config, "decoupled": decay}, custom_objects)

    return keras.saving.register_keras_serializable("keras_resnet", f"Decoupled{kind.__name__}")(Decoupled)


def _sgd(rate: Rate, momentum: float, nesterov: bool, decay: float, excluded: Sequence[str], options: dict) -> Any:
    return CoupledSGD(rate, momentum, nesterov, l2=decay, excluded=excluded, **options)


def _sgdw(rate: Rate, momentum: float, nesterov: bool, decay: float, excluded: Sequence[str], options: dict) -> Any:
    return tfa.optimizers.SGDW(
        Decay(rate, decay), rate, momentum, nesterov, exclude_from_weight_decay=list(excluded), **options
    )


def _adamw(rate: Rate, momentum: float, nesterov: bool, decay: float, excluded: Sequence[str], options: dict) -> Any:
    return tfa.optimizers.AdamW(
        Decay(rate, decay), rate, beta_1=momentum, exclude_from_weight_decay=list(excluded), **options
    )


def _lamb(rate: Rate, momentum: float, nesterov: bool, decay: float, excluded: Sequence[str], options: dict) -> Any:
    # Outside the trust ratio, as in Keras 3; the decay of tfa:LAMB is inside, as in its paper.
    return decoupled(tfa.optimizers.LAMB)(
        rate, beta_1=momentum, epsilon=1e-7, decoupled=Decay(rate, decay), excluded=excluded, **options
    )


def _novograd(rate: Rate, momentum: float, nesterov: bool, decay: float, excluded: Sequence[str], options: dict) -> Any:
    if excluded:
        raise InputError("decay_norm must be True with novograd, which decays all variables; got False.")
    return tfa.optimizers.NovoGrad(rate, beta_1=momentum, weight_decay=decay, **options)


MAKERS: dict[str, Callable] = {"sgd": _sgd, "sgdw": _sgdw, "adamw": _adamw, "lamb": _lamb, "novograd": _novograd}


def make(
    name: str,
    rate: Rate,
    momentum: float,
    nesterov: bool,
    decay: float,
    excluded: Sequence[str],
    options: dict[str, Any],
    average: Callable | None = None,
) -> Any:
    """Make an optimizer of tensorflow-addons; see `optimizers.make`.

    Args:
        excluded: substrings of the names of variables that do not decay.
        options: further arguments of the optimizer, such as `global_clipnorm`.
        average: returned by `averaged`, to wrap the optimizer.

    Raises:
        ValueError: tensorflow-addons has no such class, or the class requires unsupported arguments.
    """
    if average:
        # The outer optimizer clips, because it sees all gradients.
        return average(make(name, rate, momentum, nesterov, decay, excluded, {}), options)
    if name.startswith("tfa:"):
        return _by_class(name.removeprefix("tfa:"), rate, momentum, decay, excluded, options)
    inner = name.removeprefix("lookahead_")
    if inner == name:
        return MAKERS[name](rate, momentum, nesterov, decay, excluded, options)
    return tfa.optimizers.Lookahead(_ready(MAKERS[inner](rate, momentum, nesterov, decay, excluded, {})), **options)


def averaged(decay: float, every: int, start: int) -> Callable:
    """Return a function that wraps an optimizer so that it averages the weights, as `averaging.WeightAverage` does.

    Args:
        decay: decay of the moving average.
        every: steps between updates.
        start: the step from which all updates count equally; 0 for the moving average.

    Raises:
        ValueError: `every` is not 1, for the moving average.
    """
    if not start and every != 1:
        raise InputError(f"ema_steps must be 1 with tensorflow-addons and average_weights=trained; got {every}.")

    def wrap(optimizer: Any, options: dict[str, Any]) -> Any:
        # tensorflow-addons counts steps from 0, this package from 1.
        if start:
            return tfa.optimizers.SWA(_ready(optimizer), start - 1, every, **options)
        return tfa.optimizers.MovingAverage(_ready(optimizer), decay, start_step=-1, dynamic_decay=True, **options)

    return wrap


def _ready(inner: Any) -> Any:
    """Prepare an optimizer to be wrapped: tell it which variables decay, which it otherwise learns in `minimize`."""
    if hasattr(inner, "_set_decay_var_list"):
        create = inner._create_slots

        def create_slots(var_list: list) -> None:
            inner._set_decay_var_list(var_list)
            create(var_list)

        inner._create_slots = create_slots
    return inner


def _by_class(
    name: str, rate: Rate, momentum: float, decay: float, excluded: Sequence[str], options: dict[str, Any]
) -> Any:
    """Make an optimizer by the name of its class in `tfa.optimizers`."""
    kind: Any = getattr(tfa.optimizers, name, None)
    if not (inspect.isclass(kind) and issubclass(kind, keras.optimizers.legacy.Optimizer)):
        raise InputError(f"optimizer must name a class of tfa.optimizers after 'tfa:'; got {name!r}.")
    known = inspect.signature(kind).parameters
    if any(argument.startswith("optimizer") for argument in known):
        raise InputError(f"optimizer must not be 'tfa:{name}', which wraps another optimizer.")
    given: dict[str, Any] = {argument: momentum for argument in ("momentum", "beta_1", "beta1") if argument in known}
    if "learning_rate" in known:
        given["learning_rate"] = rate
    if "weight_decay" in known:
        given["weight_decay"] = decay
        if excluded and "exclude_from_weight_decay" not in known:
            raise InputError(f"decay_norm must be True with tfa:{name}, which decays all variables; got False.")
        given |= {"exclude_from_weight_decay": list(excluded)} if excluded else {}
    elif decay:
        kind = decoupled(kind)  # type: ignore[arg-type]
        given |= {"decoupled": Decay(rate, decay), "excluded": excluded}
    return kind(**given, **options)


def slow_down(optimizer: Any, variables: Iterable[Any], multiplier: float) -> None:
    """Multiply the learning rate of some variables; decoupled weight decay keeps the whole rate.

    Args:
        optimizer: an optimizer of `make`, not yet used.
        variables: the variables that learn more slowly.
        multiplier: the multiplier of their rate.
    """
    slow = {variable.ref() for variable in variables}
    while hasattr(optimizer, "_optimizer"):  # the optimizer inside Lookahead or an average
        optimizer = optimizer._optimizer
    apply_dense, decayed_rate = optimizer._resource_apply_dense, optimizer._decayed_lr

    def apply(grad: Any, var: Any) -> Any:
        container = getattr(var, "_distributed_container", lambda: None)()
        if (var if container is None else container).ref() not in slow:
            return apply_dense(grad, var)
        optimizer._decayed_lr = lambda dtype: multiplier * decayed_rate(dtype)
        try:
            return apply_dense(grad, var)
        finally:
            optimizer._decayed_lr = decayed_rate

    # The classes of these optimizers differ too much for one subclass.
    optimizer._resource_apply_dense = apply
