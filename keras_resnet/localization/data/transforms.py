"""Transforms of images and the boxes in them: random crops that keep a box."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from keras_resnet.data.transforms import WholeImageTransform
from keras_resnet.ops import boxes as box_ops
from keras_resnet.ops import image, windows

TRIES = 10
"""Random windows that are drawn for an image."""


@dataclasses.dataclass(frozen=True)
class TrainTransform(WholeImageTransform):
    """Crop an image at random so that the crop keeps a box, and mirror it.

    Windows are those of the paper's classifiers (section 3.4): square, after the shorter side is resized to a random
    length. The first of ten random windows that keeps a box is taken. If none does, the window is that of the shortest
    length, centered on a random box as far as the image allows.

    Attributes:
        crop_size: side of the crop in pixels.
        scale_range: smallest and largest shorter side of the resized image, drawn uniformly. Where a crop extends
            beyond the image, its pixels are the mean: below `crop_size`, the image is at a random place in the crop.
        min_coverage: part of the area of a box that a crop must contain to keep it.
        mirror: mirror half of the images left to right.
        pca_noise: standard deviation of AlexNet's color noise.
    """

    crop_size: int = 224
    scale_range: tuple[int, int] = (256, 480)
    min_coverage: float = 0.5
    mirror: bool = True
    pca_noise: float = 0.0

    def __call__(self, pixels: tf.Tensor, boxes: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Transform an image and its boxes.

        Args:
            pixels: u8[H,W,3].
            boxes: f32[M,4] in pixels of the image; rows without an area are padding.
            seed: i32[2], which determines the result.

        Returns:
            (f32[S,S,3] normalized, f32[M,4] in pixels of the crop and clipped to it): zeros are padding, and boxes that
            the crop does not keep. With a box in the image there is one in the crop.
        """
        seeds = tf.random.split(seed, 3)
        size = tf.shape(pixels)[:2]
        boxes = box_ops.clip(boxes[None], tf.cast(size, tf.float32)[None])[0]
        window, kept = self._window(size, boxes, seeds[0])
        crop = image.resize_window(pixels, window, (self.crop_size, self.crop_size))
        inside = self._inside(size, window)
        boxes = tf.where(kept[:, None], self._moved(boxes, window), 0.0)
        if self.mirror:
            mirrored = tf.random.stateless_uniform([], seeds[1]) < 0.5
            crop, inside = image.mirror(crop, mirrored), image.mirror(inside, mirrored)
            flipped = box_ops.mirror(boxes, tf.fill([2], float(self.crop_size)))
            boxes = tf.where(mirrored & kept[:, None], flipped, boxes)
        noise = image.color_noise(1, self.pca_noise, seeds[2]) if self.pca_noise else None
        crop = tf.where(inside, image.normalize(crop[None], self.mean, self.std, noise)[0], 0.0)  # 0 is the mean
        return tf.ensure_shape(crop, [self.crop_size, self.crop_size, 3]), boxes

    def _window(self, size: tf.Tensor, boxes: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The window of the crop, f32[4], and which boxes it keeps, bool[M]."""
        seeds = tf.random.split(seed, 2)
        drawn = windows.scale_windows(size, self.crop_size, self.scale_range, seeds[0], TRIES)
        candidates = tf.cast(tf.concat([drawn, self._centered(size, boxes, seeds[1])[None]], 0), tf.float32)
        coverage = box_ops.coverage(boxes, tf.concat([candidates[:, :2], candidates[:, :2] + candidates[:, 2:]], 1))
        best = tf.reduce_max(coverage, 0)
        keeps = best >= self.min_coverage
        chosen = tf.where(tf.reduce_any(keeps), tf.argmax(keeps), tf.constant(TRIES, tf.int64))
        covered = coverage[:, chosen]
        return candidates[chosen], (covered > 0) & (covered >= tf.minimum(self.min_coverage, best[chosen]))

    def _centered(self, size: tf.Tensor, boxes: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """The window of the shortest length that is centered on a random box, or on padding without one: i32[4]."""
        side = tf.cast(self.crop_size * tf.reduce_min(size) / self.scale_range[0], tf.int32)
        places = tf.where(box_ops.area(boxes) > 0)[:, 0]
        draw = tf.random.stateless_uniform([], seed) * tf.cast(tf.size(places), tf.float32)
        box = tf.cond(tf.size(places) > 0, lambda: boxes[places[tf.cast(draw, tf.int32)]], lambda: tf.zeros([4]))
        offset = tf.cast((box[:2] + box[2:] - tf.cast(side, tf.float32)) / 2, tf.int32)
        free = size - side
        return tf.concat([tf.clip_by_value(offset, tf.minimum(free, 0), tf.maximum(free, 0)), [side, side]], 0)

    def _inside(self, size: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
        """Which pixels of the crop have their center in the image, bool[S,S,1]."""
        place = (tf.range(self.crop_size, dtype=tf.float32) + 0.5) * (window[2] / self.crop_size)
        places = [place + window[axis] for axis in (0, 1)]
        rows, columns = ((places[axis] >= 0) & (places[axis] <= tf.cast(size[axis], tf.float32)) for axis in (0, 1))
        return (rows[:, None] & columns[None])[..., None]

    def _moved(self, boxes: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
        """Boxes of the image in pixels of the crop, clipped to it."""
        corner = tf.concat([window[:2], window[:2]], 0)
        return tf.clip_by_value((boxes - corner) * (self.crop_size / window[2]), 0.0, float(self.crop_size))
