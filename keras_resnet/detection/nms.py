"""Non-maximum suppression of sorted boxes and of all classes at once, and box voting."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from keras_resnet.ops import boxes as box_ops


class PaddedDetections(NamedTuple):
    """The detections of a batch, best first; entries after an image's `count` are zero.

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
    sorted_boxes: tf.Tensor, sorted_scores: tf.Tensor, max_boxes: int, nms_thresh: float, score_thresh: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Greedily drop boxes whose IoU with a better box is above a threshold.

    Args:
        sorted_boxes: f32[B,N,4], best first.
        sorted_scores: f32[B,N].
        max_boxes: most boxes to keep.
        nms_thresh: the IoU above which the weaker box is dropped.
        score_thresh: boxes with this score or less are dropped.

    Returns:
        (index i32[B,max_boxes], valid bool[B,max_boxes]).
    """
    index, count = tf.image.non_max_suppression_padded(
        sorted_boxes,
        sorted_scores,
        max_boxes,
        iou_threshold=nms_thresh,
        score_threshold=score_thresh,
        pad_to_max_output_size=True,
        sorted_input=True,
        canonicalized_coordinates=True,
    )
    return index, tf.range(max_boxes)[None] < count[:, None]


def _separated(boxes: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Shift boxes by class so that those of two classes never overlap: f32[B,N,4], i32[B,N] -> f32[B,N,4]."""
    step = 2.0 * tf.reduce_max(tf.abs(boxes), axis=[1, 2], keepdims=True) + 1.0
    return boxes + step * tf.cast(classes, boxes.dtype)[..., None]


def detections(
    boxes: tf.Tensor,
    probabilities: tf.Tensor,
    valid: tf.Tensor,
    *,
    score_thresh: float = 0.05,
    nms_thresh: float = 0.3,
    detections_per_image: int = 100,
    pre_nms_topk: int = 1000,
    vote_thresh: float | None = None,
) -> PaddedDetections:
    """Apply NMS to each class and keep the best boxes of all classes.

    Args:
        boxes: f32[B,R,K,4], a box for each region and class; those without an area, as clipping may leave them, are
            dropped.
        probabilities: f32[B,R,K+1], the background first.
        valid: bool[B,R].
        score_thresh: boxes with this probability or less are dropped.
        nms_thresh: the IoU of two boxes of a class above which the weaker one is dropped.
        detections_per_image: most boxes to keep of an image.
        pre_nms_topk: most pairs of box and class to consider, the best ones.
        vote_thresh: replace each kept box by the score-weighted mean of the boxes of its class whose IoU with it is at
            least this (box voting; Gidaris and Komodakis, 2015); None for no voting.

    Returns:
        `PaddedDetections`.
    """
    classes = boxes.shape[2]
    has_area = tf.reduce_all(boxes[..., 2:] > boxes[..., :2], -1)
    scores = tf.where(valid[..., None] & has_area, probabilities[..., 1:], 0.0)
    regions = boxes.shape[1] or tf.shape(boxes)[1]
    total = regions * classes
    scores = tf.reshape(scores, [-1, total])
    topk = min(pre_nms_topk, total) if isinstance(total, int) else tf.minimum(pre_nms_topk, total)
    scores, place = tf.math.top_k(scores, topk)
    labels = place % classes + 1
    boxes = tf.gather(tf.reshape(boxes, [-1, total, 4]), place, batch_dims=1)
    separated = _separated(boxes, labels)
    index, kept = suppress(separated, scores, detections_per_image, nms_thresh, score_thresh)
    best = tf.gather(boxes, index, batch_dims=1)
    if vote_thresh is not None:
        weights = scores * tf.cast(scores > score_thresh, tf.float32)
        best = voted(tf.gather(separated, index, batch_dims=1), separated, boxes, weights, vote_thresh)
    return PaddedDetections(
        tf.where(kept[..., None], best, 0.0),
        tf.where(kept, tf.gather(scores, index, batch_dims=1), 0.0),
        tf.where(kept, tf.gather(labels, index, batch_dims=1), 0),
        tf.reduce_sum(tf.cast(kept, tf.int32), -1),
    )


def voted(kept: tf.Tensor, voters: tf.Tensor, values: tf.Tensor, scores: tf.Tensor, vote_thresh: float) -> tf.Tensor:
    """Return the score-weighted mean of the boxes that overlap each kept box.

    Args:
        kept: f32[B,D,4], separated by class.
        voters: f32[B,N,4], separated by class.
        values: f32[B,N,4], the voters in place.
        scores: f32[B,N].
        vote_thresh: lowest IoU of a voter.

    Returns:
        f32[B,D,4].
    """
    weights = tf.where(box_ops.iou(kept, voters) >= vote_thresh, scores[:, None, :], 0.0)
    return tf.math.divide_no_nan(weights @ values, tf.reduce_sum(weights, -1, keepdims=True))
