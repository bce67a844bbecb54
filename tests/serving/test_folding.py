"""Folding keeps the function of a network."""

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import compat
from keras_resnet.ops import image
from keras_resnet.serving import folding
from tests.serving.sources import MEAN, STD, settle

NETS = {
    "basic with option A": {"block": "basic", "shortcut": "A"},
    "bottleneck with option C": {"block": "bottleneck", "shortcut": "C"},
    "plain": {"block": "basic", "shortcut": None},
    "stride in the 3x3": {"block": "bottleneck", "stride_in_1x1": False},
    "dilated": {"block": "basic", "output_stride": 1},
}


@pytest.mark.parametrize("options", NETS.values(), ids=NETS)
def test_folded_networks_compute_the_same(options, random):
    net = keras_resnet.ResNet([(16, 1, 1), (24, 2, 2)], stem="cifar", input_shape=(8, 8, 3), classes=3, **options)
    settle(net)
    before = net.get_weights()
    folded = folding.fold(net)
    images = random.normal(size=(5, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(folded(images), net(images), atol=1e-5)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in folded.layers)
    assert folded.count_params() < net.count_params()
    for old, new in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_worked_example():
    # One 1x1 convolution by 2 and a batch norm: 3 (2x - 1) / sqrt(3.99 + 0.01) + 5 = 3x + 3.5.
    inputs = keras.Input((2, 2, 1))
    convolution = keras.layers.Conv2D(1, 1, use_bias=False, name="c")
    norm = keras.layers.BatchNormalization(epsilon=0.01, name="n")
    net = keras.Model(inputs, norm(convolution(inputs)))
    convolution.set_weights([np.full((1, 1, 1, 1), 2.0)])
    norm.set_weights([np.array([value]) for value in (3.0, 5.0, 1.0, 3.99)])
    kernel, bias = folding.fold(net).get_layer("c").get_weights()
    np.testing.assert_allclose(kernel.item(), 3.0, rtol=1e-6)
    np.testing.assert_allclose(bias, [3.5], rtol=1e-6)


def test_a_convolution_with_several_readers_keeps_its_batch_norm(random):
    inputs = keras.Input((4, 4, 2))
    shared = keras.layers.Conv2D(2, 3, padding="same", use_bias=False)(inputs)
    net = keras.Model(inputs, keras.layers.Add()([shared, keras.layers.BatchNormalization(name="n")(shared)]))
    net.get_layer("n").set_weights([random.uniform(0.5, 2, size=2) for _ in range(4)])
    images = random.normal(size=(2, 4, 4, 2)).astype("float32")
    folded = folding.fold(net)
    assert folded.get_layer("n") is not None
    np.testing.assert_allclose(folded(images), net(images), atol=1e-6)


def test_a_network_deeper_than_pythons_recursion_limit():
    net = keras_resnet.ResNet([(16, 40, 1)] * 3, block="basic", stem="cifar", input_shape=(8, 8, 3), classes=2)
    assert sum("_bn" in layer.name for layer in folding.fold(net).layers) == 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_weights(dtype, random):
    net = settle(keras_resnet.ResNet([(4, 1, 1)], block="basic", stem="cifar", input_shape=(8, 8, 3), classes=3))
    folded = folding.fold(net, dtype)
    kinds = {layer.name: compat.standardize_dtype(layer.weights[0].dtype) for layer in folded.layers if layer.weights}
    assert kinds.pop("predictions") == "float32"
    assert set(kinds.values()) == {dtype}
    images = random.normal(size=(5, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(folded(images), net(images), atol=0.03)
    with pytest.raises(ValueError, match="dtype must be one of 'float32', 'float16', 'bfloat16'; got 'int8'"):
        folding.fold(net, "int8")


@pytest.mark.parametrize(("stem", "side"), [("cifar", 8), ("imagenet", 32)])
def test_normalization_folds_into_the_first_convolution(stem, side, random):
    net = settle(keras_resnet.ResNet([(4, 1, 1)], block="basic", stem=stem, input_shape=(side, side, 3), classes=3))
    folded = folding.fold_normalization(folding.fold(net), MEAN, STD)
    images = random.integers(0, 256, (4, side, side, 3)).astype("float32")
    # Exact for a mean of whole numbers, which those of the test are.
    np.testing.assert_allclose(folded(images), net(image.normalize(images, MEAN, STD)), atol=1e-5)
