"""Networks that are prepared for int8: what is rounded, and that the float network is inside."""

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import quantization
from keras_resnet.errors import InputError
from keras_resnet.quantization.layers import Quantize, QuantizedConv2D
from tests.quantization.nets import NETS, network, normalized, pixels, prepared
from tests.serving.sources import MEAN, STD


@pytest.mark.parametrize("options", NETS.values(), ids=NETS)
def test_it_computes_nearly_the_same_and_restores_the_float_network(options, random):
    net = network(None, **options)
    before = net.get_weights()
    result = prepared(net, random)
    images = normalized(pixels(random, 6, net.input_shape[1]))
    logits, expected = (model.predict_on_batch(images) for model in (result, net))
    # The classifier of these networks amplifies small differences of the features.
    assert 0 < np.sqrt(np.mean(np.square(logits - expected))) < 0.6 * expected.std()
    assert np.corrcoef(logits.ravel(), expected.ravel())[0, 1] > 0.85
    other = network(None, **options)
    for variable in other.weights:
        variable.assign(np.zeros(variable.shape))
    quantization.restore(other, result)
    for ours, theirs in zip(other.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_every_tensor_of_the_file_has_a_scale(random):
    layers = [layer for layer in prepared(network(block="basic"), random).layers if isinstance(layer, Quantize)]
    signed = {layer.name: layer.signed for layer in layers}
    assert set(signed) == {
        "conv1_relu_int8",
        "conv2_block1_1_relu_int8",
        "conv2_block1_2_bn_int8",
        "conv2_block1_out_int8",
        "conv3_block1_0_bn_int8",
        "conv3_block1_1_relu_int8",
        "conv3_block1_2_bn_int8",
        "conv3_block1_out_int8",
        "conv3_block2_1_relu_int8",
        "conv3_block2_2_bn_int8",
        "conv3_block2_out_int8",
        "avg_pool_int8",
        "predictions_int8",
    }
    assert not signed["conv1_relu_int8"]
    assert not signed["avg_pool_int8"]
    assert signed["conv2_block1_2_bn_int8"]
    assert signed["predictions_int8"]


def test_weights_of_few_bits_are_those_between_the_first_and_the_last_layer(random):
    result = prepared(network(block="basic"), random, weight_bits=4)
    bits = {layer.name: layer.weight_bits for layer in result.layers if isinstance(layer, QuantizedConv2D)}
    assert bits.pop("conv1_conv") == 8
    assert set(bits.values()) == {4}
    assert np.abs(result.get_layer("conv2_block1_1_conv").integers()[0]).max() == 7


def test_without_a_mean_the_images_are_rounded_as_they_are(random):
    result = quantization.prepare(network(block="basic"))
    assert result.get_layer("input_int8").signed


def test_a_model_learns_by_fit(random):
    net = network(None, block="basic")
    result = prepared(net, random)
    labels = random.integers(0, 5, 32)
    images = normalized(np.clip(pixels(random, 32) // 2 + 25 * labels[:, None, None, None], 0, 255))
    result.compile(
        keras.optimizers.SGD(0.01, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    losses = result.fit(images, labels, batch_size=16, epochs=6, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    ratios = [layer.log_ratio.numpy() for layer in result.layers if hasattr(layer, "log_ratio")]
    assert any(np.abs(ratio).max() > 0 for ratio in ratios)
    assert max(np.abs(ratio).max() for ratio in ratios) < 1


def test_it_survives_saving(random, tmp_path):
    result = prepared(network(block="basic"), random)
    result.save(tmp_path / "prepared.keras")
    loaded = keras.models.load_model(tmp_path / "prepared.keras")
    images = normalized(pixels(random, 3))
    np.testing.assert_array_equal(loaded.predict_on_batch(images), result.predict_on_batch(images))


def refused(case):
    """Arguments that cannot be prepared."""
    inputs = keras.Input((8, 8, 3))
    if case == "a layer that int8 files lack":
        outputs = keras.layers.LayerNormalization(name="norm")(keras.layers.Conv2D(3, 1)(inputs))
        return (keras.Model(inputs, outputs),), {}, "'norm' is a LayerNormalization"
    if case == "half precision":
        net = keras_resnet.ResNet20(input_shape=(32, 32, 3), dtype="mixed_bfloat16")
        return (net, MEAN, STD), {}, "must compute in float32; 'conv1_conv' computes in bfloat16"
    if case == "no convolution":
        return (keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs)),), {}, "has no convolution"
    net = keras.Model(inputs, keras.layers.Conv2D(3, 3)(inputs))
    if case == "a mean of each pixel":
        return (
            (net, np.zeros((8, 8, 3))),
            {},
            r"mean must have 3 numbers, .*; its shape is \(8, 8, 3\)",
        )
    return (net,), {"weight_bits": 1}, "weight_bits must be from 2 to 8; got 1"


@pytest.mark.parametrize(
    "case",
    ["a layer that int8 files lack", "half precision", "no convolution", "a mean of each pixel", "one bit"],
)
def test_refusals(case):
    arguments, options, message = refused(case)
    with pytest.raises(InputError, match=message):
        quantization.prepare(*arguments, **options)
