"""The only pixel code: training, evaluation, serving and TFLite calibration all call these functions.

Everything works eagerly, inside `tf.data.Dataset.map` and inside exported signatures.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from keras_resnet.errors import InputError


def normalize(images: tf.Tensor, mean: Sequence[float], std: Sequence[float]) -> tf.Tensor:
    """Subtract the mean and divide by the standard deviation.

    Args:
        images: u8 or f32[...,C], values in [0, 255].
        mean: C numbers in [0, 255].
        std: C positive numbers in [0, 255].

    Returns:
        f32[...,C].
    """
    return (tf.cast(images, tf.float32) - tf.constant(mean, tf.float32)) / tf.constant(std, tf.float32)


def random_crop(images: tf.Tensor, pad: int, seed: tf.Tensor) -> tf.Tensor:
    """Pad each image with `pad` zeros a side and cut a random window of the original size (section 4.2).

    Args:
        images: [B,H,W,C] of any type.
        pad: pixels a side, at least 0.
        seed: i32[2], the draw is a pure function of it.

    Returns:
        [B,H,W,C], each image with its own offset, uniform over the (2 pad + 1)^2 windows.
    """
    batch, height, width = tf.unstack(tf.shape(images)[:3])
    padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    offsets = tf.random.stateless_uniform([2, batch, 1], seed, 0, 2 * pad + 1, tf.int32)
    rows = offsets[0] + tf.range(height)
    columns = offsets[1] + tf.range(width)
    cut = tf.gather(padded, rows, axis=1, batch_dims=1)
    cut = tf.gather(tf.transpose(cut, [0, 2, 1, 3]), columns, axis=1, batch_dims=1)
    return tf.transpose(cut, [0, 2, 1, 3])


def random_mirror(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mirror each image left to right with probability 1/2.

    Args:
        images: [B,H,W,C] of any type.
        seed: i32[2], the draw is a pure function of it.

    Returns:
        [B,H,W,C].
    """
    mirrored = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], seed) < 0.5
    return tf.where(mirrored, images[:, :, ::-1, :], images)


def read(path: str) -> tf.Tensor:
    """Read an image file as RGB, u8[H,W,3]; of an animation the first frame.

    Raises:
        ValueError: there is no such file, or it is not a JPEG, PNG, GIF, BMP or WebP image.
    """
    try:
        return tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    except (tf.errors.NotFoundError, tf.errors.FailedPreconditionError) as error:
        raise InputError(f"there is no image file {path!r}.") from error
    except tf.errors.InvalidArgumentError as error:
        raise InputError(f"{path!r} is not a JPEG, PNG, GIF, BMP or WebP image.") from error
