"""Transforms of images and their labels: one geometry for both, bilinear for pixels and nearest neighbor for labels."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from keras_resnet.data.transforms import WholeImageTransform
from keras_resnet.ops import image
from keras_resnet.segmentation.choices import IGNORE_LABEL


@dataclasses.dataclass(frozen=True)
class TrainTransform(WholeImageTransform):
    """Scale an image and its labels at random, crop, mirror, and pad with the mean and with labels to ignore.

    Attributes:
        crop_size: height and width of the crop.
        scale_range: smallest and largest factor, drawn uniformly.
        base_size: the shorter side that the factors refer to; 0 for that of the image.
        mirror: mirror half of the images.
        pca_noise: standard deviation of AlexNet's color noise.
    """

    crop_size: tuple[int, int] = (513, 513)
    scale_range: tuple[float, float] = (0.5, 2.0)
    base_size: int = 0
    mirror: bool = True
    pca_noise: float = 0.0

    def __call__(self, pixels: tf.Tensor, label: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Transform an image and its labels.

        Args:
            pixels: u8[H,W,3].
            label: u8[H,W].
            seed: i32[2], which determines the result.

        Returns:
            (f32[h,w,3] normalized, u8[h,w]), where h, w is `crop_size`.
        """
        seeds = tf.random.split(seed, 2)
        draws = tf.random.stateless_uniform([4], seeds[0])
        size = tf.shape(label)
        scaled = self._scaled_size(size, draws[0])
        # A smaller image is at the top left of the crop.
        free = tf.maximum(scaled - tf.constant(self.crop_size), 0)
        offset = tf.minimum(tf.cast(draws[1:3] * tf.cast(free + 1, tf.float32), tf.int32), free)
        crop, valid = resize_pixels(pixels, scaled, offset, self.crop_size)
        noise = image.color_noise(1, self.pca_noise, seeds[1]) if self.pca_noise else None
        crop = image.normalize(crop[None], self.mean, self.std, noise)[0]
        crop = tf.where(valid[..., None], crop, 0.0)  # the mean
        label = resize_label(label, scaled, offset, self.crop_size)
        if self.mirror:
            mirrored = draws[3] < 0.5
            crop, label = image.mirror(crop, mirrored), image.mirror(label[..., None], mirrored)[..., 0]
        return tf.ensure_shape(crop, [*self.crop_size, 3]), tf.ensure_shape(label, self.crop_size)

    def _scaled_size(self, size: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
        """The size of the whole image after scaling, i32[2], for a draw in [0, 1)."""
        low, high = self.scale_range
        factor = low + draw * (high - low)
        if self.base_size:
            factor *= self.base_size / tf.cast(tf.reduce_min(size), tf.float32)
        return tf.maximum(tf.cast(tf.round(tf.cast(size, tf.float32) * factor), tf.int32), 1)


def resize_pixels(
    pixels: tf.Tensor, scaled: tf.Tensor, offset: tf.Tensor, crop: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Resize an image by antialiased bilinear interpolation and crop it.

    Args:
        pixels: u8[H,W,3].
        scaled: i32[2], height and width of the whole image after resizing.
        offset: i32[2], top and left of the crop in the resized image.
        crop: height and width of the crop, which may extend beyond the resized image at the bottom and right.

    Returns:
        (f32[h,w,3], bool[h,w] whether a pixel is in the image; the others are arbitrary).
    """
    scale = tf.cast(scaled, tf.float32) / tf.cast(tf.shape(pixels)[:2], tf.float32)
    window = tf.concat([tf.cast(offset, tf.float32) / scale, tf.constant(crop, tf.float32) / scale], 0)
    inside = [offset[axis] + tf.range(crop[axis]) < scaled[axis] for axis in (0, 1)]
    return image.resize_window(pixels, window, crop), inside[0][:, None] & inside[1][None]


def resize_label(label: tf.Tensor, scaled: tf.Tensor, offset: tf.Tensor, crop: tuple[int, int]) -> tf.Tensor:
    """Resize labels by nearest neighbor on the grid of `resize_pixels`, and crop them.

    Args:
        label: u8[H,W].
        scaled: as for `resize_pixels`.
        offset: as for `resize_pixels`.
        crop: as for `resize_pixels`.

    Returns:
        u8[h,w], `IGNORE_LABEL` outside the image.
    """
    size = tf.shape(label)
    for axis in (0, 1):
        position = offset[axis] + tf.range(crop[axis])
        # The pixel that contains the center of the resized one, (position + 1/2) * size / scaled, in whole numbers.
        nearest = (2 * position + 1) * size[axis] // (2 * scaled[axis])
        inside = position < scaled[axis]
        label = tf.gather(label, tf.minimum(nearest, size[axis] - 1), axis=axis)
        label = tf.where(inside[:, None] if axis == 0 else inside[None], label, tf.constant(IGNORE_LABEL, tf.uint8))
    return label
