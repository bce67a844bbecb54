"""Callbacks that record and show a run; each also works in a user's own `model.fit`."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pathlib
import time
from collections.abc import Mapping

import keras
import numpy as np
from tqdm import tqdm

from keras_resnet import files
from keras_resnet.compat import current_rate
from keras_resnet.experiment import curves
from keras_resnet.models import weights
from keras_resnet.models.weights.published import ModelInfo


def current_step(optimizer: keras.optimizers.Optimizer) -> int:
    """Steps taken so far, also where the count is a variable of several replicas."""
    return int(np.asarray(optimizer.iterations))


class LossWithoutPadding(keras.callbacks.Callback):
    """Correct the test loss where batches are filled up with images of weight 0, before other callbacks see it.

    Keras divides the weighted sum of the losses by the number of images, those of weight 0 among them; its weighted
    metrics are exact.

    Args:
        padded: images with padding for each image without.
    """

    def __init__(self, padded: float):
        super().__init__()
        self.padded = padded

    def on_epoch_end(self, epoch, logs=None):
        if "val_loss" in logs:
            logs["val_loss"] *= self.padded


class MetricsLog(keras.callbacks.Callback):
    """Append one JSON object a line for each evaluation: step, losses, errors in percent, learning rate.

    Args:
        path: the `.jsonl` file; records of steps that a resumed run takes again are dropped.
    """

    def __init__(self, path: str | os.PathLike):
        super().__init__()
        self.path = pathlib.Path(path)

    def on_train_begin(self, logs=None):
        self._drop_after(current_step(self.model.optimizer))

    def _drop_after(self, step: int) -> None:
        """Keep only the whole records of steps up to this one."""
        if not self.path.exists():
            return
        kept = [record for record in curves.read_metrics(self.path) if record["step"] <= step]
        text = "".join(json.dumps(record) + "\n" for record in kept)
        if text != self.path.read_text(encoding="utf-8"):
            files.write(self.path, text)

    def on_epoch_end(self, epoch, logs=None):
        record = {"step": current_step(self.model.optimizer)}
        self._drop_after(record["step"] - 1)
        # JSON has no NaN: a loss that is not finite is null.
        record |= {
            name: round(float(value), 6) if math.isfinite(value) else None for name, value in (logs or {}).items()
        }
        record["learning_rate"] = current_rate(self.model.optimizer)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


class Curves(keras.callbacks.Callback):
    """Draw training and test error over steps, as the paper's figures do, from a `MetricsLog` file.

    Args:
        metrics: the `.jsonl` file.
        path: the picture, redrawn at each evaluation.
        lines: name in the records -> label of its line.
        label: what the lines show.
    """

    def __init__(
        self,
        metrics: str | os.PathLike,
        path: str | os.PathLike,
        lines: Mapping[str, str] = curves.ERRORS,
        label: str = "top-1 error (%)",
    ):
        super().__init__()
        self.metrics = pathlib.Path(metrics)
        self.path = pathlib.Path(path)
        self.lines = lines
        self.label = label

    def on_epoch_end(self, epoch, logs=None):
        records = {self.model.name: curves.read_metrics(self.metrics)}
        curves.plot(records, self.path, self.model.name, lines=self.lines, label=self.label)


class BestWeights(keras.callbacks.Callback):
    """Keep the weights with the lowest test error, ties going to the later ones.

    Args:
        path: a `.weights.h5` file, replaced by rename.
        best: variable that holds the lowest error so far, such as that of `Checkpoints`.
        average: a `WeightAverage` whose weights are kept in the place of the model's own.
        info: the preprocessing, crop and classes to keep in the file.
        monitor: name of the error in the logs.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        best,
        average=None,
        info: ModelInfo | None = None,
        monitor: str = "val_top1_error",
    ):
        super().__init__()
        self.path = path
        self.best = best
        self.average = average
        self.info = info
        self.monitor = monitor

    def on_epoch_end(self, epoch, logs=None):
        if logs[self.monitor] <= float(self.best.numpy()):
            with self.average.applied() if self.average else contextlib.nullcontext():
                weights.save(self.model, self.path, self.info)
            self.best.assign(logs[self.monitor])


class TensorBoardLog(keras.callbacks.Callback):
    """Write each evaluation's numbers as TensorBoard events over steps, in `train` and `validation`.

    `keras.callbacks.TensorBoard` counts epochs from 0 in each call of `fit`, so that a resumed run starts anew.

    Args:
        folder: for TensorBoard's `--logdir`.
    """

    def __init__(self, folder: str | os.PathLike):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.writers = {}

    def on_epoch_end(self, epoch, logs=None):
        import tensorflow as tf

        step = current_step(self.model.optimizer)
        for name, value in {**(logs or {}), "learning_rate": current_rate(self.model.optimizer)}.items():
            part, name = ("validation", name[4:]) if name.startswith("val_") else ("train", name)
            if part not in self.writers:
                self.writers[part] = tf.summary.create_file_writer(str(self.folder / part))
            with self.writers[part].as_default():
                tf.summary.scalar(name, value, step=step)
        for writer in self.writers.values():
            writer.flush()


class Progress(keras.callbacks.Callback):
    """A bar with loss, error, learning rate, images/s and time left on a terminal; a line for each evaluation anywhere.

    Args:
        steps: steps of the whole run.
        batch_size: images in a batch.
        error: name of the error in the logs, in percent.
    """

    def __init__(self, steps: int, batch_size: int, error: str = "top1_error"):
        super().__init__()
        self.steps = steps
        self.batch_size = batch_size
        self.error = error
        self.bar = None

    def on_train_begin(self, logs=None):
        done = current_step(self.model.optimizer)
        self.bar = tqdm(total=self.steps, initial=done, unit="step", disable=None, dynamic_ncols=True)

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.batches = batch + 1
        self.seconds = time.perf_counter() - self.start
        if not self.bar.disable:
            rate = current_rate(self.model.optimizer)
            self.bar.set_postfix_str(f"{self._shown(logs)}, rate {rate:g}, {self._speed()}", refresh=False)
            self.bar.update(current_step(self.model.optimizer) - self.bar.n)

    def _speed(self) -> str:
        return f"{self.batches * self.batch_size / self.seconds:.3g} images/s"

    def _shown(self, logs, prefix: str = "") -> str:
        """What the logs have of loss and error."""
        names = {"loss": "loss {:.4f}", self.error: "error {:.2f} %"}
        return ", ".join(text.format(logs[prefix + name]) for name, text in names.items() if prefix + name in logs)

    def on_epoch_end(self, epoch, logs=None):
        step = current_step(self.model.optimizer)
        self.bar.write(
            f"step {step}/{self.steps}: training {self._shown(logs)}; test {self._shown(logs, 'val_')}; {self._speed()}"
        )

    def on_train_end(self, logs=None):
        self.bar.close()
