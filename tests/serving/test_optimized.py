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
    layers = keras.layers
    images = keras.Input((4, 4, 3))
    shared, nested = layers.Conv2D(3, 1), keras.Model(images, layers.ReLU()(images))
    for outputs in (shared(shared(images)), nested(layers.ReLU()(images)), images + 1):
        with pytest.raises(ValueError, match="layers that are each called once"):
            keras_resnet.optimized(keras.Model(images, outputs), "float32")


def test_layers_that_do_not_fold_in_the_usual_way(random):
    layers = keras.layers
    inputs = keras.Input((6, 6, 4))
    output = layers.Conv2D(4, 3, groups=2)(inputs)
    outputs = [
        output,
        layers.BatchNormalization()(output),
        layers.BatchNormalization()(layers.Conv2D(4, 3, activation="relu")(inputs)),
        layers.BatchNormalization(axis=1)(layers.Conv2D(4, 3)(inputs)),
        layers.BatchNormalization(scale=False)(layers.Conv2D(4, 3, groups=2)(inputs)),
        layers.BatchNormalization(center=False)(layers.Conv2D(4, 3, use_bias=False)(inputs)),
        layers.BatchNormalization(center=False, scale=False)(layers.Conv2D(4, 3)(inputs)),
    ]
    model = keras.Model(inputs, outputs)
    model.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in model.get_weights()])
    images = random.normal(size=(2, 6, 6, 4)).astype("float32")
    fast = keras_resnet.optimized(model, "float32")
    for found, expected in zip(fast(images), model(images), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_inputs_are_cast_and_their_shapes_checked():
    inputs = {name: keras.Input((2, 2, 3), name=name) for name in ("one", "two")}
    model = keras.Model(list(inputs.values()), keras.layers.Subtract()(list(inputs.values())))
    fast = keras_resnet.optimized(model, "float32")
    pixels = np.full((1, 2, 2, 3), 7, "uint8")
    zeros = np.zeros((1, 2, 2, 3))
    for images in ([pixels, zeros], {"two": zeros, "one": pixels}):
        np.testing.assert_array_equal(fast(images), pixels)
        np.testing.assert_array_equal(fast.predict(images, verbose=0), pixels)
    with pytest.raises(ValueError, match="inputs must have one, two; got none for two"):
        fast({"one": pixels})
    for images in ([pixels[0], zeros], [pixels], [pixels[..., :1], zeros]):
        with pytest.raises(ValueError, match=r"inputs must be of shape \(None, 2, 2, 3\), \(None, 2, 2, 3\); got"):
            fast(images)
