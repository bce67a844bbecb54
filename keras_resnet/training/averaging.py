"""Averages of the weights over steps, which are evaluated and saved instead of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_resnet import compat
from keras_resnet.training.callbacks import current_step


class WeightAverage(keras.callbacks.Callback):
    """Average the weights over the steps of a run (Polyak and Juditsky, 1992), including batch norm's statistics.

    `keras.optimizers.Optimizer(use_ema=True)` leaves the statistics out, but averaged weights require the averaged
    statistics; this average is that of torchvision and timm. After n updates the decay is at most (1 + n) / (10 + n),
    as in `tf.train.ExponentialMovingAverage`, so that the initial weights are soon forgotten. The model holds the
    average during evaluations.

    Args:
        model: a built model.
        decay: share of the old average, in [0, 1).
        every: steps between updates.
        accumulate: micro-batches in a step.
        start: the step from which all updates count equally, instead of `decay` (Izmailov et al., "Averaging Weights
            Leads to Wider Optima and Better Generalization", 2018); 0 for the moving average.
        trained: whether to average the trainable weights only.

    Attributes:
        averages: the average of each weight; during evaluations, the weight itself.
        variables: the variables that checkpoints must contain.
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
        def update(share: tf.Tensor) -> None:
            for average, variable in zip(self.averages, self.weights, strict=True):
                average.assign(average + share * (variable - average))

        @tf.function
        def swap() -> None:
            for average, variable in zip(self.averages, self.weights, strict=True):
                old = tf.identity(variable)
                variable.assign(average)
                average.assign(old)

        self.update: Callable[[tf.Tensor], Any] = update
        self.swap = swap

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if (batch + 1) % self.accumulate == 0:
            share = self._share(current_step(self.model.optimizer))
            if share:
                self.update(tf.constant(share, tf.float32))

    def _share(self, step: int) -> float:
        """Return the share of a step's weights in the new average; 0 if the step is not counted."""
        if step < self.start:
            return 1.0
        updates, rest = divmod(step - self.start, self.every)
        if rest:
            return 0.0
        return 1 / (1 + updates) if self.start else 1 - min(self.decay, (1 + updates) / (10 + updates))

    def take_from(self, optimizer: Any) -> None:
        """Use the average that an optimizer of tensorflow-addons keeps; before `start` it is zero."""
        compat.built_variables(optimizer, self.weights)
        self.averages[:] = [optimizer.get_slot(variable, "average") for variable in self.weights]
        self.variables = []  # checkpoints contain them with the optimizer
        copy = self.update
        self.update = lambda share: copy(share) if share == 1 else None

    def on_test_begin(self, logs: dict | None = None) -> None:
        self.swap()

    def on_test_end(self, logs: dict | None = None) -> None:
        self.swap()

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Let the model hold the average while the context lasts."""
        self.swap()
        try:
            yield
        finally:
            self.swap()


def in_optimizer(decay: float, every: int = 1, start: int = 0) -> Callable | None:
    """Return a function that lets an optimizer average the weights it trains; None without tensorflow-addons.

    Args:
        decay: see `WeightAverage`, like the others.
        every: steps between updates.
        start: the step from which all updates count equally.

    Raises:
        ValueError: the optimizers of tensorflow-addons do not support these values.
    """
    if not compat.has_addons():
        return None
    from keras_resnet.training import addons  # optional: requires tensorflow-addons

    return addons.averaged(decay, every, start)
