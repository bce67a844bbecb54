"""Copies of networks with Keras' own layers, and saved files in a process that has this package or has it not."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import compat
from tests.models import saved_networks

ROOT = pathlib.Path(__file__).parents[2]
KERAS_3 = hasattr(keras, "ops")


def small(**options):
    options = {"block": "basic", "stem": "cifar", "input_shape": (32, 32, 3), "classes": 3, **options}
    return keras_resnet.ResNet([(16, 1, 1), (24, 1, 2), (24, 1, 1)], **options)


MODELS = {
    "option_a_after": lambda: small(shortcut="A", zero_channels="after", classifier_activation=None),
    "option_c": lambda: small(shortcut="C", stem="imagenet", block="bottleneck"),
    "any_size": lambda: small(shortcut="A", input_shape=(None, None, 3)),
    "plain": lambda: small(shortcut=None),
    "pyramid": lambda: small(shortcut="A", features_only=True),
    "dilated": lambda: small(output_stride=1),
}
if KERAS_3:
    MODELS["stochastic"] = lambda: small(shortcut="A", drop_path_rate=0.5)
    MODELS["recompute"] = lambda: small(recompute=True)


@pytest.mark.slow
def test_saved_files_load_with_this_package_and_without_it(tmp_path):
    saved_networks.write(tmp_path, {name: make() for name, make in MODELS.items()})
    command = [sys.executable, str(ROOT / "tests/models/saved_networks.py"), "check", str(tmp_path)]
    result = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines() if ".keras " in line]
    assert {name for name, *_ in rows} == {f"{name}.{kind}.keras" for name in MODELS for kind in ("own", "stock")}
    for name, difference, modules in rows:
        assert float(difference) <= 1e-5, name
        assert "keras_resnet" not in modules or ".own." in name, name


def test_the_copy_is_independent_and_named_as_the_network():
    model = small(shortcut="A")
    stock = keras_resnet.to_keras(model)
    assert (stock.name, stock.count_params()) == (model.name, model.count_params())
    assert {layer.name for layer in model.layers} <= {layer.name for layer in stock.layers}
    before = model.get_weights()
    stock.set_weights([value + 1 for value in stock.get_weights()])
    for one, two in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_copy_learns_the_same(random):
    images, labels = random.normal(size=(8, 32, 32, 3)).astype("float32"), np.arange(8) % 3
    keras.utils.set_random_seed(0)
    model = small(shortcut="A")
    ends = []
    for network in (keras_resnet.to_keras(model), model):
        # At ten times this rate, a ReLU on the other side of 0 would grow to 1e-3 with some weights.
        network.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
        network.fit(images, labels, batch_size=4, epochs=2, shuffle=False, verbose=0)
        ends.append({compat.path(variable): variable.numpy() for variable in network.weights})
    for name, ours in ends[1].items():
        # The fused kernel of Keras 2 keeps the unbiased variance of n values: n / (n - 1) of ours.
        rtol = 1e-3 if not KERAS_3 and "moving_variance" in name else 1e-7
        np.testing.assert_allclose(ends[0][name], ours, rtol=rtol, atol=1e-4, err_msg=name)


@pytest.mark.skipif(not KERAS_3, reason="Keras 2 has the layer of tensorflow-addons")
def test_the_copy_skips_the_same_share_of_blocks(random):
    """In training, the residual of a batch is either added whole or not at all; at inference it is scaled."""
    inputs = [keras.Input((4, 4, 2)), keras.Input((4, 4, 2))]
    layer = keras_resnet.models.layers.StochasticDepth(0.75, name="depth")
    stock = keras_resnet.to_keras(keras.Model(inputs, layer(inputs)))
    shortcut, residual = np.float32(random.normal(size=(2, 3, 4, 4, 2)))
    np.testing.assert_allclose(stock([shortcut, residual]), shortcut + 0.75 * residual, atol=1e-6)
    results = [np.asarray(stock([shortcut, residual], training=True)) for _ in range(200)]
    kept = [np.allclose(result, shortcut + residual, atol=1e-5) for result in results]
    skipped = [np.allclose(result, shortcut, atol=1e-5) for result in results]
    assert all(one != other for one, other in zip(kept, skipped, strict=True))
    assert 0.6 < np.mean(kept) < 0.9


def test_other_models_are_refused():
    from keras_resnet.evaluation import dense

    with pytest.raises(ValueError, match="layer 'window_pool' is a WindowAverage"):
        keras_resnet.to_keras(dense.fully_convolutional(small()))
    inputs = keras.Input((32, 32, 3))
    with pytest.raises(ValueError, match="layer 'resnet' is one: convert it alone"):
        keras_resnet.to_keras(keras.Model(inputs, keras.layers.Softmax()(small()(inputs))))
    with pytest.raises(ValueError, match="model must be a functional Keras model; got Sequential"):
        keras_resnet.to_keras(keras.Sequential([keras.layers.Dense(2)]))
