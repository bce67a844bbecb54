"""Anchors: the reference boxes of the region proposal network (Faster R-CNN, section 3.1.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf


def cell_anchors(scales: Sequence[float], ratios: Sequence[float]) -> np.ndarray:
    """Return the anchors around the origin, ordered by scale, then by ratio.

    Args:
        scales: side in pixels of the square with the area of the anchor.
        ratios: height over width.

    Returns:
        f32[A,4] with A = len(scales) * len(ratios); top, left, bottom, right.
    """
    side, ratio = np.asarray(scales, "float64")[:, None], np.asarray(ratios, "float64")
    width = (side / np.sqrt(ratio)).ravel()
    height = (side * np.sqrt(ratio)).ravel()
    return np.stack([-height, -width, height, width], -1).astype("float32") / 2


def grid_anchors(
    height: int | tf.Tensor, width: int | tf.Tensor, stride: int, cell: np.ndarray, offset: float = 0.5
) -> tf.Tensor:
    """Return the anchors of all cells of a map, row by row.

    Args:
        height: rows of the map, an int or i32[].
        width: columns of the map, an int or i32[].
        stride: pixels between cells.
        cell: f32[A,4], the anchors of one cell around its center.
        offset: center of the first cell in strides: 0.5 as in Caffe's Faster R-CNN; Detectron2's default is 0.

    Returns:
        f32[height * width * A,4].
    """
    y = (tf.range(height, dtype=tf.float32) + offset) * stride
    x = (tf.range(width, dtype=tf.float32) + offset) * stride
    y, x = tf.meshgrid(y, x, indexing="ij")
    centers = tf.reshape(tf.stack([y, x, y, x], -1), [-1, 1, 4])
    return tf.reshape(centers + cell, [-1, 4])
