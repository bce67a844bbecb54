"""Keras on JAX in an environment without TensorFlow; `make test-jax` runs it."""

import importlib.util

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.models import layers


def test_the_environment_is_the_one_meant():
    assert keras.backend.backend() == "jax"
    assert importlib.util.find_spec("tensorflow") is None


def test_resnet20_fits_and_predicts(random):
    model = keras_resnet.ResNet20()
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy")
    images = random.normal(size=(40, 32, 32, 3)).astype("float32")
    labels = random.integers(0, 10, 40)
    images += labels[:, None, None, None]
    before = [weight.numpy() for weight in model.weights]
    history = model.fit(images, labels, batch_size=4, epochs=1, verbose=0)  # ten steps
    assert np.isfinite(history.history["loss"]).all()
    for weight, old in zip(model.weights, before, strict=True):
        assert np.any(weight.numpy() != old), weight.path
    probabilities = model.predict(images, verbose=0)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)


def test_recomputed_blocks_learn_the_same(random):
    images, labels = random.normal(size=(8, 16, 16, 3)).astype("float32"), np.arange(8) % 4
    results = []
    for recompute in (False, True):
        keras.utils.set_random_seed(0)
        options = {"block": "basic", "stem": "cifar", "input_shape": (16, 16, 3), "classes": 4}
        model = keras_resnet.ResNet([(16, 2, 1), (32, 1, 2)], recompute=recompute, **options)
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
        model.fit(images, labels, batch_size=4, epochs=2, shuffle=False, verbose=0)
        results.append(model.get_weights())
    for ours, plain in zip(*reversed(results), strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-4)


@pytest.mark.parametrize("name", ["ResNet18", "ResNet50", "PlainNet20"])
def test_other_nets_build_and_run(name, random):
    model = getattr(keras_resnet, name)(input_shape=(64, 64, 3), classes=3)
    assert model.predict(random.normal(size=(2, 64, 64, 3)), verbose=0).shape == (2, 3)


def test_batch_norm_is_the_parent(random):
    x = random.normal(size=(2, 3, 4, 5)).astype("float32")
    ours, theirs = layers.BatchNormalization(), keras.layers.BatchNormalization()
    np.testing.assert_array_equal(ours(x, training=True), theirs(x, training=True))
    np.testing.assert_array_equal(ours.moving_variance, theirs.moving_variance)


def test_preprocessing(random):
    x = random.integers(0, 256, size=(1, 4, 4, 3)).astype("uint8")
    expected = keras_resnet.preprocess_input(x, "torch")
    result = keras_resnet.preprocess_input(keras.ops.convert_to_tensor(x), "torch")
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_weights_round_trip(tmp_path):
    from keras_resnet.models import weights

    model = keras_resnet.ResNet20()
    weights.save(model, tmp_path / "a.weights.h5")
    again = keras_resnet.ResNet20(weights=tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(model.get_weights()[-2], again.get_weights()[-2])


def test_weights_of_pytorch_by_safetensors(random, tmp_path):
    """Neither torch nor TensorFlow is there; the file has torchvision's names."""
    from keras_resnet.models import weights
    from keras_resnet.models.weights import convert

    options = {"input_shape": (32, 32, 3), "classes": 3, "stride_in_1x1": False}
    model = keras_resnet.ResNet([(8, 1, 1), (8, 1, 2)], **options)
    weights.save_safetensors(model, tmp_path / "a.safetensors")
    again = convert.network(tmp_path / "a.safetensors")
    images = random.normal(size=(2, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(again.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-6)
    with pytest.raises(ValueError, match=r"has stride_in_1x1 False, .* build the network with stride_in_1x1=False"):
        weights.load(
            keras_resnet.ResNet([(8, 1, 1), (8, 1, 2)], **{**options, "stride_in_1x1": True}),
            tmp_path / "a.safetensors",
        )
    assert keras_resnet.model_info("resnet50").mode == "caffe"
