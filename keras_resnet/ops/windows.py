"""Windows of an image: which part of it becomes the network's input.

A window is i32[4] or f32[4]: top, left, height and width in pixels of the stored image. Every random draw is a pure
function of its `seed`, i32[2].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf


def whole_window(size: tf.Tensor) -> tf.Tensor:
    """Return the window of the whole image, given its i32[2] height and width."""
    return tf.stack([0, 0, size[0], size[1]])


def resized_size(size: tf.Tensor, shorter: int) -> tf.Tensor:
    """Return height and width, i32[2], after the shorter side is resized to `shorter`; the longer is rounded down."""
    return size * shorter // tf.reduce_min(size)


def center_window(size: tf.Tensor, crop: int, resize: int) -> tf.Tensor:
    """Return the window that becomes the center crop after the shorter side is resized.

    Args:
        size: i32[2], height and width of the image.
        crop: side of the crop in pixels, at most `resize`.
        resize: length of the shorter side after resizing.

    Returns:
        f32[4], which may fall between pixels of the stored image. The resized longer side and the offset are rounded as
        in torchvision's `Resize` and `CenterCrop`.
    """
    resized = resized_size(size, resize)
    offset = tf.round(tf.cast(resized - crop, tf.float32) / 2)
    scale = tf.cast(size, tf.float32) / tf.cast(resized, tf.float32)
    return tf.concat([offset * scale, crop * scale], 0)


def scale_window(size: tf.Tensor, crop: int, scales: tuple[int, int], seed: tf.Tensor) -> tf.Tensor:
    """Return the window of the paper's training crop (section 3.4): random after the shorter side is resized.

    Args:
        size: i32[2], height and width of the image.
        crop: side of the crop in pixels.
        scales: smallest and largest shorter side, drawn uniformly; the smallest is at least `crop`.
        seed: i32[2].

    Returns:
        i32[4], a square window.
    """
    return scale_windows(size, crop, scales, seed, 1)[0]


def scale_windows(size: tf.Tensor, crop: int, scales: tuple[int, int], seed: tf.Tensor, count: int) -> tf.Tensor:
    """Return several windows of `scale_window`, of which the first is that function's.

    Args:
        size: as for `scale_window`.
        crop: as for `scale_window`.
        scales: as for `scale_window`, but the smallest may be below `crop`: where the window is larger than the image,
            the image is at a random place in the window.
        seed: i32[2].
        count: number of windows.

    Returns:
        i32[count,4], square windows.
    """
    draws = tf.random.stateless_uniform([count, 3], seed)
    short = scales[0] + tf.cast(draws[:, 0] * (scales[1] - scales[0] + 1), tf.int32)
    side = tf.maximum(tf.cast(tf.round(crop * tf.reduce_min(size) / short), tf.int32), 1)[:, None]
    free = size - side
    offset = tf.cast(draws[:, 1:] * tf.cast(tf.abs(free) + 1, tf.float32), tf.int32)
    return tf.concat([tf.sign(free) * tf.minimum(offset, tf.abs(free)), side, side], 1)


def inception_window(
    size: tf.Tensor,
    seed: tf.Tensor,
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> tf.Tensor:
    """Return the window of the Inception training crop (Szegedy et al., 2014): random area and aspect ratio.

    Ten windows are drawn and the first that fits is taken, as in torchvision's `RandomResizedCrop`; if none fits, the
    largest centered window of an allowed ratio.

    Args:
        size: i32[2], height and width of the image.
        seed: i32[2].
        area: range of the fraction of the image's area, which is uniform.
        ratio: range of width over height, which is uniform in its logarithm.

    Returns:
        i32[4].
    """
    seeds = tf.random.split(seed, 3)
    height, width = (tf.cast(size[axis], tf.float32) for axis in (0, 1))
    pixels = height * width * tf.random.stateless_uniform([10], seeds[0], *area)
    aspect = tf.exp(tf.random.stateless_uniform([10], seeds[1], math.log(ratio[0]), math.log(ratio[1])))
    drawn = tf.round(tf.stack([tf.sqrt(pixels / aspect), tf.sqrt(pixels * aspect)], axis=1))
    fits = tf.reduce_all((drawn >= 1) & (drawn <= tf.cast(size, tf.float32)), axis=1)
    largest = tf.stack([tf.minimum(height, width / ratio[0]), tf.minimum(width, height * ratio[1])])
    side = tf.where(tf.reduce_any(fits), drawn[tf.argmax(fits)], tf.maximum(tf.floor(largest), 1))
    free = tf.cast(size, tf.float32) - side
    offset = tf.where(
        tf.reduce_any(fits), tf.floor(tf.random.stateless_uniform([2], seeds[2]) * (free + 1)), tf.floor(free / 2)
    )
    return tf.cast(tf.concat([tf.minimum(offset, free), side], 0), tf.int32)


def five_crops(images: tf.Tensor, crop: Sequence[int]) -> tf.Tensor:
    """Crop the four corners and the center (Krizhevsky et al., 2012, section 4.1), in torchvision's order.

    Args:
        images: [B,H,W,C] of any type, at least as large as the crop.
        crop: height and width of the crops.

    Returns:
        [B,5,crop[0],crop[1],C]: top left, top right, bottom left, bottom right, center.

    Raises:
        tf.errors.InvalidArgumentError: the images are smaller than the crop.
    """
    size = tf.shape(images)[1:3]
    free = size - tf.constant(crop, tf.int32)
    fits = tf.debugging.Assert(
        tf.reduce_all(free >= 0), ["the image is smaller than the crop: height and width", size, "crop", list(crop)]
    )
    with tf.control_dependencies([fits]):
        middle = tf.cast(tf.round(tf.cast(free, tf.float32) / 2), tf.int32)
    bottom, right = tf.unstack(free)
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), tuple(tf.unstack(middle))]
    crops = [images[:, top : top + crop[0], left : left + crop[1]] for top, left in corners]
    return tf.ensure_shape(tf.stack(crops, axis=1), [images.shape[0], 5, *crop, images.shape[-1]])
