"""The first scales of activations."""

import numpy as np
import pytest

from keras_resnet import quantization
from keras_resnet.errors import InputError
from keras_resnet.models.submodels import submodel
from keras_resnet.quantization import rounding
from tests.quantization.nets import network, normalized, pixels, prepared
from tests.serving.sources import MEAN, STD


def test_scales_are_those_with_the_least_error_on_the_float_activations(random):
    net = network(block="basic")
    images = normalized(pixels(random, 8))
    result = quantization.prepare(net, MEAN, STD)
    quantization.calibrate(result, [images[:4], images[4:]])
    # The first convolution has rounded weights, but inputs without rounding: whole pixels.
    activations = submodel(result, result.get_layer("conv1_relu").output).predict_on_batch(images)
    expected = rounding.best_scales(activations.reshape(-1, 1), (0, 255))[0]
    np.testing.assert_allclose(result.get_layer("conv1_relu_int8").scale_value(), expected, rtol=0.03)
    assert all(layer.scale_value() > 0 for layer in result.layers if hasattr(layer, "signed"))


def test_refusals(random):
    net = network(block="basic")
    with pytest.raises(InputError, match="it has no scale to calibrate"):
        quantization.calibrate(net, [])
    with pytest.raises(InputError, match="at least one image"):
        quantization.calibrate(prepared(net, random), [])


def test_batches_that_are_not_normalized_images(random):
    model = prepared(network(block="basic"), random)
    images = normalized(pixels(random, 2))
    for batch, got in [
        ((images, np.zeros(2)), "a tuple"),
        (images[0], r"float32\[16, 16, 3\]"),
        (images[:0], r"float32\[0, 16, 16, 3\]"),
        (images[..., :1], r"float32\[2, 16, 16, 1\]"),
        (images[:, :8], r"float32\[2, 8, 16, 3\]"),
        (pixels(random, 2), r"uint8\[2, 16, 16, 3\]"),
        (images * np.nan, "values that are not finite"),
    ]:
        with pytest.raises(
            InputError, match=rf"batches must be of normalized images, float32\[B,16,16,3\].*; got {got}"
        ):
            quantization.calibrate(model, [batch])
