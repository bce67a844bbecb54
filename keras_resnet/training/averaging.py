"""A moving average of the weights, which is evaluated and kept in the place of the weights themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from keras_resnet import compat
from keras_resnet.experiment.config import BaseConfig
from keras_resnet.training.callbacks import current_step


class WeightAverage(keras.callbacks.Callback):
    """Average the weights over the steps of a run (Polyak and Juditsky, 1992), batch norm's statistics included.

    The average of `keras.optimizers.Optimizer(use_ema=True)` leaves the statistics out, and averaged weights with the
    statistics of others give wrong answers; this is the average of torchvision and timm. After n updates the decay is
    at most (1 + n) / (10 + n), as in `tf.train.ExponentialMovingAverage`, so that random weights are soon forgotten.
    While the model is evaluated it holds the average.

    Args:
        model: a built model.
        decay: share of the old average, in [0, 1).
        every: steps between updates.
        accumulate: batches in a step.
        start: the step from which on, every so many steps, the weights count alike, in the place of the decay (Izmailov
            et al., "Averaging Weights Leads to Wider Optima", 2018); 0 for the moving average.
        trained: average the trained weights only.

    Attributes:
        averages: the average of each weight, or, while the model holds the average, the weight itself.
        variables: what a checkpoint must keep of it.
    """

    def __init__(
        self,
        model: keras.Model,
        decay: float,
        every: int = 1,
        accumulate: int = 1,
        *,
        start: int = 0,
        trained: bool = False,
    ):
        super().__init__()
        self.decay, self.every, self.accumulate, self.start = decay, every, accumulate, start
        averaged = model.trainable_variables if trained else model.variables
        self.weights = [variable for variable in averaged if "float" in str(variable.dtype)]
        self.averages = [
            compat.Variable(variable, trainable=False, dtype=variable.dtype, name=f"average_{number}")
            for number, variable in enumerate(self.weights)
        ]
        self.variables = self.averages

        @tf.function
        def update(share):
            for average, variable in zip(self.averages, self.weights, strict=True):
                average.assign(average + share * (variable - average))

        @tf.function
        def swap():
            for average, variable in zip(self.averages, self.weights, strict=True):
                old = tf.identity(variable)
                variable.assign(average)
                average.assign(old)

        self.update, self.swap = update, swap

    def on_train_batch_end(self, batch, logs=None):
        if (batch + 1) % self.accumulate == 0:
            share = self._share(current_step(self.model.optimizer))
            if share:
                self.update(tf.constant(share, tf.float32))

    def _share(self, step: int) -> float:
        """The share of the weights of a step in the average; 0 where they do not count."""
        if step < self.start:
            return 1.0
        updates, rest = divmod(step - self.start, self.every)
        if rest:
            return 0.0
        return 1 / (1 + updates) if self.start else 1 - min(self.decay, (1 + updates) / (10 + updates))

    def take_from(self, optimizer) -> None:
        """Show the average that an optimizer of tensorflow-addons keeps; it is not made before `start`, but zero."""
        compat.built_variables(optimizer, self.weights)
        self.averages[:] = [optimizer.get_slot(variable, "average") for variable in self.weights]
        self.variables = []  # checkpoints have them with the optimizer
        own = self.update
        self.update = lambda share: own(share) if share == 1 else None

    def on_test_begin(self, logs=None):
        self.swap()

    def on_test_end(self, logs=None):
        self.swap()

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The model with the average as its weights, for as long as the context lasts."""
        self.swap()
        try:
            yield
        finally:
            self.swap()


def wrapper(config: BaseConfig):
    """What makes an optimizer average the trained weights itself, of tensorflow-addons; None where nothing does.

    Raises:
        ValueError: the configuration has what it cannot do.
    """
    if config.average_weights != "trained" or not (config.ema or config.swa_start) or not compat.has_addons():
        return None
    from keras_resnet.training import addons  # only importable where it is installed

    return addons.averaged(config.ema, config.ema_steps, config.swa_start)


def of(model: keras.Model, config: BaseConfig) -> WeightAverage:
    """The average that a run asks for, of a compiled model."""
    average = WeightAverage(
        model,
        config.ema,
        config.ema_steps,
        config.accumulate,
        start=config.swa_start,
        trained=config.average_weights == "trained",
    )
    if wrapper(config):
        average.take_from(model.optimizer)
    return average
