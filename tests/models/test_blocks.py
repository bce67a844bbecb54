"""Blocks compared with a NumPy reference."""

import keras
import numpy as np
import pytest

from keras_resnet.models import blocks
from tests import numpy_reference as reference


def randomize(model, random):
    """Randomize the parameters and statistics of batch norm."""
    for layer in model.layers:
        if layer.name.endswith("_bn"):
            gamma, beta, mean = random.normal(size=(3, layer.gamma.shape[0]))
            layer.set_weights([gamma, beta, mean, random.uniform(0.5, 2, size=gamma.shape)])


def unit(model, name, x, training, stride=1, dilation=1):
    """Compute the convolution and batch norm `name` of a model with NumPy."""
    (kernel,) = model.get_layer(f"{name}_conv").get_weights()
    gamma, beta, mean, variance = model.get_layer(f"{name}_bn").get_weights()
    x = reference.convolution(x, kernel, stride, dilation)
    return reference.batch_norm(x, gamma, beta, None if training else mean, None if training else variance)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("block", "shortcut", "stride", "options"),
    [
        ("basic", "A", 2, {}),
        ("basic", "A", 2, {"zero_channels": "after"}),
        ("basic", "B", 2, {}),
        ("basic", "B", 1, {"equal": True}),
        ("basic", "C", 1, {"equal": True}),
        ("basic", None, 2, {}),
        ("bottleneck", "B", 2, {}),
        ("bottleneck", "B", 2, {"stride_in_1x1": False}),
        ("bottleneck", "A", 1, {}),
    ],
)
def test_block_equals_numpy(block, shortcut, stride, options, training, random):
    options = dict(options)
    filters, channels = 6, 6 if options.pop("equal", False) else 4
    out = filters * blocks.EXPANSION[block]
    images = random.normal(size=(3, 7, 5, channels)).astype("float32")
    inputs = keras.Input(images.shape[1:])
    settings = blocks.BlockOptions(block, shortcut, **options)
    model = keras.Model(inputs, blocks.block(inputs, filters, stride, name="b", options=settings))
    randomize(model, random)

    x = images.astype("float64")
    if shortcut == "A":
        added = out - channels
        before = 0 if settings.zero_channels == "after" else added // 2
        identity = np.zeros((3, -(-7 // stride), -(-5 // stride), out))
        identity[..., before : before + channels] = x[:, ::stride, ::stride]
    elif shortcut is None:
        identity = 0
    elif shortcut == "C" or stride != 1 or channels != out:
        identity = unit(model, "b_0", x, training, stride)
    else:
        identity = x
    if block == "basic":
        y = reference.relu(unit(model, "b_1", x, training, stride))
        y = unit(model, "b_2", y, training)
    else:
        first, second = (stride, 1) if settings.stride_in_1x1 else (1, stride)
        y = reference.relu(unit(model, "b_1", x, training, first))
        y = reference.relu(unit(model, "b_2", y, training, second))
        y = unit(model, "b_3", y, training)
    expected = reference.relu(y + identity)

    np.testing.assert_allclose(model(images, training=training), expected, atol=1e-4)


def test_stage_can_be_applied_to_regions(random):
    """A detector applies conv5_x to pooled regions."""
    regions = keras.Input((14, 14, 1024))
    model = keras.Model(regions, blocks.stage(regions, 512, 3, 2, name="conv5"))
    assert model.output_shape == (None, 7, 7, 2048)
    assert model.layers[-1].name == "conv5_block3_out"
