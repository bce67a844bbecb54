"""Callbacks that follow the errors of a run: they change the learning rate or end the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import keras
import numpy as np

from keras_resnet import compat
from keras_resnet.errors import counted
from keras_resnet.training.losses import Top1Error
from keras_resnet.training.schedules import Scaled

LARGEST = float(np.finfo(np.float32).max)
"""The error before the first evaluation."""


class Plateau(keras.callbacks.Callback):
    """Divide the learning rate when the test error plateaus (section 3.4).

    Unlike `keras.callbacks.ReduceLROnPlateau` it has variables for its state, which checkpoints keep.

    Args:
        rate: the optimizer's schedule.
        patience: evaluations without a lower error before the rate falls.
        factor: the multiplier of the rate.
        monitor: name of the error in the logs, in percent.
    """

    def __init__(self, rate: Scaled, patience: int = 5, factor: float = 0.1, monitor: str = "val_top1_error"):
        super().__init__()
        self.rate, self.patience, self.factor, self.monitor = rate, patience, factor, monitor
        self.lowest = compat.Variable(101.0, trainable=False, dtype="float32", name="lowest_error")
        self.waited = compat.Variable(0, trainable=False, dtype="int32", name="waited")
        self.variables = [rate.scale, self.lowest, self.waited]

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        error = (logs or {})[self.monitor]
        if error < float(self.lowest.numpy()):
            self.lowest.assign(error)
            self.waited.assign(0)
        elif int(self.waited.numpy()) + 1 < self.patience:
            self.waited.assign_add(1)
        else:
            self.rate.scale.assign(self.rate.scale * self.factor)
            self.waited.assign(0)


class EarlyStopping(keras.callbacks.Callback):
    """End a run that has not improved for some evaluations.

    Unlike `keras.callbacks.EarlyStopping` it has variables for its state, which checkpoints keep, and leaves the
    weights as they are: `BestWeights` has saved the best ones.

    Args:
        patience: evaluations in a row without a lower error before the run ends.
        monitor: name of the error in the logs.
    """

    def __init__(self, patience: int, monitor: str = "val_top1_error"):
        super().__init__()
        self.patience, self.monitor = patience, monitor
        # Checkpoints hold finite numbers only.
        self.lowest = compat.Variable(LARGEST, trainable=False, dtype="float32", name="lowest_error")
        self.waited = compat.Variable(0, trainable=False, dtype="int32", name="waited")
        self.variables = [self.lowest, self.waited]

    @property
    def is_over(self) -> bool:
        """Whether the run has ended, in this process or before it."""
        return int(self.waited.numpy()) >= self.patience

    def reason(self) -> str:
        """Say why the run ended."""
        lowest = float(self.lowest.numpy())
        best = "was never finite" if lowest == LARGEST else f"was not below {lowest:.4f}"
        return f"{self.monitor} {best} in {counted(self.patience, 'evaluation')}"

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        error = (logs or {})[self.monitor]
        if error < float(self.lowest.numpy()):
            self.lowest.assign(error)
            self.waited.assign(0)
        else:
            self.waited.assign_add(1)
        if self.is_over:
            self.model.stop_training = True


class WarmUp(keras.callbacks.Callback):
    """Keep a low rate until the training error falls below a bound (section 4.2: 0.01 until 80 %, for 110 layers).

    The error is a moving average over batches, so that a single batch does not end the warm-up.

    Args:
        rate: the optimizer's schedule, with the scale of the warm-up.
        error: the bound in percent.
        decay: share of the old value in the moving average.
    """

    def __init__(self, rate: Scaled, error: float = 80.0, decay: float = 0.9):
        super().__init__()
        self.rate, self.error, self.decay = rate, error, decay
        self.average = compat.Variable(100.0, trainable=False, dtype="float32", name="training_error")
        self.variables = [rate.scale, self.average]

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.seen = (0.0, 0.0)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if float(self.average.numpy()) < self.error:  # not the scale, which `Plateau` may have changed since
            return
        # The metric's sums instead of its mean, so that a resumed run computes exactly the same numbers.
        metric = next(metric for metric in _flat(self.model.metrics) if isinstance(metric, Top1Error))
        total, count = float(metric.total.numpy()), float(metric.count.numpy())
        error = (total - self.seen[0]) / (count - self.seen[1])
        self.seen = (total, count)
        self.average.assign(self.decay * self.average + (1 - self.decay) * error)
        if float(self.average.numpy()) < self.error:
            self.rate.scale.assign(1.0)


def _flat(metrics: Iterable[keras.metrics.Metric]) -> Iterator[keras.metrics.Metric]:
    """Yield the metrics of a compiled model, including those inside containers."""
    for metric in metrics:
        yield from _flat(getattr(metric, "metrics", None) or ())
        yield metric
