"""Anchors: the reference boxes of the region proposal network (Faster R-CNN, section 3.1.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf


def cell_anchors(scales: Sequence[float], ratios: Sequence[float]) -> np.ndarray:
    """Return the anchors around the origin, scale by scale and in each ratio by ratio.

    Args:
        scales: sides in pixels of the square with the anchor's area.
        ratios: height over width.

    Returns:
        f32[A,4] with A = len(scales) * len(ratios); as top, left, bottom, right.
    """
    scales, ratios = np.asarray(scales, "float64"), np.asarray(ratios, "float64")
    width = (scales[:, None] / np.sqrt(ratios)).ravel()
    height = (scales[:, None] * np.sqrt(ratios)).ravel()
    return np.stack([-height, -width, height, width], -1).astype("float32") / 2


def grid_anchors(height, width, stride: int, cell: np.ndarray, offset: float = 0.5) -> tf.Tensor:
    """Return the anchors of every cell of a map, row by row.

    Args:
        height: rows of the map, an int or i32[].
        width: columns of the map, likewise.
        stride: pixels between cells.
        cell: f32[A,4], the anchors of one cell around its centre.
        offset: centre of the first cell in strides: 0.5 as in Caffe's Faster R-CNN; Detectron2's default is 0.

    Returns:
        f32[height * width * A,4].
    """
    y = (tf.range(height, dtype=tf.float32) + offset) * stride
    x = (tf.range(width, dtype=tf.float32) + offset) * stride
    y, x = tf.meshgrid(y, x, indexing="ij")
    centers = tf.reshape(tf.stack([y, x, y, x], -1), [-1, 1, 4])
    return tf.reshape(centers + cell, [-1, 4])
