"""Probabilities of every pixel at an image's own size: at several scales, mirrored, and window by window.

predict = predictor(model, scales=(0.75, 1.0, 1.25), mirror=True)
labels = predict(images).argmax(-1)            # f32[B,H,W,3] -> f32[B,H,W,K] -> i64[B,H,W]
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.errors import InputError
from keras_resnet.evaluation import replicas
from keras_resnet.segmentation import models

Predict = Callable[[np.ndarray], np.ndarray]
"""Function from normalized images f32[B,H,W,3] of one size to probabilities f32[B,H,W,K]."""

MULTI_SCALE = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
"""The scales of the multi-scale results of DeepLab, which are measured with `mirror` too (Chen et al., 2017)."""


def predictor(
    model: keras.Model,
    *,
    scales: Sequence[float] = (1.0,),
    mirror: bool = False,
    window: Sequence[int] = (),
    strategy: tf.distribute.Strategy | None = None,
) -> Predict:
    """Return the function from images to probabilities at their size.

    The logits of each scale, and of the mirrored images, are interpolated to the size of the images; the probabilities
    are the mean of their softmax.

    Args:
        model: a model of `segmentation.models`.
        scales: factors of the images' height and width.
        mirror: whether to add the left-right mirrored images at each scale.
        window: height and width of the windows into which larger images are divided, after scaling; () for whole
            images. Windows overlap by a third or more, and their logits are averaged.
        strategy: strategy whose replicas compute; by default one device.

    Raises:
        ValueError: a scale is not positive, or `window` is not a height and a width.
    """
    if not scales or not all(scale > 0 for scale in scales):
        raise InputError(f"scales must be one or more positive numbers; got {list(scales)}.")
    if window and (len(window) != 2 or min(window) < 32):
        raise InputError(f"window must be a height and a width of at least 32 pixels; got {list(window)}.")
    forward = replicas.function(models.inference_model(model), strategy)

    def predict(images: np.ndarray) -> np.ndarray:
        images = tf.convert_to_tensor(images)
        size = (int(images.shape[1]), int(images.shape[2]))
        total = np.float32(0)
        for scale in scales:
            scaled_size = [max(round(scale * side), 1) for side in size]
            scaled = images if scaled_size == list(size) else tf.image.resize(images, scaled_size, antialias=True)
            for mirrored in (False, True)[: 1 + mirror]:
                logits = _by_window(forward, scaled[:, :, ::-1] if mirrored else scaled, window)
                total = total + probabilities(logits[:, :, ::-1] if mirrored else logits, size).numpy()
        return total / np.float32(len(scales) * (1 + mirror))

    return predict


def probabilities(logits: tf.Tensor | np.ndarray, size: Sequence[int] | tf.Tensor) -> tf.Tensor:
    """Interpolate logits f32[B,h,w,K] bilinearly to a size and apply the softmax: f32[B,size[0],size[1],K]."""
    return tf.nn.softmax(tf.image.resize(tf.cast(logits, tf.float32), size))


def _by_window(forward: Callable, images: tf.Tensor, window: Sequence[int]) -> np.ndarray:
    """Logits f32[B,H,W,K] of images, each the mean over the windows that contain the pixel."""
    height, width = images.shape[1:3]
    if not window or (height <= window[0] and width <= window[1]):
        return forward(images)
    rows, columns = window_starts(height, window[0]), window_starts(width, window[1])
    total = count = np.float32(0)
    for top, left in itertools.product(rows, columns):
        part = (slice(None), slice(top, top + window[0]), slice(left, left + window[1]))
        logits = forward(images[part])
        if not np.ndim(total):
            total = np.zeros([*images.shape[:3], logits.shape[-1]], "float32")
            count = np.zeros([1, height, width, 1], "float32")
        total[part] += logits
        count[part] += 1
    return total / count


def window_starts(side: int, window: int) -> list[int]:
    """Return the first pixels of windows that cover a side evenly and overlap by at least a third of their length."""
    if side <= window:
        return [0]
    count = 1 + -(-(side - window) // max(2 * window // 3, 1))
    return [round(index * (side - window) / (count - 1)) for index in range(count)]
