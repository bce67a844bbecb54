"""Pixel functions against NumPy, eagerly and inside tf.data."""

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.ops import image


def both_ways(function, images):
    """Results of calling eagerly and of mapping a pipeline of one element; they must be the same."""
    eager = function(tf.constant(images)).numpy()
    mapped = next(tf.data.Dataset.from_tensors(images).map(function).as_numpy_iterator())
    np.testing.assert_array_equal(eager, mapped)
    return eager


def test_normalize(random):
    images = random.integers(0, 256, (2, 4, 5, 3)).astype("uint8")
    mean, std = (10.0, 20.0, 30.0), (2.0, 3.0, 4.0)
    result = both_ways(lambda x: image.normalize(x, mean, std), images)
    np.testing.assert_allclose(result, (images.astype("float64") - mean) / std, rtol=1e-6)


def test_random_crop_cuts_windows_of_the_padded_image(random):
    images = random.integers(1, 256, (64, 6, 7, 3)).astype("uint8")
    result = both_ways(lambda x: image.random_crop(x, 2, tf.constant([1, 2])), images)
    padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)])
    seen = set()
    for one, source in zip(result, padded, strict=True):
        found = [(i, j) for i in range(5) for j in range(5) if np.array_equal(source[i : i + 6, j : j + 7], one)]
        assert len(found) == 1
        seen.update(found)
    assert len(seen) > 15


def test_random_mirror(random):
    images = random.integers(0, 256, (200, 3, 4, 3)).astype("uint8")
    result = both_ways(lambda x: image.random_mirror(x, tf.constant([3, 4])), images)
    mirrored = [np.array_equal(one, source[:, ::-1]) for one, source in zip(result, images, strict=True)]
    same = [np.array_equal(one, source) for one, source in zip(result, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 70 < sum(mirrored) < 130


def test_draws_are_functions_of_the_seed(random):
    images = tf.constant(random.normal(size=(16, 6, 6, 3)))
    for function in (lambda seed: image.random_crop(images, 2, seed), lambda seed: image.random_mirror(images, seed)):
        np.testing.assert_array_equal(function([1, 2]), function([1, 2]))
        assert np.any(function([1, 2]) != function([1, 3]))


def test_read_says_what_is_wrong(tmp_path):
    (tmp_path / "text.jpg").write_text("not an image")
    with pytest.raises(ValueError, match="is not a JPEG, PNG"):
        image.read(str(tmp_path / "text.jpg"))
    with pytest.raises(ValueError, match="there is no image file"):
        image.read(str(tmp_path / "missing.jpg"))
