"""Fine-tuning: start from trained weights, freeze parts of a network, or let them learn slowly."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from typing import Any, TypeVar

import keras

from keras_resnet import compat
from keras_resnet.errors import InputError
from keras_resnet.models import weights
from keras_resnet.models.weights import published
from keras_resnet.models.weights.info import ModelInfo

HEAD = "predictions"
"""Name of the last layer of every network in `models`."""

DatasetT = TypeVar("DatasetT")


def find(source: str, model: str, argument: str = "init_weights") -> tuple[pathlib.Path, ModelInfo | None]:
    """Find the weights to start from and the preprocessing that they were trained with.

    Args:
        source: name of weights, a weights file, or the folder of another run.
        model: name of the network.
        argument: name of the argument that `source` comes from, for error messages.

    Returns:
        The file and what it says about the weights; None if it says nothing.

    Raises:
        ValueError: there are no such weights, or they cannot be read.
    """
    if os.path.isdir(source) and not published.is_name(source):
        source = os.path.join(source, "best.weights.h5")
    if named := published.find(source, model, argument):
        return published.fetch(named), named
    path = pathlib.Path(source)
    try:
        with weights.opened(path) as stored:
            return path, stored.info if stored else None
    except InputError as error:
        raise InputError(f"{argument} {str(path)!r} cannot be used: {str(error).rstrip('.')}.") from error


def normalized_as(info: ModelInfo, dataset: DatasetT) -> DatasetT:
    """Return a data set with the mean and standard deviation that weights were trained with.

    Args:
        info: from `find`.
        dataset: a dataclass with a field `info`, a `data.dataset.DatasetInfo`.
    """
    known = info.normalization
    old: Any = dataset
    return dataclasses.replace(old, info=dataclasses.replace(old.info, mean=known.mean, std=known.std))


def initialize(model: keras.Model, path: pathlib.Path, info: ModelInfo | None, new_head: bool = True) -> None:
    """Load the weights of a file; the head keeps its fresh weights if it has other classes or `new_head` is set.

    Args:
        model: a network of `models` for RGB images, with fresh weights.
        path: the file, in any format that `models.weights` reads.
        info: from `find`.
        new_head: whether the head keeps its fresh weights.

    Raises:
        ValueError: the file is damaged or belongs to another network.
    """
    head = model.get_layer(HEAD)
    fresh = head.get_weights()
    weights.load(model, path, adapt=True, stride_in_1x1=info.stride_in_1x1 if info else None)
    if info and info.normalization.bgr:
        weights.reverse_input_channels(model)
    if new_head:
        head.set_weights(fresh)


def freeze(model: keras.Model, stages: int = 0, norm: bool = False) -> None:
    """Freeze parts of a network; frozen batch norm uses its moving statistics and does not update them.

    Call it before `model.compile`, as Keras requires.

    Args:
        model: a network of `models`, or a part of one.
        stages: number of frozen stages from the input on: 1 for conv1, 2 for conv1 and conv2_x, ..., 5 for all but the
            head.
        norm: whether to freeze all batch norm layers, including those of trained stages.
    """
    for layer in model.layers:
        stage = re.match(r"conv(\d+)_", layer.name)
        is_frozen = stage is not None and int(stage.group(1)) <= stages
        if is_frozen or (norm and isinstance(layer, keras.layers.BatchNormalization)):
            layer.trainable = False


def backbone_variables(model: keras.Model) -> list[Any]:
    """Return the trainable variables of all layers but the head."""
    return [variable for variable in model.trainable_variables if HEAD not in compat.path(variable)]
