"""Operations on the pixels of images; training, evaluation, serving and TFLite calibration all call these functions.

Everything works eagerly, inside `tf.data.Dataset.map` and inside exported signatures. Images are RGB with values in
[0, 255]. Every random draw is a pure function of its `seed`, i32[2].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_resnet.ops import windows

# Principal components of ImageNet's RGB values on the [0, 1] scale: Krizhevsky et al. (2012), section 4.1, with the
# numbers of fb.resnet.torch (datasets/imagenet.lua).
PCA_EIGENVALUES = (0.2175, 0.0188, 0.0045)
PCA_EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


def resize_window(pixels: tf.Tensor, window: tf.Tensor, size: Sequence[int] | tf.Tensor) -> tf.Tensor:
    """Resize the part of an image in a window by antialiased bilinear interpolation.

    Equal to resizing the whole image and cropping, which is slower: pixels outside the window count at its borders.

    Args:
        pixels: u8 or f32[H,W,C], or images of one size [B,H,W,C].
        window: f32[4] or i32[4]; it may fall between pixels.
        size: height and width of the result.

    Returns:
        f32[size[0],size[1],C], or f32[B,size[0],size[1],C].
    """
    window = tf.cast(window, tf.float32)
    scale = tf.cast(size, tf.float32) / window[2:]
    single = len(pixels.shape) == 3
    resized = tf.raw_ops.ScaleAndTranslate(
        images=pixels[None] if single else pixels,
        size=tf.cast(size, tf.int32),
        scale=scale,
        translation=-window[:2] * scale,
        kernel_type="triangle",
        antialias=True,
    )
    return resized[0] if single else resized


def resize_shorter(pixels: tf.Tensor, shorter: int) -> tf.Tensor:
    """Resize a whole image so that its shorter side is `shorter`, u8 or f32[H,W,C] -> f32[h,w,C]."""
    size = tf.shape(pixels)[:2]
    return resize_window(pixels, windows.whole_window(size), windows.resized_size(size, shorter))


def fitted_size(size: tf.Tensor, shorter: int, longer: int) -> tf.Tensor:
    """Return the size at which the shorter side is `shorter`, or the longer side `longer` if that makes it smaller.

    Args:
        size: i32[2], height and width of the image.
        shorter: pixels of the shorter side; 600 in Faster R-CNN.
        longer: maximum of the longer side; 1000 in Faster R-CNN.

    Returns:
        i32[2], at least 1.
    """
    size = tf.cast(size, tf.float32)
    scale = tf.minimum(shorter / tf.reduce_min(size), longer / tf.reduce_max(size))
    return tf.maximum(tf.cast(tf.round(size * scale), tf.int32), 1)


def fit(pixels: tf.Tensor, shorter: int, longer: int) -> tf.Tensor:
    """Resize whole images to their `fitted_size` by antialiased bilinear interpolation.

    Args:
        pixels: u8 or f32[B,H,W,C].
        shorter: as for `fitted_size`.
        longer: as for `fitted_size`.

    Returns:
        f32[B,h,w,C].
    """
    return tf.image.resize(pixels, fitted_size(tf.shape(pixels)[1:3], shorter, longer), antialias=True)


def pad_to(images: tf.Tensor, canvas: Sequence[int] | tf.Tensor) -> tf.Tensor:
    """Pad images with zeros at the bottom and right: f32[B,H,W,C] -> f32[B,canvas[0],canvas[1],C]."""
    size = tf.shape(images)[1:3]
    return tf.pad(images, [[0, 0], [0, canvas[0] - size[0]], [0, canvas[1] - size[1]], [0, 0]])


def normalize(images: tf.Tensor, mean: Any, std: Any, noise: tf.Tensor | None = None) -> tf.Tensor:
    """Subtract the mean and divide by the standard deviation.

    Args:
        images: u8 or f32[B,H,W,C], values in [0, 255].
        mean: mean of each channel, C numbers in [0, 255], or of each pixel, [H,W,C].
        std: standard deviation of each channel, C positive numbers.
        noise: f32[B,C], first added to all pixels of each image, such as `color_noise`.

    Returns:
        f32[B,H,W,C].
    """
    height, width, channels = (images.shape[axis] or tf.shape(images)[axis] for axis in (1, 2, 3))
    mean, std = tf.constant(mean, tf.float32), tf.constant(std, tf.float32)
    # Rows of width * channels are several times faster than broadcasting over a last axis of three.
    mean = tf.tile(mean, [width]) if mean.shape.rank == 1 else tf.reshape(mean, [height, width * channels])
    if noise is not None:
        mean = mean - tf.tile(noise, [1, width])[:, None]
    rows = tf.cast(tf.reshape(images, [-1, height, width * channels]), tf.float32)
    return tf.reshape((rows - mean) * tf.tile(1.0 / std, [width]), [-1, height, width, channels])


def random_crop(images: tf.Tensor, pad: int, seed: tf.Tensor) -> tf.Tensor:
    """Pad each image with `pad` zeros per side and crop a random window of the original size (section 4.2).

    Args:
        images: [B,H,W,C] of any type.
        pad: pixels per side, at least 0.
        seed: i32[2].

    Returns:
        [B,H,W,C], each image with its own offset, uniform over the (2 pad + 1)^2 windows.
    """
    batch, height, width = tf.unstack(tf.shape(images)[:3])
    padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    offsets = tf.random.stateless_uniform([2, batch, 1], seed, 0, 2 * pad + 1, tf.int32)
    rows = offsets[0] + tf.range(height)
    columns = offsets[1] + tf.range(width)
    # One gather of whole pixels by their position in the flattened padded image.
    places = rows[:, :, None] * (width + 2 * pad) + columns[:, None, :]
    flat = tf.reshape(padded, [batch, -1, images.shape[-1]])
    return tf.ensure_shape(tf.gather(flat, places, axis=1, batch_dims=1), images.shape)


def mirror(images: tf.Tensor, mirrored: tf.Tensor | bool = True) -> tf.Tensor:
    """Mirror images left to right.

    Args:
        images: [...,H,W,C] of any type.
        mirrored: whether to mirror: bool[] for all images, or bool[B] for each of [B,H,W,C].

    Returns:
        A tensor of the same shape and type.
    """
    if isinstance(mirrored, bool):
        return tf.reverse(images, [-2]) if mirrored else images
    if mirrored.shape.rank == 0:
        return tf.cond(mirrored, lambda: mirror(images), lambda: images)
    return tf.where(mirrored[:, None, None, None], mirror(images), images)


def random_mirror(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mirror each image left to right with probability 1/2.

    Args:
        images: [B,H,W,C] of any type.
        seed: i32[2].

    Returns:
        [B,H,W,C].
    """
    return mirror(images, tf.random.stateless_uniform([tf.shape(images)[0]], seed) < 0.5)


def color_noise(batch: int | tf.Tensor, deviation: float, seed: tf.Tensor) -> tf.Tensor:
    """Draw color noise along ImageNet's principal components, to be added to all pixels of an image.

    This is AlexNet's augmentation (Krizhevsky et al., 2012, section 4.1), which the paper uses.

    Args:
        batch: number of images.
        deviation: standard deviation of the draws; 0.1 in AlexNet.
        seed: i32[2].

    Returns:
        f32[B,3] on the scale of [0, 255].
    """
    draws = tf.random.stateless_normal([batch, 3], seed, stddev=255.0 * deviation)
    return tf.matmul(draws * tf.constant(PCA_EIGENVALUES), tf.constant(PCA_EIGENVECTORS), transpose_b=True)
