"""The losses of both stages: the logistic loss of the true class, and smooth L1 loss of its box deltas."""

from __future__ import annotations

import tensorflow as tf

from keras_resnet.detection.losses import smooth_l1


def anchors(
    logits: tf.Tensor, deltas: tf.Tensor, targets: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Compute the loss of the per-class RPN for the true class of each image.

    Positive and negative anchors have the same weight, 1:1, even if an image has fewer positive anchors than sampled:
    the loss is the mean over the positive anchors plus that over the negative ones, divided by 2. The box loss is the
    mean over the positive anchors, with beta = 1/9 as in Faster R-CNN.

    Args:
        logits: f32[B,N], of the true class.
        deltas: f32[B,N,4], of the true class.
        targets: f32[B,N,4], the deltas of the matched boxes.
        positive: bool[B,N], the sampled positive anchors.
        negative: bool[B,N], the sampled negative anchors.

    Returns:
        (class loss f32[], box loss f32[]), averaged over the images.
    """
    is_object, is_background = tf.cast(positive, tf.float32), tf.cast(negative, tf.float32)
    cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=is_object, logits=logits)
    class_loss = 0.5 * (_mean(cross_entropy, is_object) + _mean(cross_entropy, is_background))
    # Targets of unmatched anchors may be infinite and must not reach the gradient.
    errors = tf.where(positive[..., None], deltas - targets, 0.0)
    box_loss = _mean(tf.reduce_sum(smooth_l1(errors, 1 / 9), -1), is_object)
    return tf.reduce_mean(class_loss), tf.reduce_mean(box_loss)


def proposals(
    logits: tf.Tensor, deltas: tf.Tensor, targets: tf.Tensor, positive: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Compute the loss of the R-CNN for the true class of each proposal's image.

    Args:
        logits: f32[B], of the true class.
        deltas: f32[B,4], of the true class.
        targets: f32[B,4], the deltas of the matched boxes.
        positive: bool[B].

    Returns:
        (class loss f32[], box loss f32[]), both divided by the number of proposals, as in Fast R-CNN; beta = 1.
    """
    labels = tf.cast(positive, tf.float32)
    class_loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits))
    errors = tf.where(positive[..., None], deltas - targets, 0.0)
    return class_loss, tf.reduce_mean(tf.reduce_sum(smooth_l1(errors, 1.0), -1))


def _mean(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """The weighted mean of each image, 0 if it has no weight: f32[B,N], f32[B,N] -> f32[B]."""
    return tf.math.divide_no_nan(tf.reduce_sum(weights * values, -1), tf.reduce_sum(weights, -1))
