"""A trained network from a weights file or a name, with what a run's folder has: preprocessing, crop and classes."""

from __future__ import annotations

import dataclasses
import os
import pathlib

import keras

from keras_resnet.classification.config import ClassifierConfig
from keras_resnet.classification.run import ClassifierRun
from keras_resnet.data.dataset import DatasetInfo
from keras_resnet.data.transforms import EvalTransform
from keras_resnet.errors import InputError
from keras_resnet.models import weights
from keras_resnet.models.predictions import imagenet_classes
from keras_resnet.models.weights import convert, published
from keras_resnet.models.weights.published import ModelInfo, model_info

DATASETS = {
    tuple(name for _, name in imagenet_classes()): "imagenet2012",
    published.CIFAR10_CLASSES: "cifar10",
}
"""Names of classes -> the data set that they are of."""


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Weights that nobody trained here; it has the members of a `ClassifierRun` that evaluation and export use.

    Its networks take RGB, whatever order the weights were trained with: the first convolution's kernels are turned, so
    that mean and standard deviation are all that images need.

    Attributes:
        weights: the file.
        info: what travels with it.
        model: name of the network, for a file that does not say all of it.
        stride_in_1x1: where bottlenecks have their stride, for a file of which it is known better than it says.
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
            weights: name of published weights, downloaded where they are not yet there, or the path of a file.
            model: name of the network, needed with a name, and for a file that does not say all of its network.
            mode: preprocessing, a key of `normalization.MODES`, for a file that does not say it.
            stride_in_1x1: where bottlenecks have their stride, for a file of which it is known better than it says.

        Raises:
            ValueError: there are no such weights, they cannot be used, or do not say their preprocessing.
        """
        if published.is_name(weights):
            if model is None:
                networks = [info.model for info in published.PUBLISHED if info.weights == weights]
                raise InputError(f"model must be given with weights {weights!r}: one of {', '.join(networks)}.")
            info = model_info(model, str(weights))
            return cls(published.fetch(info), info)
        info = convert.info(weights, model, mode=mode, stride_in_1x1=stride_in_1x1)
        return cls(pathlib.Path(weights), info, model, stride_in_1x1)

    @property
    def config(self) -> ClassifierConfig:
        """The network, its data set and the views, as a run's configuration has them."""
        info = self.info
        dataset = DATASETS.get(info.class_names, ClassifierConfig().dataset)
        return ClassifierConfig(dataset=dataset, model=info.model, image_size=info.image_size, resize=info.resize)

    @property
    def dataset_info(self) -> DatasetInfo:
        """The classes, and the mean and standard deviation of what the weights were trained on."""
        info = self.info
        size = None if info.resize else self.image_size
        return DatasetInfo(info.weights or self.weights.name, info.class_names, size, {}, self.mean, self.std)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the network's input in pixels."""
        return (self.info.image_size, self.info.image_size)

    @property
    def mean(self) -> tuple[float, float, float]:
        """What is subtracted from each RGB channel, in [0, 255]."""
        return self.info.normalization.mean

    @property
    def std(self) -> tuple[float, float, float]:
        """What each RGB channel is divided by."""
        return self.info.normalization.std

    def eval_transform(self, mean=None, std=None) -> EvalTransform:
        """The view that the weights were tested with; another mean and std may be given."""
        mean, std = (self.mean, self.std) if mean is None else (mean, std)
        return EvalTransform(self.image_size, mean, std, self.info.resize, self.info.exif)

    def photo_transform(self) -> EvalTransform:
        """The view of a photo of any size, also for weights whose images all had the network's size."""
        return dataclasses.replace(self.eval_transform(), resize=self.info.resize or self.info.image_size)

    def load(self, classifier_activation: str | None = "softmax") -> keras.Model:
        """Build the network and load the weights: f32[B,H,W,3], RGB, normalised -> f32[B,K].

        Raises:
            ValueError: they cannot be used.
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
    """What travels with a run's weights when they leave its folder.

    Raises:
        ValueError: the run's weights cannot leave its folder; see `can_leave`.
    """
    if not can_leave(run):
        raise InputError(
            "workdir must be of a run without pixel_mean and of square images; other programs cannot show images so."
        )
    return ModelInfo(
        run.config.model,
        "",
        run.image_size[0],
        run.eval_transform().resize,
        run.dataset_info.class_names,
        mean=run.mean,
        std=run.std,
        exif=run.config.exif,
    )


def can_leave(run: ClassifierRun) -> bool:
    """Whether a `ModelInfo` can say how a run shows images: they must be square, and without a mean of each pixel."""
    return not run.config.pixel_mean and run.image_size[0] == run.image_size[1]
