"""Which ground-truth box an anchor or region belongs to, and which of them a training step looks at."""

from __future__ import annotations

import tensorflow as tf

NEGATIVE, POSITIVE, IGNORED = 0, 1, -1


def match(
    overlaps: tf.Tensor, valid: tf.Tensor, negative: tuple[float, float], positive: float, best_too: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """Match boxes to the ground-truth box that they overlap most.

    Args:
        overlaps: intersection over union f32[B,N,G] of boxes with ground truth.
        valid: bool[B,G]; False for padding and for boxes that must not be matched.
        negative: a best overlap in [low, high) makes a box negative.
        positive: a best overlap of at least this makes it positive.
        best_too: whether the boxes with the highest overlap of each ground-truth box are positive as well, ties
            included (Faster R-CNN, section 3.1.2).

    Returns:
        (index i32[B,N] of the ground-truth box, label i32[B,N]: `POSITIVE`, `NEGATIVE` or `IGNORED`).
    """
    if not overlaps.shape[-1]:
        raise ValueError("overlaps must have room for at least one ground-truth box, be it padding.")
    overlaps = tf.where(valid[:, None, :], overlaps, 0.0)
    index = tf.argmax(overlaps, -1, output_type=tf.int32)
    best = tf.reduce_max(overlaps, -1)
    label = tf.where((best >= negative[0]) & (best < negative[1]), NEGATIVE, IGNORED)
    label = tf.where(best >= positive, POSITIVE, label)
    if best_too:
        highest = tf.reduce_max(overlaps, 1, keepdims=True)
        is_highest = (overlaps >= highest) & (highest > 0.0)
        label = tf.where(tf.reduce_any(is_highest, -1), POSITIVE, label)
    return index, label


def ranks(candidates: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """Return a random rank of each candidate among the candidates; the others come after them.

    Args:
        candidates: bool[B,N].
        seeds: i32[B,2].

    Returns:
        i32[B,N].
    """
    count = tf.shape(candidates)[1]
    draws = tf.map_fn(lambda seed: tf.random.stateless_uniform([count], seed), seeds, fn_output_signature=tf.float32)
    draws = tf.where(candidates, draws, 2.0)
    return tf.argsort(tf.argsort(draws, -1, stable=True), -1)


def sample(label: tf.Tensor, positives: int, total: int, seeds: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Choose at random up to `positives` positive boxes, and negative ones up to `total` together.

    Args:
        label: i32[B,N] of `match`.
        positives: most positive boxes of an image.
        total: most boxes of an image.
        seeds: i32[B,2]; the choice is a pure function of label and seed.

    Returns:
        (positive bool[B,N], negative bool[B,N]).
    """
    both = tf.concat([label == POSITIVE, label == NEGATIVE], 0)
    rank = ranks(both, tf.concat([seeds, tf.add(seeds, [1, 0])], 0))
    first, second = tf.split(both, 2), tf.split(rank, 2)
    positive = first[0] & (second[0] < positives)
    left = total - tf.reduce_sum(tf.cast(positive, tf.int32), -1, keepdims=True)
    negative = first[1] & (second[1] < left)
    return positive, negative


def gather_sampled(positive: tf.Tensor, negative: tf.Tensor, total: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the indices of what `sample` chose, positives first, padded to a fixed number.

    Args:
        positive: bool[B,N].
        negative: bool[B,N].
        total: boxes of an image.

    Returns:
        (index i32[B,total], chosen bool[B,total]: False where fewer were chosen).
    """
    priority = 2 * tf.cast(positive, tf.int32) + tf.cast(negative, tf.int32)
    missing = tf.maximum(total - tf.shape(priority)[1], 0)
    priority = tf.pad(priority, [[0, 0], [0, missing]])
    value, index = tf.math.top_k(priority, total)
    return tf.where(value > 0, index, 0), value > 0
