"""Optimizers by name: SGD with the paper's weight decay, and those of Keras and tensorflow-addons."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from keras_resnet import compat
from keras_resnet.errors import InputError
from keras_resnet.experiment.config import check_optimizer
from keras_resnet.training.schedules import Rate

NO_DECAY = ("gamma", "beta", "bias")
"""Names of the variables that `decay_norm=False` exempts from weight decay: those of batch norm and the biases."""


@keras.saving.register_keras_serializable(package="keras_resnet")
class SGD(keras.optimizers.SGD):
    """Stochastic gradient descent with momentum and coupled weight decay (section 3.4).

    For weight w, gradient g and rate r: `v = momentum * v - r * (g + l2 * w)`, then `w += v`. The `weight_decay` of
    `keras.optimizers.SGD` is decoupled: it does not pass through the momentum. On TensorFlow the update of a variable
    is one operation, which reads and writes each number once.

    Args:
        learning_rate: rate or schedule.
        momentum: momentum, in [0, 1).
        l2: coefficient of the coupled decay; `exclude_from_weight_decay` applies to it too.
        **kwargs: as for `keras.optimizers.SGD`.
    """

    def __init__(
        self, learning_rate: Rate = 0.1, momentum: float = 0.9, l2: float = 0.0, name: str = "SGD", **kwargs: Any
    ):
        super().__init__(learning_rate, momentum, name=name, **kwargs)
        self.l2 = l2

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any = None) -> None:
        if self.l2 and self._use_weight_decay(variable):
            gradient = gradient + self.l2 * compat.cast(variable, gradient.dtype)
        if learning_rate is None:  # Keras 2, which reads the rate itself
            super().update_step(gradient, variable)  # type: ignore[call-arg]
            return
        if keras.backend.backend() != "tensorflow" or not self.momentum:
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf  # optional: only on the TensorFlow backend

        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.momentums[self._get_variable_index(variable)].value.handle,
            lr=tf.cast(learning_rate, variable.dtype),
            grad=tf.cast(gradient, variable.dtype),
            momentum=tf.cast(self.momentum, variable.dtype),
            use_nesterov=self.nesterov,
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "l2": self.l2}


@keras.saving.register_keras_serializable(package="keras_resnet")
class EachStep(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule over steps for an optimizer that accumulates gradients, whose count is of micro-batches.

    Args:
        schedule: schedule over steps.
        accumulate: micro-batches in a step.
    """

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, accumulate: int):
        self.schedule, self.accumulate = schedule, accumulate

    def __call__(self, step: Any) -> Any:
        return self.schedule(step // self.accumulate)

    def get_config(self) -> dict[str, Any]:
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "accumulate": self.accumulate}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> EachStep:
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["accumulate"])


