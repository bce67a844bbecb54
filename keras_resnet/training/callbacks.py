"""Callbacks that record a run; each also works in a user's own `model.fit`."""

from __future__ import annotations

import json
import os
import pathlib

import keras

from keras_resnet.models import weights


class MetricsLog(keras.callbacks.Callback):
    """Append one JSON object a line for each epoch: step, losses, top-1 errors in percent, learning rate.

    Args:
        path: the `.jsonl` file; an older one is replaced.
    """

    def __init__(self, path: str | os.PathLike):
        super().__init__()
        self.path = pathlib.Path(path)

    def on_train_begin(self, logs=None):
        self.path.write_text("", encoding="utf-8")

    def on_epoch_end(self, epoch, logs=None):
        record = {"step": int(self.model.optimizer.iterations)}
        for name, value in (logs or {}).items():
            if name.endswith("accuracy"):
                name, value = name.replace("accuracy", "top1_error"), 100 * (1 - value)
            record[name] = round(float(value), 6)
        record["learning_rate"] = float(self.model.optimizer.learning_rate)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


class Curves(keras.callbacks.Callback):
    """Draw training and test error over steps, as the paper's figures do, from a `MetricsLog` file.

    Args:
        metrics: the `.jsonl` file.
        path: the picture, redrawn at each epoch.
    """

    def __init__(self, metrics: str | os.PathLike, path: str | os.PathLike):
        super().__init__()
        self.metrics = pathlib.Path(metrics)
        self.path = pathlib.Path(path)

    def on_epoch_end(self, epoch, logs=None):
        from matplotlib.figure import Figure

        records = [json.loads(line) for line in self.metrics.read_text(encoding="utf-8").splitlines()]
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        steps = [record["step"] for record in records]
        axes.plot(steps, [record["top1_error"] for record in records], "--", label="training")
        axes.plot(steps, [record["val_top1_error"] for record in records], "-", label="test")
        axes.set(xlabel="step", ylabel="top-1 error (%)", ylim=(0, None), title=self.model.name)
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(self.path, dpi=120)


class BestWeights(keras.callbacks.Callback):
    """Keep the weights with the lowest test error, ties going to the later ones.

    Args:
        path: a `.weights.h5` file, replaced by rename.
    """

    def __init__(self, path: str | os.PathLike):
        super().__init__()
        self.path = path
        self.best = 0.0

    def on_epoch_end(self, epoch, logs=None):
        if logs["val_accuracy"] >= self.best:
            self.best = logs["val_accuracy"]
            weights.save(self.model, self.path)
