"""Match anchors and regions to ground-truth boxes, and sample those of a training step."""

from __future__ import annotations

import tensorflow as tf

NEGATIVE, POSITIVE, IGNORED = 0, 1, -1


def match(
    ious: tf.Tensor,
    valid: tf.Tensor,
    negative_range: tuple[float, float],
    positive_thresh: float,
    allow_low_quality: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Match each box to the ground-truth box with the highest IoU.

    Args:
        ious: f32[B,N,G], IoU of boxes with ground-truth boxes.
        valid: bool[B,G]; False for padding and for ground truth that must not be matched.
        negative_range: a box is negative if its highest IoU is in [low, high).
        positive_thresh: a box is positive if its highest IoU is at least this.
        allow_low_quality: whether the boxes with the highest IoU of each ground-truth box are positive too, ties
            included (Faster R-CNN, section 3.1.2).

    Returns:
        (index i32[B,N] of the ground-truth box, label i32[B,N]: `POSITIVE`, `NEGATIVE` or `IGNORED`).
    """
    if not ious.shape[-1]:
        raise ValueError("ious must have room for at least one ground-truth box, which may be padding; got none.")
    ious = tf.where(valid[:, None, :], ious, 0.0)
    index = tf.argmax(ious, -1, output_type=tf.int32)
    best = tf.reduce_max(ious, -1)
    label = tf.where((best >= negative_range[0]) & (best < negative_range[1]), NEGATIVE, IGNORED)
    label = tf.where(best >= positive_thresh, POSITIVE, label)
    if allow_low_quality:
        highest = tf.reduce_max(ious, 1, keepdims=True)
        is_highest = (ious >= highest) & (highest > 0.0)
        label = tf.where(tf.reduce_any(is_highest, -1), POSITIVE, label)
    return index, label


def ranks(candidates: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """Return a random rank of each candidate among the candidates of its image; non-candidates rank after them.

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


def sample(label: tf.Tensor, max_positives: int, batch_size: int, seeds: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Sample positive boxes, and fill the batch with negative ones.

    Args:
        label: i32[B,N] of `match`.
        max_positives: maximum number of positive boxes per image.
        batch_size: most boxes of an image.
        seeds: i32[B,2]; the choice is a pure function of label and seed.

    Returns:
        (positive bool[B,N], negative bool[B,N]).
    """
    both = tf.concat([label == POSITIVE, label == NEGATIVE], 0)
    rank = ranks(both, tf.concat([seeds, tf.add(seeds, [1, 0])], 0))
    (is_positive, is_negative), (positive_rank, negative_rank) = tf.split(both, 2), tf.split(rank, 2)
    positive = is_positive & (positive_rank < max_positives)
    remaining = batch_size - tf.reduce_sum(tf.cast(positive, tf.int32), -1, keepdims=True)
    negative = is_negative & (negative_rank < remaining)
    return positive, negative


def gather_sampled(positive: tf.Tensor, negative: tf.Tensor, batch_size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the indices of the boxes that `sample` chose, positives first, padded to a fixed number.

    Args:
        positive: bool[B,N].
        negative: bool[B,N].
        batch_size: boxes of an image.

    Returns:
        (index i32[B,batch_size], sampled bool[B,batch_size], False for padding).
    """
    priority = 2 * tf.cast(positive, tf.int32) + tf.cast(negative, tf.int32)
    missing = tf.maximum(batch_size - tf.shape(priority)[1], 0)
    priority = tf.pad(priority, [[0, 0], [0, missing]])
    value, index = tf.math.top_k(priority, batch_size)
    return tf.where(value > 0, index, 0), value > 0
