"""Learning rates that follow the run: each rule is a callback that sets the variable of a `Scaled` schedule."""

from __future__ import annotations

import keras

from keras_resnet import compat
from keras_resnet.training.losses import Top1Error
from keras_resnet.training.schedules import Scaled


class Plateau(keras.callbacks.Callback):
    """Divide the learning rate when the test error has stopped falling (section 3.4).

    `keras.callbacks.ReduceLROnPlateau` does the same, but forgets at a restart what it has seen; the variables of this
    one go into checkpoints.

    Args:
        rate: the optimizer's schedule.
        patience: evaluations without a lower error before the rate falls.
        factor: what the rate is multiplied by.
    """

    def __init__(self, rate: Scaled, patience: int = 5, factor: float = 0.1):
        super().__init__()
        self.rate, self.patience, self.factor = rate, patience, factor
        self.lowest = compat.Variable(101.0, trainable=False, dtype="float32", name="lowest_error")
        self.waited = compat.Variable(0, trainable=False, dtype="int32", name="waited")
        self.variables = [rate.scale, self.lowest, self.waited]

    def on_epoch_end(self, epoch, logs=None):
        error = logs["val_top1_error"]
        if error < float(self.lowest.numpy()):
            self.lowest.assign(error)
            self.waited.assign(0)
        elif int(self.waited.numpy()) + 1 < self.patience:
            self.waited.assign_add(1)
        else:
            self.rate.scale.assign(self.rate.scale * self.factor)
            self.waited.assign(0)


class WarmUp(keras.callbacks.Callback):
    """Hold a low rate until the training error falls below a bound (section 4.2: 0.01 until 80 %, for 110 layers).

    The error is a moving average over batches, so that no single batch ends the warm-up.

    Args:
        rate: the optimizer's schedule, scaled down at the start.
        error: the bound in percent.
        decay: share of the old value in the moving average.
    """

    def __init__(self, rate: Scaled, error: float = 80.0, decay: float = 0.9):
        super().__init__()
        self.rate, self.error, self.decay = rate, error, decay
        self.average = compat.Variable(100.0, trainable=False, dtype="float32", name="training_error")
        self.variables = [rate.scale, self.average]

    def on_epoch_begin(self, epoch, logs=None):
        self.seen = (0.0, 0.0)

    def on_train_batch_end(self, batch, logs=None):
        if float(self.average.numpy()) < self.error:  # and not by the scale, which `Plateau` may have changed since
            return
        # The sums of the metric, and not its mean, so that a resumed run sees the very same numbers.
        metric = next(metric for metric in _flat(self.model.metrics) if isinstance(metric, Top1Error))
        total, count = float(metric.total.numpy()), float(metric.count.numpy())
        error = (total - self.seen[0]) / (count - self.seen[1])
        self.seen = (total, count)
        self.average.assign(self.decay * self.average + (1 - self.decay) * error)
        if float(self.average.numpy()) < self.error:
            self.rate.scale.assign(1.0)


def _flat(metrics):
    """The metrics of a compiled model, those inside of its containers too."""
    for metric in metrics:
        yield from _flat(getattr(metric, "metrics", None) or ())
        yield metric
