"""Fine-tuning: parts of a network that stay fixed or learn slowly."""

from __future__ import annotations

import dataclasses
import pathlib
import re

import keras

from keras_resnet import compat
from keras_resnet.errors import InputError
from keras_resnet.models import weights
from keras_resnet.models.weights import published
from keras_resnet.models.weights.published import ModelInfo

HEAD = "predictions"
"""Name of the classifier's layer in every network of this package."""


def find(start: str, model: str) -> tuple[pathlib.Path, ModelInfo | None]:
    """Find the weights to start from, and the preprocessing that they were trained with.

    Args:
        start: name of published weights, a weights file, or the folder of another run.
        model: name of the network.

    Returns:
        The file, and what travels with it; None where the file does not say it.

    Raises:
        ValueError: there are no such weights, or they cannot be read.
    """
    if published.is_name(start):
        info = published.model_info(model, start)
        return published.fetch(info), info
    path = pathlib.Path(start)
    path = path / "best.weights.h5" if path.is_dir() else path
    weights.check_file(path)
    try:
        with weights.opened(path) as stored:
            return path, stored and stored.info
    except InputError as error:
        raise InputError(f"init_weights {str(path)!r} cannot be used: {str(error).rstrip('.')}.") from error


def normalized_as(info: ModelInfo, dataset):
    """The data set with the mean and standard deviation of the images that the weights know.

    Args:
        info: what `find` found.
        dataset: a `Dataset` or `DetectionDataset`.
    """
    known = info.normalization
    return dataclasses.replace(dataset, info=dataclasses.replace(dataset.info, mean=known.mean, std=known.std))


def initialize(model: keras.Model, path: pathlib.Path, info: ModelInfo | None, new_head: bool = True) -> None:
    """Start from the weights of a file; where its network has other classes, the classifier stays new in any case.

    Args:
        model: a network of this package for RGB images, with fresh weights.
        path: the file, in any format that `models.weights` reads.
        info: what `find` found.
        new_head: whether the classifier keeps its fresh weights.

    Raises:
        ValueError: the file is damaged or of another network.
    """
    head = model.get_layer(HEAD)
    fresh = head.get_weights()
    weights.load(model, path, adapt=True, stride_in_1x1=info.stride_in_1x1 if info else None)
    if info and info.normalization.bgr:
        weights.reverse_input_channels(model)
    if new_head:
        head.set_weights(fresh)


def freeze(model: keras.Model, stages: int = 0, norm: bool = False) -> None:
    """Keep parts of a network fixed; fixed batch norm uses its moving statistics and leaves them as they are.

    To be called before `model.compile`, as Keras wants it.

    Args:
        model: a network of this package.
        stages: how many parts from the image on: 1 for conv1, 2 with conv2_x, ..., 5 for everything but the head.
        norm: whether all of batch norm is fixed, in the parts that learn too.
    """
    for layer in model.layers:
        part = re.match(r"conv(\d+)_", layer.name)
        fixed = bool(part) and int(part.group(1)) <= stages
        if fixed or (norm and isinstance(layer, keras.layers.BatchNormalization)):
            layer.trainable = False


def backbone(model: keras.Model) -> list:
    """The variables that learn of all layers but the classifier."""
    return [variable for variable in model.trainable_variables if HEAD not in compat.path(variable)]
