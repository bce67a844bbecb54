"""preprocess_input against keras.applications."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import compat, preprocess_input


@pytest.mark.parametrize("mode", ["caffe", "torch", "tf"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_equals_keras_applications(mode, dtype, random):
    x = random.integers(0, 256, size=(2, 4, 5, 3)).astype(dtype)
    expected = keras.applications.imagenet_utils.preprocess_input(x.astype("float32"), mode=mode)
    kept = x.copy()
    for value in (x, tf.constant(x), compat.cast(x, "float32")):
        result = preprocess_input(value, mode=mode)
        np.testing.assert_allclose(result, expected, atol=1e-4)
        assert np.asarray(result).dtype == np.float32
    np.testing.assert_array_equal(x, kept)


def test_type_follows_the_input():
    assert isinstance(preprocess_input(np.zeros((1, 1, 3))), np.ndarray)
    assert tf.is_tensor(preprocess_input(tf.zeros((1, 1, 3))))


def test_inside_a_model(random):
    inputs = keras.Input((4, 4, 3), dtype="uint8")
    model = keras.Model(inputs, preprocess_input(inputs, mode="torch"))
    x = random.integers(0, 256, size=(1, 4, 4, 3)).astype("uint8")
    np.testing.assert_allclose(model.predict_on_batch(x), preprocess_input(x, mode="torch"), atol=1e-6)


def test_unknown_mode():
    with pytest.raises(ValueError, match="mode must be one of 'caffe', 'torch', 'tf'; got 'inception'"):
        preprocess_input(np.zeros((1, 1, 3)), mode="inception")
