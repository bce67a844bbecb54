"""Crops of an image around boxes, warped to one size: what the second stage sees (Girshick et al., 2014)."""

from __future__ import annotations

import tensorflow as tf

from keras_resnet.ops import image


def warp(pixels: tf.Tensor, boxes: tf.Tensor, size: int, context_pixels: int = 0) -> tf.Tensor:
    """Crop the parts of an image in boxes, and resize each to a square by antialiased bilinear interpolation.

    Args:
        pixels: f32[H,W,C], normalized, so that 0 is the mean.
        boxes: f32[P,4], top, left, bottom, right in pixels of the image; sides below a pixel count as one.
        size: side of the crops.
        context_pixels: pixels of a crop on each side of the box that show what is around it; 16 in R-CNN.

    Returns:
        f32[P,size,size,C]; pixels outside the image are 0.
    """
    corner, sides = boxes[:, :2], tf.maximum(boxes[:, 2:] - boxes[:, :2], 1.0)
    around = sides * (context_pixels / (size - 2 * context_pixels))
    windows = tf.concat([corner - around, sides + 2 * around], 1)
    crops = tf.map_fn(
        lambda window: image.resize_window(pixels, window, (size, size)), windows, fn_output_signature=tf.float32
    )
    return tf.ensure_shape(crops, [boxes.shape[0], size, size, pixels.shape[-1]])