class _Selective:
    """Mixin of an optimizer that treats some variables differently; its configuration says which.

    Args:
        slow: paths of variables that learn at a multiple of the rate; decoupled decay keeps the whole rate.
        slow_multiplier: the multiple.
        no_decay: parts of the names of variables without weight decay.
    """

    def __init__(
        self,
        *args: Any,
        slow: Iterable[str] = (),
        slow_multiplier: float = 1.0,
        no_decay: Iterable[str] = (),
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        # Sets, because TensorFlow would track lists and tuples.
        self._slow_paths, self._no_decay = frozenset(slow), frozenset(no_decay)
        self._slow: frozenset = frozenset()
        self._multiplier = slow_multiplier
        if self._no_decay:
            self.exclude_from_weight_decay(var_names=sorted(self._no_decay))  # type: ignore[attr-defined]

    def build(self, variables: Iterable[Any]) -> None:
        variables = list(variables)
        super().build(variables)  # type: ignore[misc]
        # TensorFlow passes its own variables to `update_step`; the key is the same for them and those of Keras.
        slow = [variable for variable in variables if compat.path(variable) in self._slow_paths]
        self._slow = frozenset(map(self._var_key, slow))  # type: ignore[attr-defined]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any = None) -> None:
        is_slow = self._var_key(variable) in self._slow  # type: ignore[attr-defined]
        if learning_rate is not None:
            rate = learning_rate * self._multiplier if is_slow else learning_rate
            super().update_step(gradient, variable, rate)  # type: ignore[misc]
            return
        # Keras 2 reads the rate inside; its rules all take a step that is proportional to the rate.
        before = variable.read_value()
        super().update_step(gradient, variable)  # type: ignore[misc]
        if is_slow:
            variable.assign(before + self._multiplier * (variable - before))

    def get_config(self) -> dict[str, Any]:
        own = {
            "slow": sorted(self._slow_paths),
            "slow_multiplier": self._multiplier,
            "no_decay": sorted(self._no_decay),
        }
        return {**super().get_config(), **own}  # type: ignore[misc]


@keras.saving.register_keras_serializable(package="keras_resnet")
class SelectiveSGD(_Selective, SGD):
    """`SGD` of this package with exceptions for some variables."""


@keras.saving.register_keras_serializable(package="keras_resnet")
class SelectiveSGDW(_Selective, keras.optimizers.SGD):
    """Keras' SGD with decoupled decay, and exceptions for some variables."""


@keras.saving.register_keras_serializable(package="keras_resnet")
class SelectiveAdamW(_Selective, keras.optimizers.AdamW):
    """Keras' AdamW with exceptions for some variables."""


SELECTIVE: dict[type, type] = {
    SGD: SelectiveSGD,
    keras.optimizers.SGD: SelectiveSGDW,
    keras.optimizers.AdamW: SelectiveAdamW,
}
"""Class of an optimizer -> the one that treats some variables differently."""

if hasattr(keras.optimizers, "Lamb"):  # Keras 3

    @keras.saving.register_keras_serializable(package="keras_resnet")
    class SelectiveLamb(_Selective, keras.optimizers.Lamb):
        """Keras' LAMB with exceptions for some variables."""

    SELECTIVE[keras.optimizers.Lamb] = SelectiveLamb


class _SummedOutside:
    """Mixin of an optimizer whose gradients are summed over replicas before `apply`, and not at its end."""

    def _all_reduce_sum_gradients(self, grads_and_vars: list) -> list:
        return grads_and_vars


class _SumFirst:
    """Mixin of an optimizer: `apply` sums the gradients over replicas first.

    Keras sums them last. Loss scaling could find an overflow on one replica only, whose worker would skip a step that
    the others take.
    """

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        present = iter(_summed([gradient for gradient in grads if gradient is not None]))
        grads = [None if gradient is None else next(present) for gradient in grads]
        super().apply(grads, trainable_variables)  # type: ignore[misc]


class _SumBeforeClipping:
    """Mixin of an optimizer that sums the gradients over replicas before it clips them, instead of last.

    Clipping would otherwise see the norm of each replica's part.
    """

    def _clip_gradients(self, grads: Sequence[Any]) -> list:
        return super()._clip_gradients(_summed(grads))  # type: ignore[misc]


class _AccumulateOnReplicas:
    """Mixin of an optimizer of several replicas that accumulates gradients on each of them, and then takes a step.

    The replicas communicate once per step, not per micro-batch. Keras takes the step in a branch inside each replica,
    where `tf.distribute` does not let replicas communicate; here the branches are outside of the replicas.
    """

    def _backend_apply_gradients(self, grads: Sequence[Any], trainable_variables: Sequence[Any]) -> None:
        import tensorflow as tf  # optional: only on the TensorFlow backend

        optimizer: Any = self
        steps = optimizer.gradient_accumulation_steps
        sums = [optimizer._accumulated_gradients[optimizer._get_variable_index(each)] for each in trainable_variables]

        def add(grads: Sequence[Any]) -> None:
            for number, total in enumerate(sums):
                total.assign_add(grads[number])

        def step(grads: Sequence[Any]) -> None:
            means = optimizer._clip_gradients([(total + grads[number]) / steps for number, total in enumerate(sums)])
            optimizer._apply_weight_decay(trainable_variables)
            optimizer._backend_update_step(means, trainable_variables, optimizer.learning_rate)
            for total in sums:
                total.assign(tf.zeros_like(total))

        def is_last() -> Any:
            return (optimizer._iterations + 1) % steps == 0

        def choose(strategy: Any, grads: Sequence[Any]) -> None:
            on_each = strategy.extended.call_for_each_replica
            tf.cond(is_last(), lambda: on_each(step, args=(grads,)), lambda: on_each(add, args=(grads,)))

        if tf.__internal__.distribute.strategy_supports_no_merge_call():  # XLA on GPUs, which knows no other way
            tf.cond(is_last(), lambda: step(grads), lambda: add(grads))
        else:
            tf.distribute.get_replica_context().merge_call(choose, args=(grads,))


def _summed(grads: Sequence[Any]) -> list:
    """Return the sums of gradients over replicas."""
    import tensorflow as tf  # optional: only on the TensorFlow backend

    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, list(grads))


@functools.cache
def _extended(kind: type, *mixins: type) -> type:
    """Return a subclass of an optimizer's class, under its name, with mixins in front.

    Files of models name the optimizer's class, not the subclass: mixins depend on the strategy and on variables.
    """
    if not mixins:
        return kind
    extended = type(kind.__name__, (*mixins, kind), {"__module__": kind.__module__})
    package, _, name = keras.saving.get_registered_name(kind).rpartition(">")
    if package:
        for each in (extended, kind):  # the last one is that of the registered name
            keras.saving.register_keras_serializable(package, name)(each)
    return extended


def _replicas() -> int:
    """Return the number of replicas of the current strategy; 1 on other backends, and on Keras 2, which sums first."""
    if keras.backend.backend() != "tensorflow" or not compat.RATE_IS_ARGUMENT:
        return 1
    import tensorflow as tf  # optional: only on the TensorFlow backend

    return tf.distribute.get_strategy().num_replicas_in_sync


def _sgd(kind: Callable, rate: Rate, momentum: float, nesterov: bool, decay: float, options: dict) -> Any:
    return kind(SGD)(rate, momentum, l2=decay, nesterov=nesterov, **options)


def _sgdw(kind: Callable, rate: Rate, momentum: float, nesterov: bool, decay: float, options: dict) -> Any:
    return kind(keras.optimizers.SGD)(rate, momentum, nesterov, weight_decay=decay or None, **options)


