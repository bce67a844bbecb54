"""Integer networks against the formulas in NumPy, and against the float arithmetic that they round."""

import keras
import numpy as np
import pytest

from keras_resnet import quantization
from keras_resnet.errors import InputError
from keras_resnet.models.resnet import ResNet
from keras_resnet.models.submodels import submodel
from keras_resnet.quantization import integer
from keras_resnet.quantization.layers import Quantize
from tests.quantization.nets import NETS, network, normalized, pixels, prepared
from tests.serving.sources import MEAN, STD, pooled


def quantizer(scale, signed=True):
    layer = Quantize(signed)
    layer.build(())
    layer.start_at(scale)
    return layer


def test_an_addition_by_hand():
    # 10 * 0.5 + 3 * 0.25 = 5.75 and -4 * 0.5 + 1 * 0.25 = -1.75, in units of 0.5: 11.5 and -3.5, rounded up.
    layer = integer.IntegerAdd("add", [np.float32(0.5), np.float32(0.25)], quantizer(0.5))
    inputs = [np.float32([10, -4]).reshape(1, 1, 1, 2), np.float32([3, 1]).reshape(1, 1, 1, 2)]
    np.testing.assert_array_equal(np.ravel(layer(inputs)), [12, -3])
    assert layer.shift == 20
    assert layer.multipliers == [2**20, 2**19]


@pytest.mark.parametrize("signed", [True, False])
def test_an_addition_in_64_bits(signed, random):
    scales = np.float32([0.031, 0.0072])
    layer = integer.IntegerAdd("add", list(scales), quantizer(np.float32(0.027), signed))
    first, second = random.integers(-128, 256, (2, 1, 5, 5, 40))
    shift = 20 - int(np.floor(np.log2(scales.max() / np.float32(0.027))))
    factors = [int(np.rint(np.float64(scale / np.float32(0.027)) * 2**shift)) for scale in scales]
    expected = (first.astype("int64") * factors[0] + second * factors[1] + 2 ** (shift - 1)) >> shift
    limits = (-128, 127) if signed else (0, 255)
    outputs = layer([first.astype("float32"), second.astype("float32")])
    np.testing.assert_array_equal(outputs, np.clip(expected, *limits))


def test_a_mean(random):
    layer = integer.IntegerMean("mean", np.float32(0.5), quantizer(np.float32(0.2), signed=False))
    inputs = random.integers(0, 256, (2, 4, 4, 3)).astype("float32")
    expected = np.clip(np.rint(np.float32(inputs.sum((1, 2))) * (np.float32(0.5) / np.float32(0.2) / 16)), 0, 255)
    np.testing.assert_array_equal(layer(inputs), expected)


@pytest.mark.parametrize("options", NETS.values(), ids=NETS)
def test_it_computes_what_was_trained(options, random):
    net = prepared(network(None, **options), random)
    whole = quantization.integer_network(net)
    images = normalized(pixels(random, 8, net.input_shape[1]))
    # The first layers differ where float32 falls on the other side of a boundary only.
    first = net.get_layer("conv1_relu_int8")
    rounded = submodel(net, first.output).predict_on_batch(images) / first.scale_value()
    integers = submodel(whole, whole.get_layer("conv1_conv").output).predict_on_batch(images)
    assert np.mean(np.abs(integers - rounded) > 1e-2) < 2e-3
    assert np.abs(integers - rounded).max() < 1.01
    logits, expected = (model.predict_on_batch(images) for model in (whole, net))
    scale = net.get_layer("predictions_int8").scale_value()
    assert np.abs(logits - expected).max() <= 6.01 * scale
    np.testing.assert_allclose(logits / scale, np.rint(logits / scale), rtol=1e-6)
    assert quantization.is_integer(whole)
    assert not quantization.is_integer(net)


def test_a_batch_norm_with_negative_and_zero_factors(random):
    net = network(block="basic", shortcut=None)
    norm = net.get_layer("conv2_block1_1_bn")
    gamma = norm.gamma.numpy()
    gamma[:2] = -gamma[:2]
    gamma[2] = 0
    norm.gamma.assign(gamma)
    result = prepared(net, random)
    whole = quantization.integer_network(result)
    images = normalized(pixels(random, 4))
    np.testing.assert_allclose(whole.predict_on_batch(images), result.predict_on_batch(images), atol=0.05)
    weights = whole.get_layer("conv2_block1_1_conv").integers
    original = result.get_layer("conv2_block1_1_conv").integers()[0]
    np.testing.assert_array_equal(weights[..., :2], -original[..., :2])
    assert not weights[..., 2].any()
    np.testing.assert_array_equal(weights[..., 3:], original[..., 3:])


def test_sides_of_any_size(random):
    net = network(block="basic")
    flexible = ResNet([(16, 1, 1), (24, 2, 2)], stem="cifar", block="basic", input_shape=(None, None, 3), classes=5)
    flexible.set_weights(net.get_weights())
    fixed, free = prepared(net, np.random.default_rng(3)), quantization.prepare(flexible, MEAN, STD)
    free.set_weights(fixed.get_weights())
    images = normalized(pixels(random, 2))
    expected = quantization.integer_network(fixed).predict_on_batch(images)
    np.testing.assert_array_equal(quantization.integer_network(free).predict_on_batch(images), expected)


def test_features_are_real_numbers(random):
    result = prepared(pooled(network(block="basic")), random)
    images, models = normalized(pixels(random, 4)), (quantization.integer_network(result), result)
    features, expected = (model.predict_on_batch(images) for model in models)
    scale = result.get_layer("avg_pool_int8").scale_value()
    assert np.abs(features - expected).max() <= 4.01 * scale


def test_a_network_without_a_mean_is_refused():
    with pytest.raises(InputError, match="with the mean of its images"):
        quantization.integer_network(quantization.prepare(network(block="basic")))


def test_a_network_that_was_not_calibrated_or_is_integer_is_refused(random):
    net = network(block="basic")
    with pytest.raises(InputError, match=r"call quantization.calibrate first"):
        quantization.integer_network(quantization.prepare(net, MEAN, STD))
    result = quantization.integer_network(prepared(net, random))
    with pytest.raises(InputError, match=r"is an integer network already"):
        quantization.integer_network(result)


def test_a_network_that_diverged_is_refused(random):
    result = prepared(network(block="basic"), random)
    result.get_layer("predictions").bias.assign([1e12] * 5)
    with pytest.raises(InputError, match=r"that of 'predictions' is too large, as after training that diverged"):
        quantization.integer_network(result)


def test_it_is_a_keras_model_of_constants(random):
    whole = quantization.integer_network(prepared(network(block="basic"), random))
    assert isinstance(whole, keras.Model)
    assert not whole.trainable_variables
