"""Features of regions on a fixed grid: the exact RoI max pooling of Fast R-CNN, and aligned RoIAlign.

Both are dense tensor code with static shapes, so XLA compiles them and TFLite has every operation built in.
"""

from __future__ import annotations

import tensorflow as tf

from keras_resnet.ops import graph_errors

LARGEST_MAP = 64
"""Side, in cells, that is allowed for where a map's size is not known when the graph is built.

1024 pixels at stride 16; on a grid of 14 the tables reach 98 cells, 1568 pixels. Larger regions are refused.
"""


def _bins(low: tf.Tensor, high: tf.Tensor, bins: int, limit: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """First cell and end of each bin along one axis: i32[B,R] each -> i32[B,R,bins] each.

    Whole numbers only: of float division, XLA makes a multiplication by the reciprocal and other bins.
    """
    length = tf.maximum(high - low + 1, 1)[..., None]
    number = tf.range(bins)
    start = low[..., None] + number * length // bins
    end = low[..., None] - (-(number + 1) * length) // bins
    return tf.clip_by_value(start, 0, limit), tf.clip_by_value(end, 0, limit)


def _level(length: tf.Tensor, levels: int) -> tf.Tensor:
    """The largest k below `levels` with 2**k <= length, and 0 for empty windows."""
    return tf.add_n([tf.cast(length >= 2**k, tf.int32) for k in range(1, levels)] or [tf.zeros_like(length)])


def _levels(cells: int | None, bins: int) -> int:
    """How many tables of windows of 1, 2, 4.. cells reach the longest bin of a map with so many cells."""
    longest = -(-((cells or LARGEST_MAP) + 1) // bins) + 1
    return longest.bit_length()


def _reached(low: tf.Tensor, high: tf.Tensor, levels: int) -> tf.Tensor:
    """`low`, once it is sure that two of the longest windows cover each bin from it."""
    longest = 2**levels
    text = f"roi_pooling must be align for images so large: a bin has more than {longest} cells."
    with tf.control_dependencies([graph_errors.check(tf.reduce_all(high - low <= longest), text)]):
        return tf.identity(low)


def _window_maxima(features: tf.Tensor, rows: int, columns: int) -> tf.Tensor:
    """Maxima over windows of 2**i x 2**j cells from each cell on: f32[B,H,W,C] -> f32[B,rows * columns,H,W,C].

    What a window beyond the border holds is never asked for.
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


def max_pool(features: tf.Tensor, boxes: tf.Tensor, size: int, stride: int) -> tf.Tensor:
    """Max-pool the features of regions on a grid, quantised as in Fast R-CNN's code (section 2.1).

    A region is cut off at the map's border and its own border rounded to cells, half up. Its bins overlap by a cell
    where it does not divide evenly; empty bins are 0. Each maximum is that of four overlapping windows of 2**i x 2**j
    cells, from tables.

    Args:
        features: f32[B,H,W,C].
        boxes: f32[B,R,4] in pixels.
        size: rows and columns of the grid.
        stride: pixels of a cell.

    Returns:
        f32[B,R,size,size,C].

    Raises:
        tf.errors.InvalidArgumentError: a region too large for `LARGEST_MAP`, on a map whose size is not in the graph.
    """
    batch, height, width, channels = features.shape
    rows, columns = _levels(height, size), _levels(width, size)
    known = None not in (height, width)
    shape = tf.shape(features)
    height, width = height or shape[1], width or shape[2]
    limit = tf.cast(tf.stack([height, width, height, width]), tf.float32)
    cells = tf.cast(tf.floor(tf.clip_by_value(boxes / stride, 0.0, limit) + 0.5), tf.int32)
    top, bottom = _bins(cells[..., 0], cells[..., 2], size, height)
    left, right = _bins(cells[..., 1], cells[..., 3], size, width)
    if not known:
        top, left = _reached(top, bottom, rows), _reached(left, right, columns)
    row, column = _level(bottom - top, rows), _level(right - left, columns)
    tables = tf.reshape(_window_maxima(features, rows, columns), [-1, channels])
    image = tf.range(batch or shape[0])[:, None, None, None]
    table = (image * rows + row[..., :, None]) * columns + column[..., None, :]

    def look_up(y, x):
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


def _interpolation(low: tf.Tensor, high: tf.Tensor, size: int, samples: int, cells) -> tf.Tensor:
    """Weights of the cells in each bin's mean of samples along one axis: f32[B,R] each -> f32[B,R,size,cells]."""
    places = (tf.range(size * samples, dtype=tf.float32) + 0.5) / (size * samples)
    places = low[..., None] + places * (high - low)[..., None]
    limit = tf.cast(cells, tf.float32)
    inside = (places >= -1.0) & (places <= limit)
    places = tf.clip_by_value(places, 0.0, limit - 1.0)
    weights = tf.nn.relu(1.0 - tf.abs(places[..., None] - tf.range(limit)))
    weights = tf.where(inside[..., None], weights, 0.0)
    shape = tf.shape(weights)
    return tf.reduce_mean(tf.reshape(weights, [shape[0], shape[1], size, samples, shape[3]]), 3)


def align(
    features: tf.Tensor, boxes: tf.Tensor, size: int, stride: int, samples: int = 2, aligned: bool = True
) -> tf.Tensor:
    """Average bilinear samples of regions on a grid, without rounding (RoIAlign; He et al., Mask R-CNN, 2017).

    Samples up to one cell outside the map take the value of its border, those further away are 0, as in Detectron2.

    Args:
        features: f32[B,H,W,C].
        boxes: f32[B,R,4] in pixels.
        size: rows and columns of the grid.
        stride: pixels of a cell.
        samples: samples a bin along each axis.
        aligned: whether the centre of the first cell is at half a stride, as it is for convolutions; False for the
            first published version.

    Returns:
        f32[B,R,size,size,C].
    """
    shape = tf.shape(features)
    height, width = features.shape[1] or shape[1], features.shape[2] or shape[2]
    top, left, bottom, right = tf.unstack(boxes / stride - (0.5 if aligned else 0.0), axis=-1)
    if not aligned:  # which also made regions at least one cell large
        bottom, right = tf.maximum(bottom, top + 1.0), tf.maximum(right, left + 1.0)
    rows = _interpolation(top, bottom, size, samples, height)
    columns = _interpolation(left, right, size, samples, width)
    rows, columns = tf.cast(rows, features.dtype), tf.cast(columns, features.dtype)
    return tf.einsum("brqw,brpwc->brpqc", columns, tf.einsum("brph,bhwc->brpwc", rows, features))


POOLINGS = {"max": max_pool, "align": align}