def _adamw(kind: Callable, rate: Rate, momentum: float, nesterov: bool, decay: float, options: dict) -> Any:
    return kind(keras.optimizers.AdamW)(rate, beta_1=momentum, weight_decay=decay, **options)


def _lamb(kind: Callable, rate: Rate, momentum: float, nesterov: bool, decay: float, options: dict) -> Any:
    return kind(keras.optimizers.Lamb)(rate, beta_1=momentum, weight_decay=decay or None, **options)


OPTIMIZERS: dict[str, Callable] = {"sgd": _sgd, "sgdw": _sgdw, "adamw": _adamw, "lamb": _lamb}
"""Optimizers of Keras by the names of `experiment.config.OPTIMIZERS`."""

TITLES = {"sgd": "SGD", "sgdw": "SGDW", "adamw": "AdamW", "lamb": "LAMB", "novograd": "NovoGrad"}
"""Name of an optimizer -> its spelling in its paper, for logs."""


def title(name: str) -> str:
    """Return an optimizer's name for logs: "SGD" for sgd, "Lookahead SGD" for lookahead_sgd, "Yogi" for tfa:Yogi."""
    inner = name.removeprefix("lookahead_")
    lookahead = "Lookahead " if inner != name else ""
    return lookahead + TITLES.get(inner, inner.removeprefix("tfa:"))


def make(
    name: str,
    learning_rate: Rate,
    *,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    decay_norm: bool = True,
    clip_norm: float = 0.0,
    accumulate: int = 1,
    slow: Iterable[Any] = (),
    slow_multiplier: float = 1.0,
    loss_scale: bool = False,
    average: Callable | None = None,
) -> keras.optimizers.Optimizer:
    """Make an optimizer by name; with Keras 2, all except "sgd" are those of tensorflow-addons, with the same rules.

    In the scope of a strategy with several replicas it sums gradients over replicas before it clips or checks them.

    Args:
        name: "sgd" (the paper's, decay in the gradient), "sgdw" (decoupled decay; Loshchilov and Hutter, 2017),
            "adamw", or "lamb" (You et al., 2019); with tensorflow-addons also "novograd" (Ginsburg et al., 2019),
            "lookahead_" with any of these (Zhang et al., 2019), and "tfa:CLASS" for another of its classes.
        learning_rate: rate or schedule.
        momentum: momentum of SGD; first beta of the others.
        nesterov: Nesterov momentum, for SGD.
        weight_decay: coefficient of the decay.
        decay_norm: whether batch norm variables and biases decay too, as in the paper; False is common today.
        clip_norm: largest global norm of the gradients; 0 for no limit.
        accumulate: micro-batches whose gradients are averaged for one step.
        slow: variables that learn at `slow_multiplier` times the rate.
        slow_multiplier: see `slow`.
        loss_scale: whether to scale the loss dynamically, for float16.
        average: returned by `averaging.in_optimizer`.

    Raises:
        ValueError: the name is unknown, or requires a package that is not installed.
    """
    check_optimizer(name)
    excluded = () if decay_norm else NO_DECAY
    options: dict[str, Any] = {"global_clipnorm": clip_norm or None}
    if accumulate > 1:
        if name not in OPTIMIZERS or not compat.RATE_IS_ARGUMENT:
            raise InputError(
                f"accumulate must be 1 with {name} of Keras {keras.__version__}; larger values require an optimizer of "
                "Keras 3."
            )
        options["gradient_accumulation_steps"] = accumulate
        if callable(learning_rate):
            learning_rate = EachStep(learning_rate, accumulate)
    slow = list(slow)
    if name not in OPTIMIZERS or average or (name != "sgd" and not compat.RATE_IS_ARGUMENT):
        compat.addons(f"optimizer={name}")
        from keras_resnet.training import addons  # optional: requires tensorflow-addons

        optimizer = addons.make(name, learning_rate, momentum, nesterov, weight_decay, excluded, options, average)
        if slow:
            addons.slow_down(optimizer, slow, slow_multiplier)
        return compat.LossScale(optimizer) if loss_scale else optimizer
    if not compat.RATE_IS_ARGUMENT:
        options["jit_compile"] = False  # Keras 2 would compile the update of each variable separately
    mixins: list[type] = []
    outer: list[type] = []
    if _replicas() > 1:
        outer = [_SumFirst]
        mixins += [_SummedOutside] if loss_scale else [_SumBeforeClipping, _SummedOutside]
        mixins += [_AccumulateOnReplicas] if accumulate > 1 else []
    selective = bool(slow or excluded)
    if selective:
        paths = [compat.path(variable) for variable in slow]
        options |= {"slow": paths, "slow_multiplier": slow_multiplier, "no_decay": excluded}
    optimizer = OPTIMIZERS[name](
        lambda kind: _extended(SELECTIVE[kind] if selective else kind, *mixins),
        learning_rate,
        momentum,
        nesterov,
        weight_decay,
        options,
    )
    return _extended(compat.LossScale, *outer)(optimizer) if loss_scale else optimizer
