"""The fully convolutional form compared with the network itself."""

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.evaluation.dense import WindowAverage, fully_convolutional


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    stages = [(8, 1, 1), (16, 1, 2)]
    return keras_resnet.ResNet(stages, block="basic", stem="cifar", input_shape=(16, 16, 3), classes=5)


def test_an_image_of_the_networks_size_has_one_position(model, random):
    images = random.normal(size=(3, 16, 16, 3)).astype("float32")
    dense = fully_convolutional(model)(images)
    assert dense.shape == (3, 1, 1, 5)
    np.testing.assert_allclose(dense[:, 0, 0], model(images), atol=1e-6)


def test_positions_are_averages_over_windows(model, random):
    """By hand: the last maps, the mean of each 8x8 window of them, and the classifier."""
    image = random.normal(size=(1, 24, 20, 3)).astype("float32")
    backbone = keras_resnet.ResNet(
        [(8, 1, 1), (16, 1, 2)], block="basic", stem="cifar", include_top=False, input_shape=(None, None, 3)
    )
    kernel, bias = model.layers[-1].get_weights()
    backbone.set_weights(model.get_weights()[:-2])
    (maps,) = backbone(image).numpy()
    assert maps.shape[:2] == (12, 10)
    windows = np.lib.stride_tricks.sliding_window_view(maps, (8, 8), axis=(0, 1)).mean((-2, -1))
    logits = windows @ kernel + bias
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    dense = fully_convolutional(model)(image)
    assert dense.shape == (1, 5, 3, 5)
    np.testing.assert_allclose(dense[0], expected, atol=1e-5)


def test_the_model_stays_as_it_is(model, random):
    before = [weight.copy() for weight in model.get_weights()]
    fully_convolutional(model)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert model.get_layer("conv2_block1_out").output is not None


@pytest.mark.parametrize(("size", "expected"), [((4, 9), (2, 6)), ((2, 9), (1, 6))])
def test_window_average(random, size, expected):
    maps = random.normal(size=(2, *size, 3)).astype("float32")
    layer = WindowAverage((3, 4))
    assert layer(maps).shape == (2, *expected, 3)
    assert layer.compute_output_shape(maps.shape) == (2, *expected, 3)
    window = (min(3, size[0]), 4)
    by_hand = np.lib.stride_tricks.sliding_window_view(maps, window, axis=(1, 2)).mean((-2, -1))
    np.testing.assert_allclose(layer(maps), by_hand, atol=1e-6)


def test_other_networks_are_rejected():
    inputs = keras.Input((8, 8, 3))
    flat = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)), name="flat")
    with pytest.raises(ValueError, match="flat ends in Flatten and Dense"):
        fully_convolutional(flat)
