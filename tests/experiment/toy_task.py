"""A whole task in one file: regression of the mean brightness of images."""

import dataclasses
import pathlib
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.data.dataset import DatasetInfo
from keras_resnet.experiment import tasks
from keras_resnet.experiment.config import BaseConfig, option
from keras_resnet.experiment.run import Run
from keras_resnet.experiment.tasks import Invocation, Task, Verb
from keras_resnet.models import weights
from keras_resnet.training import loop


@dataclasses.dataclass(frozen=True)
class BrightnessConfig(BaseConfig):
    units: int = option(1, "Units of the layer.", "network", minimum=1)


@dataclasses.dataclass(frozen=True)
class BrightnessRun(Run):
    TASK: ClassVar[str] = "brightness"
    CONFIG: ClassVar[type[BrightnessConfig]] = BrightnessConfig

    def build(self):
        return keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(self.config.units)])


def batches(seed, size, start_step=0, context=None):
    def batch(step):
        images = tf.random.stateless_uniform([size, 4, 4, 3], tf.stack([seed, tf.cast(step, tf.int32)]))
        return images, tf.reduce_mean(images, [1, 2, 3])[:, None]

    return tf.data.Dataset.range(start_step, tf.int64.max).map(batch)


def train(config, workdir, strategy):
    info = DatasetInfo("noise", ("brightness",), (4, 4), {"train": 64})
    with loop.scope(strategy, config, workdir):
        run = loop.open_run(BrightnessRun(pathlib.Path(workdir), config, info), strategy)
        model = run.build()
        loop.compile_model(model, config, loss="mse")
        loop.fit(model, run, lambda **part: batches(0, config.batch_size, **part), tests=batches(1, 64).take(1))
    return run


@dataclasses.dataclass(frozen=True)
class Evaluate(Verb):
    """Print the error on new images."""

    workdir: str | None = option(None, "Folder of the run.")

    def predict(self, images):
        run = BrightnessRun.open(tasks.required(self.workdir, "workdir"))
        model = run.build()
        weights.load(model, run.weights)
        return model.predict_on_batch(images).mean(-1)

    def run(self, invocation: Invocation) -> None:
        images, brightness = next(iter(batches(2, 100)))
        print(f"error {np.abs(self.predict(images) - brightness[:, 0]).mean():.3f}")


class Predict(Evaluate):
    """Print the brightness of .npy files."""

    FILES = "FILE..."

    def run(self, invocation: Invocation) -> None:
        for file in invocation.files:
            print(f"{file}: {self.predict(np.load(file)[None])[0]:.3f}")


PRESETS = {"noise_brightness": BrightnessConfig(steps=40, eval_steps=20, decay_steps=(), batch_size=16)}
TASK = Task("brightness", BrightnessConfig, PRESETS, f"{__name__}:train", {"evaluate": Evaluate, "predict": Predict})
