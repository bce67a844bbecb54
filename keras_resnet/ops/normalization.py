"""Normalization of pixels in the conventions of published weights, for arrays and tensors of any backend."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from keras_resnet import compat
from keras_resnet.errors import check_choice

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


class Normalization(NamedTuple):
    """The input that weights expect: `(x - mean) / std` of RGB values in [0, 255], possibly in BGR order.

    Attributes:
        mean: mean of the red, green and blue channel, in [0, 255].
        std: standard deviation of each channel, in [0, 255].
        bgr: whether the network takes the channels as blue, green, red.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bgr: bool = False


def _scaled(values: tuple[float, float, float]) -> tuple[float, float, float]:
    """Return values of the scale [0, 1] on the scale [0, 255]."""
    red, green, blue = values
    return 255 * red, 255 * green, 255 * blue


MODES = {
    "caffe": Normalization(CAFFE_MEAN_BGR[::-1], (1.0, 1.0, 1.0), bgr=True),
    "torch": Normalization(_scaled(IMAGENET_MEAN), _scaled(IMAGENET_STD)),
    "tf": Normalization((127.5,) * 3, (127.5,) * 3),
}
"""Conventions by their names in `keras.applications`: the authors' weights, torchvision's and TensorFlow's."""


def preprocess_input(x: Any, mode: str | Normalization = "caffe") -> Any:
    """Normalize RGB images as weights expect them, in one of the conventions of `keras.applications`.

    Args:
        x: array or tensor [...,3], RGB, values in [0, 255]; not changed in place.
        mode: "caffe" (the authors' weights): BGR minus the ImageNet mean; "torch" (torchvision): scaled to [0, 1],
            then minus ImageNet's mean and divided by its standard deviation; "tf": scaled to [-1, 1]; or a
            `Normalization`, such as `model_info(...).normalization`.

    Returns:
        f32[...,3], an array for an array and a tensor for a tensor.

    Raises:
        ValueError: the mode is unknown.
    """
    if not isinstance(mode, Normalization):
        check_choice("mode", mode, tuple(MODES))
        mode = MODES[mode]
    if hasattr(x, "__array_interface__") or isinstance(x, (list, tuple)):
        x = (np.asarray(x, "float32") - np.asarray(mode.mean, "float32")) / np.asarray(mode.std, "float32")
        return x[..., ::-1] if mode.bgr else x
    x = compat.cast(x, "float32")
    mean, std = (compat.convert_to_tensor(values, "float32") for values in (mode.mean, mode.std))
    x = (x - mean) / std
    return compat.flip(x, -1) if mode.bgr else x
