"""The losses of Faster R-CNN: log loss of classes and smooth L1 loss of box deltas (Fast R-CNN, section 2.3)."""

from __future__ import annotations

import tensorflow as tf


def smooth_l1(errors: tf.Tensor, beta: float) -> tf.Tensor:
    """Return `0.5 * e^2 / beta` below `beta` and `|e| - 0.5 * beta` above, elementwise."""
    size = tf.abs(errors)
    return tf.where(size < beta, 0.5 * tf.square(errors) / beta, size - 0.5 * beta)


def region_proposal(
    logits: tf.Tensor, deltas: tf.Tensor, targets: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor, total: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Loss of the proposal network (Faster R-CNN, equation 1), each image's over `total`, then the mean over images.

    Args:
        logits: f32[B,N], that an anchor holds an object.
        deltas: f32[B,N,4].
        targets: f32[B,N,4], the deltas of the matched boxes.
        positive: bool[B,N], the sampled positive anchors.
        negative: bool[B,N], the sampled negative anchors.
        total: anchors sampled of an image.

    Returns:
        (class loss f32[], box loss f32[]).
    """
    is_object = tf.cast(positive, tf.float32)
    sampled = is_object + tf.cast(negative, tf.float32)
    cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=is_object, logits=logits)
    class_loss = tf.reduce_sum(sampled * cross_entropy, -1) / total
    # Where no box is matched the target means nothing, and must not reach the gradient.
    errors = tf.where(positive[..., None], deltas - targets, 0.0)
    box_loss = tf.reduce_sum(smooth_l1(errors, 1 / 9), [1, 2]) / total
    return tf.reduce_mean(class_loss), tf.reduce_mean(box_loss)


def detector(
    logits: tf.Tensor, deltas: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor, sampled: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Loss of the region classifier (Fast R-CNN, equation 1), over each image's regions, then the mean over images.

    Args:
        logits: f32[B,R,K+1], the background first.
        deltas: f32[B,R,K,4], for each class but the background.
        labels: i32[B,R], 0 for the background.
        targets: f32[B,R,4], the deltas of the matched boxes.
        sampled: bool[B,R]; False for places without a region.

    Returns:
        (class loss f32[], box loss f32[]).
    """
    weight = tf.cast(sampled, tf.float32)
    count = tf.maximum(tf.reduce_sum(weight, -1), 1.0)
    cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    class_loss = tf.reduce_sum(weight * cross_entropy, -1) / count
    own = tf.gather(deltas, tf.maximum(labels - 1, 0), batch_dims=2)
    positive = sampled & (labels > 0)
    errors = tf.where(positive[..., None], own - targets, 0.0)
    box_loss = tf.reduce_sum(smooth_l1(errors, 1.0), [1, 2]) / count
    return tf.reduce_mean(class_loss), tf.reduce_mean(box_loss)
