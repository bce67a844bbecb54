"""The folder of a run: what is in it, and the network that it describes."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Sequence
from typing import ClassVar

import keras
import numpy as np

from keras_resnet import files
from keras_resnet.config import Config, Values
from keras_resnet.data.examples import Facts
from keras_resnet.data.views import EvalView, TrainView
from keras_resnet.errors import InputError, check_choice
from keras_resnet.models import resnet, weights

MODELS = {name.lower(): getattr(resnet, name) for name in resnet.__all__ if name != "ResNet"}
"""Name in a config -> constructor."""


def names(sources: Sequence) -> list[str]:
    """Name trained networks for tables and legends: the model, and where several have it, the folder or file too.

    As much of the path is given as tells them apart.
    """
    found: list[str] = []
    for source in sources:
        model, path = source.config.model, _path(source)
        others = [_path(other) for other in sources if other is not source and other.config.model == model]
        tails = (path.parts[-count:] for count in range(1, len(path.parts)))
        own = next((tail for tail in tails if all(other.parts[-len(tail) :] != tail for other in others)), path.parts)
        found.append(f"{model} ({pathlib.Path(*own)})" if others else model)
    return found


def _path(source) -> pathlib.Path:
    return getattr(source, "path", source.weights).absolute()


@dataclasses.dataclass(frozen=True)
class Workdir:
    """Paths of a run's folder, its configuration and the facts of its data set.

    Attributes:
        path: the folder.
        config: how it was trained.
        facts: the data set it was trained on: classes, image size, mean.
    """

    CONFIG: ClassVar[type[Values]] = Config

    path: pathlib.Path
    config: Config
    facts: Facts

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the network's input in pixels."""
        side = self.config.image_size
        return (side, side) if side else self.facts.image_size or (224, 224)

    @property
    def train_size(self) -> tuple[int, int]:
        """Height and width of the training crops in pixels."""
        side = self.config.train_size
        return (side, side) if side else self.image_size

    @property
    def pixel_mean(self) -> pathlib.Path:
        """The mean of each pixel, f64[H,W,3], of a run that subtracts it."""
        return self.path / "pixel_mean.npy"

    @property
    def mean(self):
        """What is subtracted from the pixels: the mean of each channel, or of each pixel."""
        return np.load(self.pixel_mean) if self.config.pixel_mean else self.facts.mean

    @property
    def std(self) -> tuple[float, ...]:
        """What the pixels are divided by, for each channel."""
        return self.facts.std

    def eval_view(self, mean=None, std=None) -> EvalView:
        """The run's view for testing; a mean and std other than the run's own may be given."""
        size, known = self.image_size, self.facts.image_size
        if known == size or size[0] != size[1]:
            resize = 0
        else:  # images of one size are shown whole, as they are in training by most crops
            resize = self.config.resize or (0 if known else round(size[0] * 256 / 224))
        mean, std = (self.mean, self.std) if mean is None else (mean, std)
        return EvalView(size, mean, std, resize, self.config.exif)

    def photo_view(self) -> EvalView:
        """The view of a photo of any size, also for a data set whose own images all have the network's size.

        For a network whose input is not square, the centre of a photo that is large enough.
        """
        view = self.eval_view()
        square = view.size[0] == view.size[1]
        return view if view.resize or not square else dataclasses.replace(view, resize=view.size[0])

    def train_view(self) -> TrainView:
        """The run's view for training."""
        config = self.config
        return TrainView(
            self.train_size,
            self.mean,
            self.std,
            crop=config.crop,
            pad=config.pad,
            scales=config.scales,
            mirror=config.mirror,
            color=config.color,
            rand_augment=config.rand_augment,
            rand_augment_ops=config.rand_augment_ops,
            erase=config.erase,
            mixup=config.mixup,
            cutmix=config.cutmix,
            classes=len(self.facts.class_names),
            exif=config.exif,
            antialias=config.antialias,
        )

    @property
    def weights(self) -> pathlib.Path:
        """The weights with the lowest error so far."""
        return self.path / "best.weights.h5"

    @property
    def checkpoints(self) -> pathlib.Path:
        """Folder of the checkpoints that an interrupted run goes on from."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> pathlib.Path:
        """One JSON object a line for each evaluation."""
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> pathlib.Path:
        """Folder of TensorBoard's events."""
        return self.path / "tensorboard"

    @property
    def curves(self) -> pathlib.Path:
        """The learning curves as a picture."""
        return self.path / "curves.png"

    def create(self) -> None:
        """Make the folder and write `config.json`.

        Raises:
            ValueError: it cannot be written.
        """
        values = {"config": dataclasses.asdict(self.config), "dataset": dataclasses.asdict(self.facts)}
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            files.write(self.path / "config.json", json.dumps(values, indent=2) + "\n")
        except OSError as error:
            reason = error.strerror
            raise InputError(f"workdir must be a writable folder; {str(self.path)!r} is not: {reason}.") from error

    @classmethod
    def open(cls, path: str | os.PathLike) -> Workdir:
        """Read the folder of an earlier run.

        Raises:
            ValueError: it has no readable `config.json`.
        """
        path = pathlib.Path(path)
        config = cls.CONFIG.from_file(path / "config.json")
        values = json.loads((path / "config.json").read_text(encoding="utf-8"))
        try:
            return cls(path, config, Facts.from_dict(values["dataset"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"workdir must be the folder of a run; {str(path)!r} knows of no data set.") from error

    def build(
        self,
        classifier_activation: str | None = "softmax",
        image_size: tuple[int | None, int | None] | None = None,
    ) -> keras.Model:
        """Build the network of the run with fresh weights, f32[B,H,W,3] normalised -> f32[B,K].

        Args:
            classifier_activation: None for logits.
            image_size: height and width of the input, None where they are free; by default the run's.

        Raises:
            ValueError: the configuration asks for what the network does not have.
        """
        config = self.config
        check_choice("model", config.model, MODELS)
        options = {"shortcut": config.shortcut} if config.shortcut else {}
        if config.zero_init_residual:
            options["zero_init_residual"] = True
        if config.drop_path_rate:
            options["drop_path_rate"] = config.drop_path_rate
        if options and config.model.startswith("plainnet"):
            raise InputError(f"{' and '.join(options)} must be left out for a plain network.")
        if config.synchronized_norm:
            options["synchronized"] = True
        return MODELS[config.model](
            input_shape=(*(image_size or self.image_size), 3),
            classes=len(self.facts.class_names),
            classifier_activation=classifier_activation,
            stride_in_1x1=config.stride_in_1x1,
            recompute=config.recompute,
            dtype=config.precision,
            **options,
        )

    def load(self, classifier_activation: str | None = "softmax") -> keras.Model:
        """Build the network and load the run's best weights.

        Raises:
            ValueError: the run has no weights yet, or they do not fit.
        """
        model = self.build(classifier_activation)
        weights.load(model, self.weights)
        return model
