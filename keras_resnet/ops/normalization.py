"""Normalisation of pixels: the three conventions of published weights, on arrays or tensors of any backend."""

from __future__ import annotations

import numpy as np

from keras_resnet import compat
from keras_resnet.errors import check_choice

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


def preprocess_input(x, mode: str = "caffe"):
    """Normalise RGB images as the weights of a convention expect, the conventions of `keras.applications`.

    Args:
        x: array or tensor [...,3], RGB, values in [0, 255]; never changed in place.
        mode: "caffe" (the authors' weights): BGR minus the ImageNet mean; "torch" (torchvision): scaled to [0, 1],
            then minus ImageNet's mean and divided by its standard deviation; "tf": scaled to [-1, 1].

    Returns:
        f32[...,3], an array for an array and a tensor for a tensor.

    Raises:
        ValueError: unknown mode.
    """
    check_choice("mode", mode, ("caffe", "torch", "tf"))
    if hasattr(x, "__array_interface__") or isinstance(x, (list, tuple)):
        x = np.asarray(x, "float32")
    else:
        x = compat.cast(x, "float32")
    if mode == "caffe":
        return x[..., ::-1] - np.float32(CAFFE_MEAN_BGR)
    if mode == "torch":
        return (x / np.float32(255) - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
    return x / np.float32(127.5) - np.float32(1)
