"""Operations on boxes `[..., 4]`: top, left, bottom and right in continuous pixel coordinates (width = right - left).

A box of zeros is padding. XLA compiles all operations, and they are built-in operators of TFLite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

LARGEST_LOG_RATIO = math.log(1000 / 16)
"""Upper bound of the predicted log of a size ratio, so that no box overflows; the value is Detectron's."""

SMALLEST_SIDE = 1e-3
"""Sides in pixels are at least this inside logarithms."""


def area(boxes: tf.Tensor) -> tf.Tensor:
    """Return the areas of boxes f32[...,4], in px^2: f32[...]."""
    top, left, bottom, right = tf.unstack(boxes, axis=-1)
    return tf.maximum(bottom - top, 0.0) * tf.maximum(right - left, 0.0)


def intersection(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Return the areas that pairs of boxes share: f32[...,N,4], f32[...,M,4] -> f32[...,N,M] in px^2."""
    first, second = first[..., :, None, :], second[..., None, :, :]
    corner = tf.maximum(first[..., :2], second[..., :2])
    sides = tf.maximum(tf.minimum(first[..., 2:], second[..., 2:]) - corner, 0.0)
    return sides[..., 0] * sides[..., 1]


def iou(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Return the intersection over union of pairs, 0 for padding: f32[...,N,4], f32[...,M,4] -> f32[...,N,M]."""
    shared = intersection(first, second)
    union = area(first)[..., :, None] + area(second)[..., None, :] - shared
    return tf.math.divide_no_nan(shared, union)


def coverage(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Return the fraction of each first box inside each second one: f32[...,N,4], f32[...,M,4] -> f32[...,N,M]."""
    return tf.math.divide_no_nan(intersection(first, second), area(first)[..., :, None])


def _center(boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return center and sides, f32[...,2] each as (y, x)."""
    sides = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sides, sides


def encode(boxes: tf.Tensor, anchors: tf.Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> tf.Tensor:
    """Return the deltas that turn anchors into boxes (Girshick et al., 2014, appendix C), the inverse of `decode`.

    Args:
        boxes: f32[...,4].
        anchors: f32[...,4].
        weights: factors of the deltas (dy, dx, dh, dw); (10, 10, 5, 5) in the detector of Fast R-CNN.

    Returns:
        f32[...,4]: the shift of the center in sides of the anchor, and the logs of the size ratios.
    """
    center, sides = _center(boxes)
    anchor_center, anchor_sides = _center(anchors)
    anchor_sides = tf.maximum(anchor_sides, SMALLEST_SIDE)
    shift = (center - anchor_center) / anchor_sides
    ratio = tf.math.log(tf.maximum(sides, SMALLEST_SIDE) / anchor_sides)
    return tf.concat([shift, ratio], -1) * tf.constant(weights, boxes.dtype)


def decode(deltas: tf.Tensor, anchors: tf.Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> tf.Tensor:
    """Apply deltas to anchors; size ratios are bounded by 1000/16.

    Args:
        deltas: f32[...,4] as (dy, dx, dh, dw).
        anchors: f32[...,4].
        weights: factors with which the deltas were encoded.

    Returns:
        f32[...,4].
    """
    deltas = deltas / tf.constant(weights, deltas.dtype)
    center, sides = _center(anchors)
    center = center + deltas[..., :2] * sides
    half = 0.5 * sides * tf.exp(tf.minimum(deltas[..., 2:], LARGEST_LOG_RATIO))
    return tf.concat([center - half, center + half], -1)


def clip(boxes: tf.Tensor, image_size: tf.Tensor) -> tf.Tensor:
    """Clip boxes to their image.

    Args:
        boxes: f32[B,N,4].
        image_size: f32[B,2], height and width in pixels.

    Returns:
        f32[B,N,4].
    """
    limit = tf.concat([image_size, image_size], -1)[:, None, :]
    return tf.clip_by_value(boxes, tf.zeros_like(limit), limit)


def mirror(boxes: tf.Tensor, image_size: tf.Tensor, vertical: bool = False) -> tf.Tensor:
    """Return the boxes of the image mirrored left to right, or top to bottom; padding moves too.

    Args:
        boxes: f32[N,4].
        image_size: f32[2], height and width in pixels.
        vertical: mirror top to bottom instead.

    Returns:
        f32[N,4].
    """
    top, left, bottom, right = tf.unstack(boxes, axis=-1)
    if vertical:
        top, bottom = image_size[0] - bottom, image_size[0] - top
    else:
        left, right = image_size[1] - right, image_size[1] - left
    return tf.stack([top, left, bottom, right], -1)
