"""The losses of Faster R-CNN: log loss of classes, smooth L1 loss of box deltas, and cross-entropy of masks."""

from __future__ import annotations

import tensorflow as tf


def smooth_l1(errors: tf.Tensor, beta: float) -> tf.Tensor:
    """Return `0.5 * e^2 / beta` where |e| < beta and `|e| - 0.5 * beta` elsewhere, elementwise."""
    size = tf.abs(errors)
    return tf.where(size < beta, 0.5 * tf.square(errors) / beta, size - 0.5 * beta)


def region_proposal(
    logits: tf.Tensor,
    deltas: tf.Tensor,
    targets: tf.Tensor,
    positive: tf.Tensor,
    negative: tf.Tensor,
    batch_size_per_image: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Compute the loss of the region proposal network (Faster R-CNN, equation 1).

    The losses of an image are divided by `batch_size_per_image`, even if fewer anchors are sampled, and averaged over
    the images. The box loss has beta = 1/9 and covers positive anchors only.

    Args:
        logits: f32[B,N], whether an anchor holds an object.
        deltas: f32[B,N,4].
        targets: f32[B,N,4], the deltas of the matched boxes.
        positive: bool[B,N], the sampled positive anchors.
        negative: bool[B,N], the sampled negative anchors.
        batch_size_per_image: anchors sampled of an image.

    Returns:
        (class loss f32[], box loss f32[]).
    """
    is_object = tf.cast(positive, tf.float32)
    sampled = is_object + tf.cast(negative, tf.float32)
    cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=is_object, logits=logits)
    class_loss = tf.reduce_sum(sampled * cross_entropy, -1) / batch_size_per_image
    # Targets of unmatched anchors may be infinite and must not reach the gradient.
    errors = tf.where(positive[..., None], deltas - targets, 0.0)
    box_loss = tf.reduce_sum(smooth_l1(errors, 1 / 9), [1, 2]) / batch_size_per_image
    return tf.reduce_mean(class_loss), tf.reduce_mean(box_loss)


def detector(
    logits: tf.Tensor, deltas: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor, sampled: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Compute the loss of the region classifier (Fast R-CNN, equation 1).

    The losses of an image are divided by the number of its sampled regions, and averaged over the images. The box loss
    has beta = 1 and covers the deltas of the true class of positive regions only.

    Args:
        logits: f32[B,R,K+1], the background first.
        deltas: f32[B,R,K,4], for each class but the background.
        labels: i32[B,R], 0 for the background.
        targets: f32[B,R,4], the deltas of the matched boxes.
        sampled: bool[B,R]; False for padding.

    Returns:
        (class loss f32[], box loss f32[]).
    """
    weight = tf.cast(sampled, tf.float32)
    count = tf.maximum(tf.reduce_sum(weight, -1), 1.0)
    cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    class_loss = tf.reduce_sum(weight * cross_entropy, -1) / count
    deltas_of_class = tf.gather(deltas, tf.maximum(labels - 1, 0), batch_dims=2)
    positive = sampled & (labels > 0)
    errors = tf.where(positive[..., None], deltas_of_class - targets, 0.0)
    box_loss = tf.reduce_sum(smooth_l1(errors, 1.0), [1, 2]) / count
    return tf.reduce_mean(class_loss), tf.reduce_mean(box_loss)


def masks(logits: tf.Tensor, targets: tf.Tensor, learned: tf.Tensor) -> tf.Tensor:
    """Compute the loss of the mask branch, the binary cross-entropy of each pixel (Mask R-CNN, section 3).

    It is averaged over the pixels of an image's positive regions, and over the images.

    Args:
        logits: f32[B,R,M,M], of the true class of each region; the masks of other classes have no loss.
        targets: f32[B,R,M,M], 0 or 1.
        learned: bool[B,R], the positive regions whose object has a mask.

    Returns:
        f32[].
    """
    cross_entropy = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits), [2, 3])
    weight = tf.cast(learned, tf.float32)
    of_image = tf.reduce_sum(weight * cross_entropy, -1) / tf.maximum(tf.reduce_sum(weight, -1), 1.0)
    return tf.reduce_mean(of_image)
