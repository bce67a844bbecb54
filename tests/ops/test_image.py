"""Operations on pixels against NumPy, eagerly and inside tf.data."""

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.ops import image
from tests.ops.samples import both_ways


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("pixel_mean", [False, True])
def test_normalize(noise, pixel_mean, random):
    images = random.integers(0, 256, (2, 4, 5, 3)).astype("uint8")
    mean = random.uniform(0, 255, (4, 5, 3)) if pixel_mean else np.array([10.0, 20.0, 30.0])
    added = random.normal(size=(2, 3)).astype("float32") if noise else None
    std = (2.0, 3.0, 4.0)
    result = both_ways(lambda x: image.normalize(x, mean, std, added), images)
    expected = (images + (added[:, None, None] if noise else 0) - mean) / std
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


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


def test_color_noise_has_the_covariance_of_the_components():
    noise = image.color_noise(200_000, 0.1, tf.constant([1, 2])).numpy()
    vectors, values = np.array(image.PCA_EIGENVECTORS), np.array(image.PCA_EIGENVALUES)
    expected = (25.5**2) * vectors @ np.diag(values**2) @ vectors.T
    np.testing.assert_allclose(np.cov(noise.T), expected, atol=0.4)


def test_draws_are_functions_of_the_seed(random):
    images = tf.constant(random.normal(size=(16, 6, 6, 3)))
    for function in (
        lambda seed: image.random_crop(images, 2, seed),
        lambda seed: image.random_mirror(images, seed),
        lambda seed: image.color_noise(3, 0.1, seed),
    ):
        np.testing.assert_array_equal(function([1, 2]), function([1, 2]))
        assert np.any(function([1, 2]) != function([1, 3]))
