"""Warped crops of proposals."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet.localization.data import crops

PIXELS = np.random.default_rng(0).normal(size=(40, 60, 3)).astype("float32")


def test_each_crop_is_the_resized_part():
    boxes = np.array([[0, 0, 40, 60], [10, 5, 34, 53], [8, 8, 16, 16]], "float32")
    warped = crops.warp(tf.constant(PIXELS), tf.constant(boxes), 16).numpy()
    for crop, (top, left, bottom, right) in zip(warped, boxes.astype(int), strict=True):
        for channel in range(3):
            part = Image.fromarray(PIXELS[top:bottom, left:right, channel])
            expected = np.asarray(part.resize((16, 16), Image.Resampling.BILINEAR))
            np.testing.assert_allclose(crop[2:-2, 2:-2, channel], expected[2:-2, 2:-2], atol=1e-5)


def test_context_is_around_the_box_and_zero_outside_the_image():
    warped = crops.warp(tf.ones([40, 60, 1]), tf.constant([[0.0, 0, 24, 24], [8, 8, 32, 32]]), 32, 4).numpy()[..., 0]
    assert not warped[0, :4].any()
    assert not warped[0, :, :4].any()
    assert np.all(warped[0, 4:, 4:] > 0.99)
    assert np.all(warped[1] > 0.99)
    window = crops.warp(tf.constant(PIXELS), tf.constant([[4.0, 4, 36, 36]]), 32).numpy()
    np.testing.assert_allclose(
        crops.warp(tf.constant(PIXELS), tf.constant([[8.0, 8, 32, 32]]), 32, 4), window, atol=1e-5
    )


@pytest.mark.parametrize("box", [[5, 5, 5, 5], [5, 5, 4, 4], [39, 59, 39.2, 59.5]])
def test_tiny_boxes_are_finite(box):
    warped = crops.warp(tf.constant(PIXELS), tf.constant([box], tf.float32), 8).numpy()
    assert np.isfinite(warped).all()
    assert warped.any()
