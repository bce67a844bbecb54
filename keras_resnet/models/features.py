"""The feature pyramid of a network: the outputs of its stages, for detection and segmentation.

    pyramid = keras_resnet.features(keras_resnet.ResNet50(include_top=False), ("C3", "C4", "C5"))
    pyramid(images)["C4"]       # f32[B,H/16,W/16,1024]
    pyramid.feature_info        # name, index, layer, stride and channels of each level

Level C1 is the stem before its pooling, C2 the output of conv2_x, and so on up to C5, or C4 for the CIFAR networks.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import keras

from keras_resnet.errors import InputError, check_choice
from keras_resnet.models.submodels import submodel

STEM = "conv1_relu"
BLOCK = re.compile(r"conv(\d+)_block(\d+)_out")


@dataclasses.dataclass(frozen=True)
class FeatureInfo:
    """A level of a feature pyramid.

    Attributes:
        name: "C1" to "C5", as in "Feature Pyramid Networks for Object Detection" (Lin et al., 2017).
        index: its place among the levels of the network, as in timm's `out_indices`: 0 for C1.
        layer: name of the layer whose output it is.
        stride: stride of its feature map with respect to the image.
        channels: number of channels.
    """

    name: str
    index: int
    layer: str
    stride: int
    channels: int


def feature_info(model: keras.Model) -> tuple[FeatureInfo, ...]:
    """Return the levels of a network, from C1 on.

    Args:
        model: a residual or plain network of this package, with or without its top, or a part of one such as a feature
            pyramid.

    Raises:
        ValueError: the model is not a network of this package.
    """
    layers = {layer.name: layer for layer in model.layers}
    ends = {0: STEM} if STEM in layers else {}
    last: dict[int, int] = {}
    for match in filter(None, map(BLOCK.fullmatch, layers)):
        stage, block = int(match[1]), int(match[2])
        if block > last.get(stage, 0):
            last[stage], ends[stage - 1] = block, match[0]
    if 0 not in ends:
        raise InputError(f"model must be a network of this package; {model.name!r} has no layer {STEM!r}.")
    levels, stride = [], 1
    for index, end in sorted(ends.items()):
        stride *= _stride(layers, index)
        levels.append(FeatureInfo(f"C{index + 1}", index, end, stride, layers[end].output.shape[-1]))
    return tuple(levels)


def _stride(layers: dict[str, keras.layers.Layer], index: int) -> int:
    """Return the stride of the convolutions and the pooling between a level and the one before it."""
    if index == 0:
        return layers["conv1_conv"].strides[0]
    first = f"conv{index + 1}_block1"
    stride = layers[f"{first}_1_conv"].strides[0] * layers[f"{first}_2_conv"].strides[0]
    return stride * (layers["pool1_pool"].strides[0] if index == 1 and "pool1_pool" in layers else 1)


def features(model: keras.Model, levels: Sequence[str] | None = None) -> keras.Model:
    """Return the feature pyramid of a network: a model with the outputs of its stages, which shares its layers.

    Args:
        model: a residual or plain network of this package, with or without its top.
        levels: names of the levels, "C1" to "C5"; by default all from C2 on.

    Returns:
        A functional model, f32[B,H,W,C] -> {"C2": f32[B,H/4,W/4,256], ...}, without the layers after the last level.
        Its attribute `feature_info` holds the `FeatureInfo` of each level in the order of `levels`; the strides take
        `output_stride` into account, and sides are rounded up.

    Raises:
        ValueError: a level is unknown or occurs twice, or the model is not a network of this package.
    """
    known = {info.name: info for info in feature_info(model)}
    chosen = [name for name in known if name != "C1"] if levels is None else levels
    if isinstance(chosen, str) or not chosen or len(set(chosen)) != len(chosen):
        raise InputError(f"levels must be different names such as ('C3', 'C4', 'C5'); got {levels!r}.")
    for name in chosen:
        check_choice("levels", name, known)
    outputs = {name: model.get_layer(known[name].layer).output for name in chosen}
    pyramid = submodel(model, outputs, name=f"{model.name}_features")
    pyramid.feature_info = tuple(known[name] for name in chosen)
    return pyramid


def of_indices(model: keras.Model, out_indices: Sequence[int] | None) -> keras.Model:
    """Return the feature pyramid of a network by timm's `out_indices`; by default all levels from C1 on.

    Args:
        model: a network of this package without its top.
        out_indices: places of the levels from 0 for C1 on; negative ones count from the end.

    Raises:
        ValueError: an index is out of range or occurs twice.
    """
    names = [info.name for info in feature_info(model)]
    count = len(names)
    indices: Any = range(count) if out_indices is None else out_indices
    valid = isinstance(indices, (list, tuple, range)) and all(type(index) is int for index in indices)
    valid = valid and all(-count <= index < count for index in indices)
    if not valid or not 0 < len({index % count for index in indices}) == len(indices):
        raise InputError(
            f"out_indices must be different integers from 0 to {count - 1}, or negative from the end; "
            f"got {out_indices!r}."
        )
    return features(model, [names[index] for index in indices])
