"""Non-maximum suppression of sorted boxes, and of all classes at once, and box voting."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from keras_resnet.ops import boxes


class PaddedDetections(NamedTuple):
    """PaddedDetections of a batch, best first; what is behind an image's `count` is zero.

    Attributes:
        boxes: f32[B,D,4] in pixels.
        scores: f32[B,D], probabilities.
        classes: i32[B,D], from 1; 0 for padding.
        count: i32[B].
    """

    boxes: tf.Tensor
    scores: tf.Tensor
    classes: tf.Tensor
    count: tf.Tensor


def suppress(
    sorted_boxes: tf.Tensor, sorted_scores: tf.Tensor, most: int, overlap: float, threshold: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Greedily drop boxes that overlap a better one by more than `overlap`.

    Args:
        sorted_boxes: f32[B,N,4], best first.
        sorted_scores: f32[B,N].
        most: how many boxes to keep.
        overlap: intersection over union.
        threshold: boxes with this score or less are dropped.

    Returns:
        (index i32[B,most], valid bool[B,most]).
    """
    index, count = tf.image.non_max_suppression_padded(
        sorted_boxes,
        sorted_scores,
        most,
        iou_threshold=overlap,
        score_threshold=threshold,
        pad_to_max_output_size=True,
        sorted_input=True,
        canonicalized_coordinates=True,
    )
    return index, tf.range(most)[None] < count[:, None]


def _apart(found: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Boxes moved so far apart by class that those of two classes never overlap: f32[B,N,4], i32[B,N] -> f32[B,N,4]."""
    step = 2.0 * tf.reduce_max(tf.abs(found), axis=[1, 2], keepdims=True) + 1.0
    return found + step * tf.cast(classes, found.dtype)[..., None]


def detections(
    found: tf.Tensor,
    probabilities: tf.Tensor,
    valid: tf.Tensor,
    *,
    score: float = 0.05,
    overlap: float = 0.3,
    most: int = 100,
    before: int = 1000,
    vote: float | None = None,
) -> PaddedDetections:
    """Suppress the boxes of each class, and keep the best of all classes.

    Args:
        found: f32[B,R,K,4], a box for each region and class.
        probabilities: f32[B,R,K+1], the background first.
        valid: bool[B,R].
        score: boxes with this probability or less are dropped.
        overlap: intersection over union of one class above which the weaker box is suppressed.
        most: how many boxes are kept of an image.
        before: how many pairs of box and class are looked at, the best ones.
        vote: replace each kept box by the mean, weighted by score, of the boxes of its class that overlap it by at
            least this (box voting; Gidaris and Komodakis, 2015); None for not.

    Returns:
        `PaddedDetections`.
    """
    classes = found.shape[2]
    scores = tf.where(valid[..., None], probabilities[..., 1:], 0.0)
    regions = found.shape[1] or tf.shape(found)[1]
    total = regions * classes
    scores = tf.reshape(scores, [-1, total])
    before = min(before, total) if isinstance(total, int) else tf.minimum(before, total)
    scores, place = tf.math.top_k(scores, before)
    labels = place % classes + 1
    found = tf.gather(tf.reshape(found, [-1, total, 4]), place, batch_dims=1)
    apart = _apart(found, labels)
    index, kept = suppress(apart, scores, most, overlap, score)
    best = tf.gather(found, index, batch_dims=1)
    if vote is not None:
        best = voted(
            tf.gather(apart, index, batch_dims=1), apart, found, scores * tf.cast(scores > score, tf.float32), vote
        )
    return PaddedDetections(
        tf.where(kept[..., None], best, 0.0),
        tf.where(kept, tf.gather(scores, index, batch_dims=1), 0.0),
        tf.where(kept, tf.gather(labels, index, batch_dims=1), 0),
        tf.reduce_sum(tf.cast(kept, tf.int32), -1),
    )


def voted(kept: tf.Tensor, voters: tf.Tensor, values: tf.Tensor, scores: tf.Tensor, overlap: float) -> tf.Tensor:
    """Return the mean, weighted by score, of the boxes that overlap each kept one.

    Args:
        kept: f32[B,D,4], apart by class.
        voters: f32[B,N,4], apart by class.
        values: f32[B,N,4], the same boxes where they are.
        scores: f32[B,N].
        overlap: intersection over union from which on a box votes.

    Returns:
        f32[B,D,4].
    """
    weights = tf.where(boxes.iou(kept, voters) >= overlap, scores[:, None, :], 0.0)
    return tf.math.divide_no_nan(weights @ values, tf.reduce_sum(weights, -1, keepdims=True))
