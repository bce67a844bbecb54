"""Networks that are prepared for int8: what is rounded, and that the float network is inside."""

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import quantization
from keras_resnet.errors import InputError
from keras_resnet.models import weights
from keras_resnet.models.weights.convert import convert
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


def chain(*layers):
    """A model of the layers in turn."""
    inputs = outputs = keras.Input((8, 8, 3))
    for layer in layers:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs, name="net")


def convolution(**options):
    return keras.layers.Conv2D(4, 3, name="conv", **options)


SHARED = keras.layers.Conv2D(4, 3, name="shared", padding="same")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([convolution(activation="relu")], "'conv' has an activation, which must be a layer of its own"),
        ([convolution(dilation_rate=2)], "'conv' has groups or a dilation"),
        ([convolution(), keras.layers.Conv2D(4, 1, groups=2, name="two")], "'two' has groups or a dilation"),
        ([convolution(data_format="channels_first")], "'conv' has channels first"),
        ([convolution(), keras.layers.ReLU(6.0, name="six")], "'six' has a largest value, a slope or a threshold"),
        ([convolution(), keras.layers.ReLU(negative_slope=0.1, name="leaky")], "'leaky' has a largest value, a slope"),
        ([keras.layers.BatchNormalization(name="norm"), convolution()], "'norm' does not follow a convolution"),
        (
            [convolution(), keras.layers.ReLU(), keras.layers.BatchNormalization(name="norm")],
            "'norm' does not follow a convolution",
        ),
        ([convolution(strides=2, padding="same")], "pad all sides of the images equally; 'conv' with padding 'same'"),
        ([keras.layers.Conv2D(4, 2, padding="same", name="conv")], "pad all sides .*; 'conv' with padding 'same'"),
        ([keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name="pad"), convolution()], "pad all sides .*; 'pad' does not"),
        ([convolution(), SHARED, keras.layers.ReLU(), SHARED, keras.layers.ReLU()], "model must call each layer once"),
    ],
)
def test_layers_that_would_be_computed_otherwise(layers, message):
    with pytest.raises(InputError, match=message):
        quantization.prepare(chain(*layers), MEAN, STD)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (MEAN, (1.0, 1.0), r"std must have 3 numbers, one for each channel; its shape is \(2,\)"),
        (MEAN, (1.0, 0.0, 1.0), "mean must be finite and std above 0"),
        ((np.nan,) * 3, STD, "mean must be finite and std above 0"),
        (None, STD, "std requires mean"),
    ],
)
def test_other_normalizations(mean, std, message):
    with pytest.raises(InputError, match=message):
        quantization.prepare(chain(convolution()), mean, std)


def test_models_of_other_kinds():
    sequential = keras.Sequential([keras.Input((8, 8, 3)), convolution(), keras.layers.ReLU()])
    result = quantization.prepare(sequential, MEAN, STD)
    quantization.restore(sequential, result)
    for model in (result, keras.models.clone_model(result)):
        with pytest.raises(InputError, match=r"model must be a float network; .* is from quantization.prepare"):
            quantization.prepare(model, MEAN, STD)
    for model in ("resnet20", keras.Sequential([convolution()])):
        with pytest.raises(InputError, match=r"must be a functional or built sequential model; got a (str|Sequential)"):
            quantization.prepare(model, MEAN, STD)


def test_a_file_of_a_network_for_int8_does_not_fit_a_float_network(random, tmp_path):
    net = network(block="basic")
    path = tmp_path / "int8.weights.h5"
    weights.save(prepared(net, random), path)
    for use in (lambda: weights.load(net, path), lambda: convert(path, tmp_path / "float.safetensors")):
        with pytest.raises(InputError, match=r"it has the weights of a run with quantize; use the float network"):
            use()
