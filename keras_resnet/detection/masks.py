"""The mask branch of Mask R-CNN on conv5_x (He et al., 2017): its layers, the masks to learn, and pasting."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

FILTERS = 256
"""Filters of the transposed convolution."""


def head(cells: int, channels: int, classes: int, policy: Any) -> keras.Model:
    """Return the layers after conv5_x: f32[N,cells,cells,channels] -> logits f32[N,2*cells,2*cells,classes].

    A 2x2 transposed convolution with stride 2 and ReLU, and a 1x1 convolution with a mask of each class.
    """
    maps = keras.Input((cells, cells, channels))
    x = keras.layers.Conv2DTranspose(
        FILTERS, 2, strides=2, activation="relu", kernel_initializer="he_normal", name="upsampling", dtype=policy
    )(maps)
    initializer = keras.initializers.RandomNormal(stddev=0.001)
    x = keras.layers.Conv2D(classes, 1, kernel_initializer=initializer, name="logits", dtype="float32")(x)
    return keras.Model(maps, x, name="mask_head")


def of_class(values: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Return the masks of the given classes: f32[B,R,M,M,K], i32[B,R] from 1 -> f32[B,R,M,M]; class 1 for label 0."""
    values = tf.transpose(values, [0, 1, 4, 2, 3])
    return tf.gather(values, tf.maximum(labels - 1, 0), batch_dims=2)


def packed(masks: np.ndarray) -> np.ndarray:
    """Pack masks bool[G,H,W] to bits, eight columns a byte: u8[G,H,ceil(W/8)]."""
    return np.packbits(masks, axis=-1)


def unpacked(bits: tf.Tensor) -> tf.Tensor:
    """Return the masks of bits, the inverse of `packed`: u8[G,H,N] -> f32[G,H,8N]."""
    pixels = tf.bitwise.right_shift(bits[..., None], tf.constant([7, 6, 5, 4, 3, 2, 1, 0], tf.uint8))
    pixels = tf.cast(tf.bitwise.bitwise_and(pixels, tf.constant(1, tf.uint8)), tf.float32)
    shape = tf.shape(bits)
    return tf.reshape(pixels, [shape[0], shape[1], 8 * shape[2]])


def targets(bits: tf.Tensor, regions: tf.Tensor, index: tf.Tensor, size: int) -> tf.Tensor:
    """Return the mask that each region should predict: a cell is 1 if at least half of its area is in the object.

    Args:
        bits: u8[B,G,H,N], masks of the objects at the size of the images, `packed`.
        regions: f32[B,R,4] in pixels.
        index: i32[B,R], the object of each region.
        size: rows and columns of the masks.

    Returns:
        f32[B,R,size,size], 0 or 1.
    """

    def of_image(inputs: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tf.Tensor:
        objects, boxes, chosen = inputs
        pixels = unpacked(tf.gather(objects, chosen))
        top, left, bottom, right = tf.unstack(boxes, axis=-1)
        rows = _covered(top, bottom, size, tf.shape(pixels)[1])
        columns = _covered(left, right, size, tf.shape(pixels)[2])
        return tf.einsum("rmw,rnw->rmn", tf.einsum("rmh,rhw->rmw", rows, pixels), columns)

    # One image after the other, since the masks of all regions at full size are large.
    shape = tf.TensorSpec([regions.shape[1], size, size], tf.float32)
    shares = tf.map_fn(of_image, (bits, regions, index), parallel_iterations=1, fn_output_signature=shape)
    return tf.stop_gradient(tf.cast(shares >= 0.5, tf.float32))


def _covered(low: tf.Tensor, high: tf.Tensor, size: int, pixels: tf.Tensor) -> tf.Tensor:
    """The share of each cell that each pixel covers along one axis: f32[R] each -> f32[R,size,pixels]."""
    side = tf.maximum(high - low, 1e-3)[:, None] / size
    start = (low[:, None] + side * tf.range(size, dtype=tf.float32))[..., None]
    pixel = tf.range(tf.cast(pixels, tf.float32))
    shared = tf.minimum(start + side[..., None], pixel + 1.0) - tf.maximum(start, pixel)
    return tf.maximum(shared, 0.0) / side[..., None]


def paste(mask: np.ndarray, box: np.ndarray, size: tuple[int, int], thresh: float = 0.5) -> np.ndarray:
    """Paste the mask of a detection into its image: the pixels where the mask is at least `thresh`.

    The mask is interpolated bilinearly at the centers of the pixels, and is 0 outside its box.

    Args:
        mask: f32[M,M], probabilities.
        box: f64[4], top, left, bottom, right in pixels of the image.
        size: height and width of the image.
        thresh: lowest probability of a pixel of the object.

    Returns:
        bool[H,W].
    """
    pasted = np.zeros(size, bool)
    rows, row_weights = _interpolation(box[0], box[2], mask.shape[0], size[0])
    columns, column_weights = _interpolation(box[1], box[3], mask.shape[1], size[1])
    pasted[rows, columns] = row_weights @ mask.astype("float64") @ column_weights.T >= thresh
    return pasted


def _interpolation(low: float, high: float, cells: int, limit: int) -> tuple[slice, np.ndarray]:
    """The pixels whose centers are inside a box along one axis, and the weights of the cells in each: f64[n,cells]."""
    first, last = np.clip([np.ceil(low - 0.5), np.floor(high - 0.5) + 1], 0, limit).astype(int)
    centers = np.arange(first, last) + 0.5
    places = (centers - low) / max(high - low, 1e-9) * cells - 0.5
    return slice(first, last), np.maximum(1 - np.abs(places[:, None] - np.arange(cells)), 0)
