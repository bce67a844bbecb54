"""Optimizers by name: SGD as the paper means it, and those of Keras."""

from __future__ import annotations

import keras

from keras_resnet import compat
from keras_resnet.errors import InputError
from keras_resnet.experiment.config import check_optimizer

NO_DECAY = ("gamma", "beta", "bias")
"""Names of the variables that `decay_norm=False` keeps from weight decay: those of batch norm and the biases."""


@keras.saving.register_keras_serializable(package="keras_resnet")
class SGD(keras.optimizers.SGD):
    """Stochastic gradient descent with momentum and coupled weight decay (section 3.4).

    For weight w, gradient g and rate r: `v = momentum * v - r * (g + l2 * w)`, then `w += v`. The `weight_decay` of
    `keras.optimizers.SGD` is decoupled: it does not pass through the momentum. On TensorFlow the rule is one operation
    a variable, which reads and writes each number once.

    Args:
        learning_rate: rate or schedule.
        momentum: momentum, in [0, 1).
        l2: coefficient of the coupled decay; `exclude_from_weight_decay` holds for it too.
        **kwargs: as for `keras.optimizers.SGD`.
    """

    def __init__(self, learning_rate=0.1, momentum=0.9, l2=0.0, name="SGD", **kwargs):
        super().__init__(learning_rate, momentum, name=name, **kwargs)
        self.l2 = l2

    def update_step(self, gradient, variable, learning_rate=None):
        if self.l2 and self._use_weight_decay(variable):
            gradient = gradient + self.l2 * compat.cast(variable, gradient.dtype)
        if learning_rate is None:  # Keras 2 asks for it inside
            return super().update_step(gradient, variable)
        if keras.backend.backend() != "tensorflow" or not self.momentum:
            return super().update_step(gradient, variable, learning_rate)
        import tensorflow as tf  # only reached on the TensorFlow backend

        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.momentums[self._get_variable_index(variable)].value.handle,
            lr=tf.cast(learning_rate, variable.dtype),
            grad=tf.cast(gradient, variable.dtype),
            momentum=tf.cast(self.momentum, variable.dtype),
            use_nesterov=self.nesterov,
        )

    def get_config(self):
        return {**super().get_config(), "l2": self.l2}


@keras.saving.register_keras_serializable(package="keras_resnet")
class EachStep(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule over steps, for an optimizer that accumulates gradients: Keras asks it with the number of batches.

    Args:
        schedule: of steps.
        accumulate: batches in a step.
    """

    def __init__(self, schedule, accumulate):
        self.schedule, self.accumulate = schedule, accumulate

    def __call__(self, step):
        return self.schedule(step // self.accumulate)

    def get_config(self):
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "accumulate": self.accumulate}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["accumulate"])


def over_replicas(optimizer: keras.optimizers.Optimizer) -> None:
    """Let an optimizer sum gradients over replicas before it looks at them; where there is one, nothing changes.

    Keras sums them last. Clipping would then see the norm of each replica's part, and loss scaling could find an
    overflow on one replica only, whose worker would go on without the others.

    Args:
        optimizer: any on the TensorFlow backend that does not accumulate, complete and not yet used, in the scope of
            its strategy.
    """
    import tensorflow as tf

    if tf.distribute.get_strategy().num_replicas_in_sync == 1 or not hasattr(optimizer, "apply"):
        return  # Keras 2 sums them first by itself
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    apply = optimizer.apply

    def apply_sum(grads, trainable_variables=None):
        known = [gradient for gradient in grads if gradient is not None]
        summed = iter(tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, known))
        apply([None if gradient is None else next(summed) for gradient in grads], trainable_variables)

    optimizer.apply = apply_sum
    inner._all_reduce_sum_gradients = lambda grads_and_vars: grads_and_vars


def _sgd(rate, momentum, nesterov, decay, **options):
    return SGD(rate, momentum, l2=decay, nesterov=nesterov, **options)


def _sgdw(rate, momentum, nesterov, decay, **options):
    return keras.optimizers.SGD(rate, momentum, nesterov, weight_decay=decay or None, **options)


def _adamw(rate, momentum, nesterov, decay, **options):
    return keras.optimizers.AdamW(rate, beta_1=momentum, weight_decay=decay, **options)


def _lamb(rate, momentum, nesterov, decay, **options):
    return keras.optimizers.Lamb(rate, beta_1=momentum, weight_decay=decay or None, **options)


OPTIMIZERS = {"sgd": _sgd, "sgdw": _sgdw, "adamw": _adamw, "lamb": _lamb}
"""Those of Keras, by the names of `config.OPTIMIZERS`."""


def make(
    name: str,
    learning_rate,
    *,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    decay_norm: bool = True,
    clip_norm: float = 0.0,
    accumulate: int = 1,
    average=None,
) -> keras.optimizers.Optimizer:
    """Make an optimizer by name; with Keras 2, all but "sgd" are those of tensorflow-addons, by the same rules.

    Args:
        name: "sgd" (the paper's, decay in the gradient), "sgdw" (decoupled decay; Loshchilov and Hutter, 2017),
            "adamw", or "lamb" (You et al., 2019); with tensorflow-addons also "novograd" (Ginsburg et al., 2019), any
            of these after "lookahead_" (Zhang et al., 2019), and "tfa:CLASS" for another class of it.
        learning_rate: rate or schedule.
        momentum: momentum, or the first beta of the others.
        nesterov: Nesterov's momentum, for SGD.
        weight_decay: coefficient of the decay.
        decay_norm: whether batch norm's variables and biases decay too, as in the original; False is common today.
        clip_norm: largest norm of all gradients together; 0 for no limit.
        accumulate: batches whose gradients are averaged for one step.
        average: `averaging.wrapper` of a run.

    Raises:
        ValueError: an unknown name, or one that needs what is not installed.
    """
    check_optimizer(name)
    excluded = () if decay_norm else NO_DECAY
    options = {"global_clipnorm": clip_norm or None}
    if accumulate > 1:
        if name not in OPTIMIZERS or not compat.RATE_IS_ARGUMENT:
            raise InputError(f"accumulate must be 1 with {name} of Keras {keras.__version__}; Keras 3's own have more.")
        options["gradient_accumulation_steps"] = accumulate
        learning_rate = EachStep(learning_rate, accumulate) if callable(learning_rate) else learning_rate
    if name not in OPTIMIZERS or average or (name != "sgd" and not compat.RATE_IS_ARGUMENT):
        compat.addons(f"optimizer={name}")
        from keras_resnet.training import addons  # only importable now

        return addons.make(name, learning_rate, momentum, nesterov, weight_decay, excluded, options, average)
    if not compat.RATE_IS_ARGUMENT:
        options["jit_compile"] = False  # Keras 2 would compile the update of each variable by itself
    optimizer = OPTIMIZERS[name](learning_rate, momentum, nesterov, weight_decay, **options)
    if excluded:
        optimizer.exclude_from_weight_decay(var_names=list(excluded))
    return optimizer
