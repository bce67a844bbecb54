"""Trained networks from a weights file or the name of published weights, with preprocessing, crop and classes."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any, cast

import keras

from keras_resnet.classification.config import ClassifierConfig
from keras_resnet.classification.run import ClassifierRun
from keras_resnet.data import transforms
from keras_resnet.data.dataset import DatasetInfo
from keras_resnet.data.transforms import EvalTransform
from keras_resnet.errors import InputError
from keras_resnet.models import weights
from keras_resnet.models.predictions import imagenet_classes
from keras_resnet.models.weights import convert, published
from keras_resnet.models.weights.info import ModelInfo

DATASETS = {
    tuple(name for _, name in imagenet_classes()): "imagenet2012",
    published.CIFAR10_CLASSES: "cifar10",
}
"""Class names -> the data set that has them."""


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Weights from elsewhere; a `TrainedClassifier`, which evaluation and export treat like a run.

    Its networks take RGB even if the weights were trained on BGR: the input channels of the first convolution are
    reversed, so that images only need the mean and standard deviation.

    Attributes:
        weights: the file.
        info: preprocessing, image size and classes, which come with the file.
        model: name of the network, for a file that does not define it completely.
        stride_in_1x1: where bottlenecks have their stride; overrides what the file implies.
    """

    weights: pathlib.Path
    info: ModelInfo
    model: str | None = None
    stride_in_1x1: bool | None = None

    @classmethod
    def open(
        cls,
        weights: str | os.PathLike,
        model: str | None = None,
        *,
        mode: str | None = None,
        stride_in_1x1: bool | None = None,
    ) -> Pretrained:
        """Find weights by name or path.

        Args:
            weights: name of published weights, which are downloaded unless they are cached, or the path of a file.
            model: name of the network; required with a name, and for a file that does not define it completely.
            mode: preprocessing, a key of `normalization.MODES`, for a file that does not define it.
            stride_in_1x1: where bottlenecks have their stride; overrides what the file implies.

        Raises:
            ValueError: there are no such weights, they cannot be used, or their preprocessing is unknown.
        """
        if named := published.find(weights, model):
            return cls(published.fetch(named), named)
        info = convert.info(weights, model, mode=mode, stride_in_1x1=stride_in_1x1)
        return cls(pathlib.Path(weights), info, model, stride_in_1x1)

    @property
    def config(self) -> ClassifierConfig:
        """The network, its data set and the transforms, as in the configuration of a run."""
        info = self.info
        dataset = info.dataset or DATASETS.get(info.class_names, ClassifierConfig().dataset)
        return ClassifierConfig(dataset=dataset, model=info.model, image_size=info.image_size, resize=info.resize)

    @property
    def dataset_info(self) -> DatasetInfo:
        """Classes, image size, mean and standard deviation of the training data."""
        info = self.info
        size = None if info.resize else self.image_size
        return DatasetInfo(info.weights or self.weights.name, info.class_names, size, {}, self.mean, self.std)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the network's input in pixels."""
        return (self.info.image_size, self.info.image_size)

    @property
    def mean(self) -> tuple[float, float, float]:
        """Mean of each RGB channel, in [0, 255]."""
        return self.info.normalization.mean

    @property
    def std(self) -> tuple[float, float, float]:
        """Standard deviation of each RGB channel."""
        return self.info.normalization.std

    def eval_transform(self, mean: Any = None, std: Any = None) -> EvalTransform:
        """Return the test transform of the weights; `mean` and `std` override theirs."""
        mean, std = (self.mean, self.std) if mean is None else (mean, std)
        return EvalTransform(self.image_size, mean, std, self.info.resize, self.info.exif)

    def photo_transform(self) -> EvalTransform:
        """Return the test transform of photos of any size."""
        return transforms.for_photos(self.eval_transform())

    def load_float(self, classifier_activation: str | None = "softmax") -> keras.Model:
        """Do as `load`."""
        return self.load(classifier_activation)

    def load(self, classifier_activation: str | None = "softmax") -> keras.Model:
        """Build the network and load the weights: f32[B,H,W,3], RGB, normalized -> f32[B,K].

        Raises:
            ValueError: the weights cannot be used.
        """
        model = convert.network(
            self.weights,
            self.model,
            stride_in_1x1=self.stride_in_1x1,
            classifier_activation=classifier_activation,
            input_shape=(*self.image_size, 3),
        )
        if self.info.normalization.bgr:
            weights.reverse_input_channels(model)
        return model


def run_info(run: ClassifierRun) -> ModelInfo:
    """Return what other tools need to use a run's weights: network, preprocessing, image size and classes.

    Raises:
        ValueError: the weights are not portable; see `is_portable`.
    """
    if not is_portable(run):
        raise InputError(
            "workdir must be of a run without pixel_mean and with square images; other tools do not support per-pixel "
            "means or non-square inputs."
        )
    return ModelInfo(
        run.config.model,
        "",
        run.image_size[0],
        run.eval_transform().resize,
        run.dataset_info.class_names,
        mean=run.mean,
        std=cast("tuple[float, float, float] | None", run.std),
        exif=run.config.exif,
    )


def is_portable(run: ClassifierRun) -> bool:
    """Return whether a `ModelInfo` can describe a run's preprocessing: square images without a mean of each pixel."""
    return not run.config.pixel_mean and run.image_size[0] == run.image_size[1]
