"""Pool the features of regions on a fixed grid: the exact RoI max pooling of Fast R-CNN, and RoIAlign.

Both are dense tensor code with static shapes, so that XLA compiles them and TFLite has every operation built in.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_resnet.ops import graph_errors

LARGEST_MAP = 64
"""Assumed side, in cells, of maps whose size is unknown when the graph is built: 1024 pixels at stride 16.

With a 14x14 grid the tables cover regions of up to 98 cells, or 1568 pixels, per side; larger regions are refused.
"""


def _bins(low: tf.Tensor, high: tf.Tensor, bins: int, step: int, limit: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """First cell and end of every `step`-th bin along one axis: i32[B,R] each -> i32[B,R,ceil(bins/step)] each.

    In integers, since XLA turns float division into a multiplication by the reciprocal, which gives other bins.
    """
    length = tf.maximum(high - low + 1, 1)[..., None]
    number = tf.range(0, bins, step)
    start = low[..., None] + number * length // bins
    end = low[..., None] - (-(number + 1) * length) // bins
    return tf.clip_by_value(start, 0, limit), tf.clip_by_value(end, 0, limit)


def _level(length: tf.Tensor, levels: int) -> tf.Tensor:
    """The largest k below `levels` with 2**k <= length, and 0 for empty windows."""
    return tf.add_n([tf.cast(length >= 2**k, tf.int32) for k in range(1, levels)] or [tf.zeros_like(length)])


def _levels(cells: int | None, bins: int) -> int:
    """Number of tables of windows of 1, 2, 4.. cells that cover the longest bin of a map of `cells` cells."""
    longest = -(-((cells or LARGEST_MAP) + 1) // bins) + 1
    return longest.bit_length()


def _reached(low: tf.Tensor, high: tf.Tensor, levels: int) -> tf.Tensor:
    """Return `low`; fail if a bin is longer than two of the longest windows."""
    longest = 2**levels
    text = f"roi_pooling must be align for images so large: a bin has more than {longest} cells."
    with tf.control_dependencies([graph_errors.check(tf.reduce_all(high - low <= longest), text)]):
        return tf.identity(low)


def _window_maxima(features: tf.Tensor, rows: int, columns: int) -> tf.Tensor:
    """Maxima of the windows of 2**i x 2**j cells that start at each cell: f32[B,H,W,C] -> f32[B,rows*columns,H,W,C].

    Windows that cross the border contain values from the opposite side and are never read.
    """
    tables, tall = [], features
    for i in range(rows):
        if i:
            tall = tf.maximum(tall, tf.concat([tall[:, 2 ** (i - 1) :], tall[:, : 2 ** (i - 1)]], 1))
        wide = tall
        for j in range(columns):
            if j:
                wide = tf.maximum(wide, tf.concat([wide[:, :, 2 ** (j - 1) :], wide[:, :, : 2 ** (j - 1)]], 2))
            tables.append(wide)
    return tf.stack(tables, 1)


def max_pool(features: tf.Tensor, boxes: tf.Tensor, size: int, stride: int, step: int = 1) -> tf.Tensor:
    """Max-pool the features of regions on a grid, quantized as in Fast R-CNN's code (section 2.1).

    Regions are clipped to the map and their borders are rounded to cells, half up. Bins of a region that does not
    divide evenly overlap by a cell; empty bins are 0. Each maximum is taken over four overlapping windows of
    2**i x 2**j cells, from tables.

    Args:
        features: f32[B,H,W,C].
        boxes: f32[B,R,4] in pixels.
        size: rows and columns of the grid.
        stride: pixels of a cell.
        step: only every `step`-th row and column of the grid is computed, starting with the first.

    Returns:
        f32[B,R,S,S,C], where S is ceil(size / step).

    Raises:
        tf.errors.InvalidArgumentError: a region exceeds the tables of a map of unknown size; see `LARGEST_MAP`.
    """
    batch, height, width, channels = features.shape
    rows, columns = _levels(height, size), _levels(width, size)
    known = None not in (height, width)
    shape = tf.shape(features)
    height, width = height or shape[1], width or shape[2]
    limit = tf.cast(tf.stack([height, width, height, width]), tf.float32)
    cells = tf.cast(tf.floor(tf.clip_by_value(boxes / stride, 0.0, limit) + 0.5), tf.int32)
    top, bottom = _bins(cells[..., 0], cells[..., 2], size, step, height)
    left, right = _bins(cells[..., 1], cells[..., 3], size, step, width)
    if not known:
        top, left = _reached(top, bottom, rows), _reached(left, right, columns)
    row, column = _level(bottom - top, rows), _level(right - left, columns)
    tables = tf.reshape(_window_maxima(features, rows, columns), [-1, channels])
    image = tf.range(batch or shape[0])[:, None, None, None]
    table = (image * rows + row[..., :, None]) * columns + column[..., None, :]

    def look_up(y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        y, x = tf.clip_by_value(y, 0, height - 1), tf.clip_by_value(x, 0, width - 1)
        return tf.gather(tables, (table * height + y[..., :, None]) * width + x[..., None, :])

    last_row = bottom - tf.gather(tf.constant([2**k for k in range(rows)]), row)
    last_column = right - tf.gather(tf.constant([2**k for k in range(columns)]), column)
    pooled = tf.maximum(
        tf.maximum(look_up(top, left), look_up(top, last_column)),
        tf.maximum(look_up(last_row, left), look_up(last_row, last_column)),
    )
    empty = (bottom <= top)[..., :, None] | (right <= left)[..., None, :]
    return tf.where(empty[..., None], tf.zeros([], features.dtype), pooled)


def _interpolation(
    low: tf.Tensor, high: tf.Tensor, size: int, samples: int, step: int, cells: int | tf.Tensor
) -> tf.Tensor:
    """Weights of the cells in the mean of samples of every `step`-th bin along one axis.

    f32[B,R] each -> f32[B,R,ceil(size/step),cells].
    """
    numbers = np.arange(size * samples, dtype="float32").reshape(size, samples)[::step].reshape(-1)
    places = (tf.constant(numbers) + 0.5) / (size * samples)
    places = low[..., None] + places * (high - low)[..., None]
    limit = tf.cast(cells, tf.float32)
    inside = (places >= -1.0) & (places <= limit)
    places = tf.clip_by_value(places, 0.0, limit - 1.0)
    weights = tf.nn.relu(1.0 - tf.abs(places[..., None] - tf.range(limit)))
    weights = tf.where(inside[..., None], weights, 0.0)
    shape = tf.shape(weights)
    return tf.reduce_mean(tf.reshape(weights, [shape[0], shape[1], len(numbers) // samples, samples, shape[3]]), 3)


def align(
    features: tf.Tensor,
    boxes: tf.Tensor,
    size: int,
    stride: int,
    step: int = 1,
    samples: int = 2,
    aligned: bool = True,
) -> tf.Tensor:
    """Average bilinear samples of regions on a grid, without rounding (RoIAlign; He et al., 2017).

    Samples up to one cell outside the map take the value of its border; samples farther away are 0, as in Detectron2.

    Args:
        features: f32[B,H,W,C].
        boxes: f32[B,R,4] in pixels.
        size: rows and columns of the grid.
        stride: pixels of a cell.
        step: as for `max_pool`.
        samples: samples of a bin along each axis.
        aligned: whether the center of the first cell is at half a stride, as for convolutions; False for the first
            published version.

    Returns:
        f32[B,R,S,S,C], where S is ceil(size / step).
    """
    shape = tf.shape(features)
    height, width = features.shape[1] or shape[1], features.shape[2] or shape[2]
    top, left, bottom, right = tf.unstack(boxes / stride - (0.5 if aligned else 0.0), axis=-1)
    if not aligned:  # the first version also made regions at least one cell large
        bottom, right = tf.maximum(bottom, top + 1.0), tf.maximum(right, left + 1.0)
    rows = _interpolation(top, bottom, size, samples, step, height)
    columns = _interpolation(left, right, size, samples, step, width)
    rows, columns = tf.cast(rows, features.dtype), tf.cast(columns, features.dtype)
    return tf.einsum("brqw,brpwc->brpqc", columns, tf.einsum("brph,bhwc->brpwc", rows, features))


POOLINGS = {"max": max_pool, "align": align}
