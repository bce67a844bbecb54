"""The transform of images for a detector: resizing, normalization and padding."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_resnet.detection.data.annotations import Annotation
from keras_resnet.ops import codecs, image


@dataclasses.dataclass(frozen=True)
class DetectionTransform:
    """Resize, normalize and pad images for a detector.

    Attributes:
        min_size: the shorter side in pixels; 600 in Faster R-CNN.
        max_size: largest longer side in pixels, which takes precedence; 1000 in Faster R-CNN.
        mean: mean of each channel, in [0, 255].
        std: standard deviation of each channel.
        multiple: the sides of padded images are multiples of this.
        exif: rotate JPEGs by their EXIF orientation.
    """

    min_size: int
    max_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    multiple: int = 16
    exif: bool = False

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width of an image of some size after resizing."""
        height, width = image.fitted_size(np.array(size, "int32"), self.min_size, self.max_size).numpy()
        return int(height), int(width)

    def padded_sizes(self, annotations: Sequence[Annotation]) -> dict[bool, tuple[int, int]]:
        """Return the smallest padded size, (height, width), of all portrait (True) and all landscape (False) images."""
        sizes: dict[bool, tuple[int, int]] = collections.defaultdict(lambda: (0, 0))
        for annotation in annotations:
            height, width = self.size(annotation.size)
            largest = sizes[annotation.is_portrait]
            sizes[annotation.is_portrait] = max(largest[0], height), max(largest[1], width)
        return {
            portrait: (self._rounded_up(height), self._rounded_up(width)) for portrait, (height, width) in sizes.items()
        }

    def decode(self, contents: tf.Tensor) -> tf.Tensor:
        """Decode an image file, string[] -> u8[H,W,3]; errors as for `codecs.decode`."""
        return (codecs.decode_upright if self.exif else codecs.decode)(contents)

    def resize_and_normalize(self, images: tf.Tensor) -> tf.Tensor:
        """Resize and normalize images of one size: u8[B,H,W,3] -> f32[B,h,w,3]."""
        return image.normalize(image.fit(images, self.min_size, self.max_size), self.mean, self.std)

    def pad(self, images: tf.Tensor) -> tf.Tensor:
        """Pad images f32[B,h,w,3] with zeros to multiples of `multiple`."""
        return image.pad_to(images, self._rounded_up(tf.shape(images)[1:3]))

    def batch(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return an image of any size, u8[H,W,3], as a batch of one: images f32[1,h,w,3] and image_size f32[1,2]."""
        resized = self.resize_and_normalize(pixels[None])
        return {"images": self.pad(resized), "image_size": tf.cast(tf.shape(resized)[1:3], tf.float32)[None]}

    def _rounded_up(self, sides: Any) -> Any:
        return -(-sides // self.multiple) * self.multiple
