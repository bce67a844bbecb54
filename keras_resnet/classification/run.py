"""The folder of a classifier's run, and what the configuration implies: transforms, the network, its weights."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import keras
import numpy as np

from keras_resnet import quantization
from keras_resnet.classification.config import ClassifierConfig
from keras_resnet.data import transforms
from keras_resnet.data.dataset import DatasetInfo
from keras_resnet.data.transforms import EvalTransform, TrainTransform
from keras_resnet.errors import InputError
from keras_resnet.experiment.run import Run
from keras_resnet.models import resnet, weights


class TrainedClassifier(Protocol):
    """A trained network with everything that evaluation and export need: a `ClassifierRun` or a `Pretrained`."""

    @property
    def config(self) -> ClassifierConfig:
        """The network, the data set and the transforms."""

    @property
    def dataset_info(self) -> DatasetInfo:
        """Classes, image size, mean and standard deviation of the training data."""

    @property
    def weights(self) -> pathlib.Path:
        """The weights file."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the network's input in pixels."""

    @property
    def mean(self) -> Any:
        """Mean of each channel f[3], or of each pixel f64[H,W,3], in [0, 255]."""

    @property
    def std(self) -> tuple[float, ...] | None:
        """Standard deviation of each channel."""

    def eval_transform(self, mean: Any = None, std: Any = None) -> EvalTransform:
        """Return the test transform of the data set's own images."""

    def photo_transform(self) -> EvalTransform:
        """Return the test transform of photos of any size."""

    def load(self, classifier_activation: str | None = "softmax") -> keras.Model:
        """Build the network and load its weights: f32[B,H,W,3] normalized -> f32[B,K]."""

    def load_float(self, classifier_activation: str | None = "softmax") -> keras.Model:
        """Build the network and load its weights before their rounding, if it was trained for int8; else as `load`."""


@dataclasses.dataclass(frozen=True)
class ClassifierRun(Run):
    """A classifier's run.

    Attributes:
        path: the folder; its files are those of `Run`.
        config: how the network is trained.
        dataset_info: the data set it is trained on.
    """

    TASK: ClassVar[str] = "classification"
    CONFIG: ClassVar[type[ClassifierConfig]] = ClassifierConfig

    config: ClassifierConfig

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the network's input in pixels."""
        side = self.config.image_size
        return (side, side) if side else self.dataset_info.image_size or (224, 224)

    @property
    def train_size(self) -> tuple[int, int]:
        """Height and width of the training crops in pixels."""
        side = self.config.train_size
        return (side, side) if side else self.image_size

    @property
    def pixel_mean(self) -> pathlib.Path:
        """File of the mean of each pixel, f64[H,W,3], for runs that subtract it."""
        return self.path / "pixel_mean.npy"

    @property
    def mean(self) -> Any:
        """The mean that is subtracted: of each channel, or of each pixel."""
        return np.load(self.pixel_mean) if self.config.pixel_mean else self.dataset_info.mean

    @property
    def std(self) -> tuple[float, ...] | None:
        """The standard deviation of each channel, by which the pixels are divided."""
        return self.dataset_info.std

    def eval_transform(self, mean: Any = None, std: Any = None) -> EvalTransform:
        """Return the test transform of the data set's own images; `mean` and `std` override the run's."""
        mean, std = (self.mean, self.std) if mean is None else (mean, std)
        resize = transforms.resize_of(self.image_size, self.config.resize, self.dataset_info.image_size)
        return EvalTransform(self.image_size, mean, std, resize, self.config.exif)

    def photo_transform(self) -> EvalTransform:
        """Return the test transform of photos of any size."""
        return transforms.for_photos(self.eval_transform())

    def train_transform(self) -> TrainTransform:
        """Return the training transform."""
        return TrainTransform.from_options(
            self.config,
            size=self.train_size,
            mean=self.mean,
            std=self.std,
            classes=len(self.dataset_info.class_names),
        )

    def build(
        self,
        classifier_activation: str | None = "softmax",
        image_size: tuple[int | None, int | None] | None = None,
    ) -> keras.Model:
        """Build the network with fresh weights, f32[B,H,W,3] normalized -> f32[B,K].

        Args:
            classifier_activation: None for logits.
            image_size: height and width of the input, None for any size; by default the run's.

        Raises:
            ValueError: the configuration requests an option that the network does not have.
        """
        config = self.config
        options: dict[str, Any] = {"shortcut": config.shortcut} if config.shortcut else {}
        if config.zero_init_residual:
            options["zero_init_residual"] = True
        if config.drop_path_rate:
            options["drop_path_rate"] = config.drop_path_rate
        if options and config.model.startswith("plainnet"):
            raise InputError(f"{' and '.join(options)} must be left out for a plain network.")
        if config.synchronized_norm:
            options["synchronized"] = True
        return resnet.constructor(config.model)(
            input_shape=(*(image_size or self.image_size), 3),
            classes=len(self.dataset_info.class_names),
            classifier_activation=classifier_activation,
            stride_in_1x1=config.stride_in_1x1,
            recompute=config.recompute,
            dtype=config.precision,
            **options,
        )

    def load(self, classifier_activation: str | None = "softmax") -> keras.Model:
        """Build the network and load the run's best weights; of a run with `quantize`, the integer network.

        Raises:
            ValueError: the run has no weights yet, or they do not fit.
        """
        if not self.config.quantize:
            return self.load_float(classifier_activation)
        return quantization.integer_network(self._prepared(classifier_activation))

    def load_float(
        self, classifier_activation: str | None = "softmax", image_size: tuple[int | None, int | None] | None = None
    ) -> keras.Model:
        """Build the network and load the run's best weights; of a run with `quantize`, those before their rounding.

        The arguments are those of `build`.

        Raises:
            ValueError: as for `load`.
        """
        model = self.build(classifier_activation, image_size)
        if self.config.quantize:
            quantization.restore(model, self._prepared(classifier_activation))
        else:
            weights.load(model, self.weights)
        return model

    def prepare(self, model: keras.Model) -> keras.Model:
        """Return the network that is trained for an int8 file, built from the float network."""
        return quantization.prepare(model, self.mean, self.std, weight_bits=self.config.weight_bits)

    def _prepared(self, classifier_activation: str | None) -> keras.Model:
        model = self.prepare(self.build(classifier_activation))
        weights.load(model, self.weights)
        return model


def unique_names(sources: Sequence[TrainedClassifier]) -> list[str]:
    """Name trained networks for tables and legends: the model, and if several share it, the folder or file too.

    Only as much of the path is given as distinguishes them.

    Raises:
        ValueError: a folder or file is given twice.
    """
    paths = [os.path.realpath(_path(source)) for source in sources]
    if twice := next((path for path in paths if paths.count(path) > 1), None):
        raise InputError(f"each network must be given once; {twice!r} is given {paths.count(twice)} times.")
    result: list[str] = []
    for source in sources:
        model, path = source.config.model, _path(source)
        others = [_path(other) for other in sources if other is not source and other.config.model == model]
        tails = (path.parts[-count:] for count in range(1, len(path.parts)))
        tail = next((tail for tail in tails if all(other.parts[-len(tail) :] != tail for other in others)), path.parts)
        result.append(f"{model} ({pathlib.Path(*tail)})" if others else model)
    return result


def _path(source: TrainedClassifier) -> pathlib.Path:
    return getattr(source, "path", source.weights).absolute()
