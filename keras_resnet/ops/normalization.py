"""Normalisation of pixels: the conventions of published weights, on arrays or tensors of any backend."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_resnet import compat
from keras_resnet.errors import check_choice

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


class Normalization(NamedTuple):
    """What weights expect of pixels: `(x - mean) / std` of RGB values in [0, 255], perhaps in the order BGR.

    Attributes:
        mean: mean of the red, green and blue channel, in [0, 255].
        std: standard deviation of each, likewise.
        bgr: whether the network takes the channels as blue, green, red.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bgr: bool = False


MODES = {
    "caffe": Normalization(CAFFE_MEAN_BGR[::-1], (1.0, 1.0, 1.0), bgr=True),
    "torch": Normalization(tuple(255 * m for m in IMAGENET_MEAN), tuple(255 * s for s in IMAGENET_STD)),
    "tf": Normalization((127.5,) * 3, (127.5,) * 3),
}
"""Name -> convention, as `keras.applications` names them: the authors' weights, torchvision's, TensorFlow's."""


def preprocess_input(x, mode: str | Normalization = "caffe"):
    """Normalise RGB images as the weights of a convention expect, the conventions of `keras.applications`.

    Args:
        x: array or tensor [...,3], RGB, values in [0, 255]; never changed in place.
        mode: "caffe" (the authors' weights): BGR minus the ImageNet mean; "torch" (torchvision): scaled to [0, 1],
            then minus ImageNet's mean and divided by its standard deviation; "tf": scaled to [-1, 1]; or a
            `Normalization`, such as `model_info(...).normalization`.

    Returns:
        f32[...,3], an array for an array and a tensor for a tensor.

    Raises:
        ValueError: unknown mode.
    """
    if not isinstance(mode, Normalization):
        check_choice("mode", mode, tuple(MODES))
        mode = MODES[mode]
    if hasattr(x, "__array_interface__") or isinstance(x, (list, tuple)):
        x = np.asarray(x, "float32")
    else:
        x = compat.cast(x, "float32")
    x = (x - np.float32(mode.mean)) / np.float32(mode.std)
    return x[..., ::-1] if mode.bgr else x
