"""A moving average of the weights, which is evaluated and kept in the place of the weights themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

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
    """

    def __init__(self, model: keras.Model, decay: float, every: int = 1, accumulate: int = 1):
        super().__init__()
        self.decay, self.every, self.accumulate = decay, every, accumulate
        self.weights = [variable for variable in model.variables if "float" in str(variable.dtype)]
        self.variables = [
            keras.Variable(variable, trainable=False, dtype=variable.dtype, name=f"average_{number}")
            for number, variable in enumerate(self.weights)
        ]

        @tf.function
        def update(share):
            for average, variable in zip(self.variables, self.weights, strict=True):
                average.assign(average + share * (variable - average))

        @tf.function
        def swap():
            for average, variable in zip(self.variables, self.weights, strict=True):
                old = tf.identity(variable.value)
                variable.assign(average)
                average.assign(old)

        self.update, self.swap = update, swap

    def on_train_batch_end(self, batch, logs=None):
        updates, rest = divmod(current_step(self.model.optimizer), self.every)
        if rest == 0 and (batch + 1) % self.accumulate == 0:
            self.update(tf.constant(1 - min(self.decay, (1 + updates) / (10 + updates)), tf.float32))

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
