"""What the tests of pixels share: sample images, their files, and calls both eagerly and in a pipeline."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image


def both_ways(function, images):
    """Results of calling eagerly and of mapping a pipeline of one element; they must be the same."""
    eager = function(tf.constant(images)).numpy()
    mapped = next(tf.data.Dataset.from_tensors(images).map(function).as_numpy_iterator())
    np.testing.assert_allclose(eager, mapped, atol=1e-3)
    return eager


def encoded(pixels, format, **options):
    """A file of pixels, u8[H,W,3], or of a Pillow image."""
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def smooth(height, width):
    """A photo-like image: waves of a few pixels' length in three colors."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 5) + np.cos(y / 7), np.sin((x + y) / 11), np.cos(x / 13 - y / 3)]
    return np.uint8(127 + 60 * np.stack(waves, axis=-1))
