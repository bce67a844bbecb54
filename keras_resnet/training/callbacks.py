"""Callbacks that record and show a run; each also works in any other `model.fit`."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pathlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from keras_resnet import files
from keras_resnet.compat import current_rate
from keras_resnet.experiment import curves
from keras_resnet.models import weights
from keras_resnet.models.weights.info import ModelInfo

if TYPE_CHECKING:
    from keras_resnet.training.adaptive import EarlyStopping
    from keras_resnet.training.averaging import WeightAverage

Logs = dict[str, Any] | None
"""The numbers that Keras passes to callbacks, by name."""


def current_step(optimizer: keras.optimizers.Optimizer) -> int:
    """Return the number of steps taken, also if the count is a variable of several replicas."""
    return int(optimizer.iterations.numpy())


def shortest(value: float) -> float:
    """Return a number of float32 with the fewest digits: 0.1 instead of 0.10000000149011612."""
    return float(str(np.float32(value)))


class LossWithoutPadding(keras.callbacks.Callback):
    """Correct the test loss for padding images of weight 0, before other callbacks read it.

    Keras divides the weighted sum of the losses by the number of images, including those of weight 0; its weighted
    metrics are exact.

    Args:
        padded: number of images with padding, divided by that without.
    """

    def __init__(self, padded: float):
        super().__init__()
        self.padded = padded

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if logs and "val_loss" in logs:
            logs["val_loss"] *= self.padded


class MetricsLog(keras.callbacks.Callback):
    """Append a line of JSON for each evaluation: step, losses, errors in percent, learning rate.

    Args:
        path: the `.jsonl` file; records of steps that a resumed run repeats are dropped.
    """

    def __init__(self, path: str | os.PathLike):
        super().__init__()
        self.path = pathlib.Path(path)

    def on_train_begin(self, logs: Logs = None) -> None:
        self._drop_after(current_step(self.model.optimizer))

    def _drop_after(self, step: int) -> None:
        """Keep only the complete records of steps up to this one."""
        if not self.path.exists():
            return
        kept = [record for record in curves.read_metrics(self.path) if record["step"] <= step]
        text = "".join(json.dumps(record) + "\n" for record in kept)
        if text != self.path.read_text(encoding="utf-8"):
            files.write(self.path, text)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        record: dict[str, Any] = {"step": current_step(self.model.optimizer)}
        self._drop_after(record["step"] - 1)
        # JSON has no NaN: a loss that is not finite is null.
        record |= {
            name: round(float(value), 6) if math.isfinite(value) else None for name, value in (logs or {}).items()
        }
        record["learning_rate"] = shortest(current_rate(self.model.optimizer))
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


class Curves(keras.callbacks.Callback):
    """Plot training and test error over steps, as in the paper's figures, from the file of a `MetricsLog`.

    Args:
        metrics: the `.jsonl` file.
        path: the image file, redrawn at each evaluation.
        lines: name in the records -> label of its line.
        label: label of the vertical axis.
        stopping: an `EarlyStopping`; the title says if it has ended the run.
    """

    def __init__(
        self,
        metrics: str | os.PathLike,
        path: str | os.PathLike,
        lines: Mapping[str, str] = curves.ERRORS,
        label: str = "top-1 error (%)",
        stopping: EarlyStopping | None = None,
    ):
        super().__init__()
        self.metrics = pathlib.Path(metrics)
        self.path = pathlib.Path(path)
        self.lines = lines
        self.label = label
        self.stopping = stopping

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        records = {self.model.name: curves.read_metrics(self.metrics)}
        title = self.model.name + (", stopped early" if self.stopping and self.stopping.is_over else "")
        curves.plot(records, self.path, title, lines=self.lines, label=self.label)


class BestWeights(keras.callbacks.Callback):
    """Save the weights with the lowest test error; of equal errors, the latest.

    Args:
        path: a `.weights.h5` file, replaced atomically.
        best: the variable with the lowest error so far, such as that of `Checkpoints`.
        average: a `WeightAverage` whose weights are saved instead of the model's.
        info: preprocessing, crop and classes to store in the file.
        monitor: name of the error in the logs.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        best: Any,
        average: WeightAverage | None = None,
        info: ModelInfo | None = None,
        monitor: str = "val_top1_error",
    ):
        super().__init__()
        self.path = path
        self.best = best
        self.average = average
        self.info = info
        self.monitor = monitor

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        error = (logs or {})[self.monitor]
        if error <= float(self.best.numpy()):
            with self.average.applied() if self.average else contextlib.nullcontext():
                weights.save(self.model, self.path, self.info)
            self.best.assign(error)


class TensorBoardLog(keras.callbacks.Callback):
    """Write the numbers of each evaluation as TensorBoard events over steps, in `train` and `validation`.

    `keras.callbacks.TensorBoard` counts epochs from 0 in each call of `fit`, so a resumed run would start again at 0.

    Args:
        folder: the folder for TensorBoard's `--logdir`.
    """

    def __init__(self, folder: str | os.PathLike):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.writers: dict[str, Any] = {}

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
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
    """Show a bar with loss, error, learning rate, images/s and time left on a terminal, and print each evaluation.

    Args:
        steps: steps of the whole run.
        batch_size: images in a batch.
        error: name of the error in the logs; in percent if it ends in "error".
        text: format of the error in the texts, such as "mAP {:.2f} %", by default with its name.
        split: the split of the evaluations.
    """

    def __init__(self, steps: int, batch_size: int, error: str = "top1_error", text: str = "", split: str = "test"):
        super().__init__()
        self.split = split
        self.steps = steps
        self.batch_size = batch_size
        self.formats = {"loss": "loss {:.4f}"}
        if error != "loss":
            self.formats[error] = text or ("error {:.2f} %" if error.endswith("error") else f"{error} {{:.4f}}")

    def on_train_begin(self, logs: Logs = None) -> None:
        step = current_step(self.model.optimizer)
        self.bar = tqdm(total=self.steps, initial=step, unit="step", disable=None, dynamic_ncols=True)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.start = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self.batches = batch + 1
        self.seconds = time.perf_counter() - self.start
        if not self.bar.disable:
            rate = current_rate(self.model.optimizer)
            self.bar.set_postfix_str(f"{self._numbers(logs)}, rate {rate:g}, {self._speed()}", refresh=False)
            self.bar.update(current_step(self.model.optimizer) - self.bar.n)

    def _speed(self) -> str:
        return f"{self.batches * self.batch_size / self.seconds:.3g} images/s"

    def _numbers(self, logs: Logs, prefix: str = "") -> str:
        """Return the loss and the error in the logs as text."""
        logs = logs or {}
        texts = [text.format(logs[prefix + name]) for name, text in self.formats.items() if prefix + name in logs]
        return ", ".join(texts)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        step = current_step(self.model.optimizer)
        parts = {"training": self._numbers(logs), self.split: self._numbers(logs, "val_")}
        results = "; ".join(f"{name} {numbers}" for name, numbers in parts.items() if numbers)
        self.bar.write(f"step {step}/{self.steps}: {results}; {self._speed()}")

    def on_train_end(self, logs: Logs = None) -> None:
        self.bar.close()
