"""Networks that are fast in Python, compared with the networks that they are made from."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from keras_resnet.serving import optimized as module
from tests.serving.sources import settle


def network(**options):
    options = {"block": "bottleneck", "stem": "cifar", "input_shape": (16, 16, 3), "classes": 5, **options}
    return settle(keras_resnet.ResNet([(8, 1, 1), (16, 1, 2)], **options))


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.03), ("auto", 0.03)])
def test_outputs_are_those_of_the_network(precision, tolerance, random):
    model = network()
    images = random.normal(size=(7, 16, 16, 3)).astype("float32")
    fast = keras_resnet.optimized(model, precision)
    expected = model.predict(images, verbose=0)
    for found in (fast(images), fast.predict(images, batch_size=3, verbose=0), fast.predict_on_batch(images[:7])):
        assert np.asarray(found).dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=tolerance)
    assert not fast.weights
    assert fast(images[:1]).shape == (1, 5)


def test_later_weights_do_not_reach_it_and_the_network_is_unchanged(random):
    model = network()
    images = random.normal(size=(2, 16, 16, 3)).astype("float32")
    before = model.get_weights()
    fast = keras_resnet.optimized(model, "float32")
    expected = np.asarray(fast(images))
    for ours, weights in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, weights)
    model.set_weights([weights + 1 for weights in before])
    np.testing.assert_array_equal(fast(images), expected)


def test_several_outputs_and_any_size(random):
    model = keras_resnet.ResNet([(8, 1, 1), (16, 1, 2)], input_shape=(None, None, 3), features_only=True)
    fast = keras_resnet.optimized(model, "float32")
    for side in (32, 48):
        images = random.normal(size=(1, side, side, 3)).astype("float32")
        found, expected = fast(images), model(images)
        assert type(found) is type(expected)
        tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, expected)


def test_a_batch_size_that_is_fixed_and_mixed_precision(random):
    images = random.normal(size=(2, 16, 16, 3)).astype("float32")
    model = network(dtype="mixed_bfloat16")
    np.testing.assert_allclose(keras_resnet.optimized(model, "float32")(images), model(images), atol=0.03)


@pytest.mark.parametrize(
    ("flags", "expected"), [("fpu avx512_bf16 sse", True), ("fpu amx_bf16", True), ("fpu avx512f", False)]
)
def test_processors_with_bfloat16(flags, expected, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags}\n")
    monkeypatch.setattr(module.pathlib, "Path", lambda _: tmp_path / "cpuinfo")
    assert module.computes_in_bfloat16() is expected


def test_other_processors_have_no_bfloat16(tmp_path, monkeypatch):
    monkeypatch.setattr(module.pathlib, "Path", lambda _: tmp_path / "absent")
    assert not module.computes_in_bfloat16()


def test_mistakes():
    with pytest.raises(ValueError, match=r"precision must be .*'bfloat16'; got 'bf16'"):
        keras_resnet.optimized(network(), "bf16")
    with pytest.raises(ValueError, match="model must be a functional Keras model; got Sequential"):
        keras_resnet.optimized(keras.Sequential([keras.layers.Dense(2)]))
