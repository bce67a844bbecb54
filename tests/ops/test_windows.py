"""Windows against their definitions, Pillow and NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet.ops import image, windows
from tests.ops.samples import both_ways, smooth


def test_draws_are_functions_of_the_seed():
    size = tf.constant([300, 400])
    for function in (
        lambda seed: windows.scale_window(size, 224, (256, 480), seed),
        lambda seed: windows.inception_window(size, seed),
    ):
        np.testing.assert_array_equal(function([1, 2]), function([1, 2]))
        assert np.any(function([1, 2]) != function([1, 3]))


def test_scale_window_has_the_papers_distribution():
    """The side of the window is 224 of a shorter side uniform in [256, 480]; every place is reached."""
    draw = tf.function(lambda i: windows.scale_window(tf.constant([300, 400]), 224, (256, 480), tf.stack([5, i])))
    drawn = np.array([draw(tf.constant(i)).numpy() for i in range(2000)])
    short = 224 * 300 / drawn[:, 2]
    assert 255 < short.min() < 258
    assert 476 < short.max() < 484
    assert abs(short.mean() - 368) < 6
    assert (drawn[:, 2] == drawn[:, 3]).all()
    assert (drawn[:, 0] >= 0).all()
    assert (drawn[:, 0] + drawn[:, 2] <= 300).all()
    assert (drawn[:, 1] + drawn[:, 3] <= 400).all()
    assert (drawn[:, 1] + drawn[:, 3]).max() == 400
    assert drawn[:, :2].min(axis=0).tolist() == [0, 0]


def test_inception_window_stays_inside_and_in_range():
    draw = tf.function(lambda size, i: windows.inception_window(size, tf.stack([7, i])))
    for height, width in ((300, 400), (40, 900), (1, 1), (5, 2000)):
        for i in range(50):
            top, left, h, w = draw(tf.constant([height, width]), tf.constant(i)).numpy()
            assert h >= 1
            assert w >= 1
            assert top >= 0
            assert left >= 0
            assert top + h <= height
            assert left + w <= width
    areas = [np.prod(draw(tf.constant([300, 400]), tf.constant(i)).numpy()[2:]) / 120_000 for i in range(500)]
    assert 0.07 < min(areas) < 0.15
    assert max(areas) > 0.9


@pytest.mark.parametrize("size", [(300, 400), (401, 333), (224, 224), (97, 1000)])
def test_center_view_equals_pillow(size):
    """Resize by torchvision's rule and crop the center: within a gray level of Pillow, on average well below."""
    pixels = smooth(*size)
    short = min(size)
    height, width = (side * 256 // short for side in size)
    resized = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
    top, left = round((height - 224) / 2), round((width - 224) / 2)
    expected = resized[top : top + 224, left : left + 224].astype("float32")
    window = windows.center_window(tf.constant(size), 224, 256)
    result = both_ways(lambda x: image.resize_window(x, window, (224, 224)), pixels)
    difference = np.abs(result - expected)
    assert difference.mean() < 0.5
    assert difference.max() <= 2.1  # Pillow rounds to whole gray levels twice
