"""Normalization of pixels in the conventions of published weights, for arrays and tensors of any backend."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from keras_resnet import compat
from keras_resnet.errors import InputError, check_choice

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


DATA_FORMATS = ("channels_last", "channels_first")


def preprocess_input(x: Any, data_format: str | None = None, mode: str | Normalization = "caffe") -> Any:
    """Normalize RGB images as weights expect them, in one of the conventions of `keras.applications`.

    Args:
        x: array or tensor [...,3] or [...,3,H,W], RGB, values in [0, 255]; not changed in place.
        data_format: "channels_last" or "channels_first"; by default that of Keras' configuration.
        mode: "caffe" (the authors' weights): BGR minus the ImageNet mean; "torch" (torchvision): scaled to [0, 1],
            then minus ImageNet's mean and divided by its standard deviation; "tf": scaled to [-1, 1]; or a
            `Normalization`, such as `model_info(...).normalization`.

    Returns:
        f32, the shape of `x`; an array for an array and a tensor for a tensor.

    Raises:
        ValueError: the mode or the data format is unknown, or the images do not have 3 channels.
    """
    if isinstance(data_format, Normalization) or data_format in MODES:
        raise InputError(f"data_format must be None or one of {DATA_FORMATS}; pass mode={data_format!r} by name.")
    data_format = compat.image_data_format() if data_format is None else data_format
    check_choice("data_format", data_format, DATA_FORMATS)
    if not isinstance(mode, Normalization):
        check_choice("mode", mode, tuple(MODES))
        mode = MODES[mode]
    is_array = hasattr(x, "__array_interface__") or isinstance(x, (list, tuple))
    x = np.asarray(x, "float32") if is_array else compat.cast(x, "float32")
    axis = -1 if data_format == "channels_last" else -3
    if len(x.shape) < -axis or x.shape[axis] not in (3, None):
        raise InputError(f"x must be RGB images with 3 channels, {data_format}; got shape {list(x.shape)}.")
    shape = (3,) if axis == -1 else (3, 1, 1)
    statistics: tuple[Any, ...] = tuple(np.reshape(v, shape).astype("float32") for v in (mode.mean, mode.std))
    if not is_array:
        statistics = tuple(compat.convert_to_tensor(values, "float32") for values in statistics)
    x = (x - statistics[0]) / statistics[1]
    if not mode.bgr:
        return x
    return np.flip(x, axis) if is_array else compat.flip(x, axis)
