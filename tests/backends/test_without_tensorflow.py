"""Keras on JAX and on PyTorch in an environment without TensorFlow; `make test-backends` runs it on both."""

import importlib.util

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.models import layers
from keras_resnet.segmentation import losses, models
from tests.backends import reference


def test_the_environment_is_the_one_meant():
    assert keras.backend.backend() in ("jax", "torch")
    assert importlib.util.find_spec("tensorflow") is None


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="nothing that PyTorch, which is faster, would not show")
@pytest.mark.parametrize("name", keras_resnet.ARCHITECTURES)
def test_every_constructor_builds(name):
    model = getattr(keras_resnet, name)()
    assert model.count_params() - sum(np.prod(v.shape) for v in model.non_trainable_weights) == (
        keras_resnet.ARCHITECTURES[name].parameters()
    )


@pytest.mark.parametrize("name", reference.NETWORKS)
def test_outputs_and_features_are_those_of_tensorflow(name):
    """On the same weights; the outputs of TensorFlow are stored."""
    with np.load(reference.PATH) as stored:
        for key, values in reference.outputs(name).items():
            np.testing.assert_allclose(values, stored[key], atol=1e-4, rtol=0, err_msg=key)


def test_bottleneck_blocks_fit(random):
    stages = [(16, 1, 1), (32, 2, 2)]
    model = keras_resnet.ResNet(stages, block="bottleneck", input_shape=(32, 32, 3), classes=3)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
    images, labels = random.normal(size=(10, 32, 32, 3)).astype("float32"), np.arange(10) % 3
    before = model.get_weights()
    history = model.fit(images, labels, batch_size=2, epochs=1, verbose=0)  # five steps
    assert np.isfinite(history.history["loss"]).all()
    assert all(np.any(new != old) for new, old in zip(model.get_weights(), before, strict=True))


def test_a_segmentation_network_fits(random):
    """With hard pixels, weights and pixels to ignore, whose loss is that of NumPy."""
    model = models.deeplabv3(reference.BACKBONE, 3, auxiliary=True, input_shape=(32, 40, 3))
    weights, images = (1.0, 2.0, 0.5), random.normal(size=(4, 32, 40, 3)).astype("float32")
    labels = random.integers(0, 3, (4, 32, 40)).astype("int32")
    labels[:, :5] = 255
    logits = keras.ops.convert_to_numpy(model(images)["logits"]).astype("float64")
    taken = np.take_along_axis(logits, np.where(labels == 255, 0, labels)[..., None], -1)[..., 0]
    pixels = np.where(labels == 255, 0, np.log(np.exp(logits).sum(-1)) - taken)
    weight = np.where(labels == 255, 0, np.take(weights, labels, mode="clip"))
    loss = losses.PixelCrossEntropy(class_weights=weights)(labels, logits.astype("float32"))
    np.testing.assert_allclose(float(loss), (weight * pixels).sum() / weight.sum(), rtol=1e-5)

    options = losses.compile_options(auxiliary=True, class_weights=weights, hard_fraction=0.5)
    model.compile("sgd", metrics={"logits": losses.MeanIoU(3)}, **options)
    before = model.get_weights()
    history = model.fit(images, {"logits": labels, "auxiliary": labels}, batch_size=2, verbose=0).history
    assert np.isfinite([*history.values()]).all()
    assert all(np.any(new != old) for new, old in zip(model.get_weights(), before, strict=True))
    assert models.inference_model(model).predict(images[:1], verbose=0).shape == (1, 32, 40, 3)


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


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_batch_norm_is_the_parent(dtype, random):
    """Outputs, moving statistics and gradients; PyTorch has a fused kernel, JAX the code of the parent."""
    x = random.normal(3, 2, size=(4, 6, 7, 5)).astype("float32")
    results = []
    for kind in (layers.BatchNormalization, keras.layers.BatchNormalization):
        inputs = keras.Input((6, 7, 5))
        layer = kind(epsilon=1e-5, momentum=0.9, dtype=dtype)
        first = keras.layers.Dense(5, kernel_initializer="identity")
        model = keras.Model(inputs, layer(first(inputs)))
        layer.gamma.assign(np.linspace(0.5, 2, 5))
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit(x, x**2, batch_size=2, epochs=1, shuffle=False, verbose=0)
        results.append([*model.get_weights(), model.predict(x, verbose=0)])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 if dtype == "float32" else 0.05)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_pure_policies_predict_and_train(dtype, random):
    options = {"block": "basic", "stem": "cifar", "input_shape": (8, 8, 3), "classes": 4}
    model, exact = (keras_resnet.ResNet([(16, 1, 1)], dtype=policy, **options) for policy in (dtype, "float32"))
    exact.set_weights(model.get_weights())
    images = random.random((8, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(model.predict(images, verbose=0), exact.predict(images, verbose=0), atol=0.03)
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
    assert np.isfinite(model.fit(images, np.arange(8) % 4, verbose=0).history["loss"]).all()


def test_frozen_batch_norm_keeps_its_statistics(random):
    layer = layers.BatchNormalization()
    layer.trainable = False
    x = random.normal(5, 1, size=(2, 3, 4, 5)).astype("float32")
    result = keras.ops.convert_to_numpy(layer(x, training=True))
    np.testing.assert_allclose(result, x / np.sqrt(1 + layer.epsilon), atol=1e-5)
    np.testing.assert_array_equal(layer.get_weights()[2], 0)


@pytest.mark.parametrize("mode", ["caffe", "torch", "tf"])
def test_preprocessing(mode, random):
    x = random.integers(0, 256, size=(1, 4, 4, 3)).astype("uint8")
    expected = keras_resnet.preprocess_input(x, mode=mode)
    result = keras_resnet.preprocess_input(keras.ops.convert_to_tensor(x), mode=mode)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(result), expected, atol=1e-5)


def test_weights_for_bgr_images(random):
    from keras_resnet.models import weights

    model = keras_resnet.ResNet([(8, 1, 1)], input_shape=(32, 32, 3), classes=3)
    images = random.normal(size=(2, 32, 32, 3)).astype("float32")
    expected = model.predict(images[..., ::-1].copy(), verbose=0)
    weights.reverse_input_channels(model)
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-5)


def test_a_copy_of_stock_layers(tmp_path, random):
    options = {"block": "basic", "stem": "cifar", "input_shape": (16, 16, 3), "classes": 4, "shortcut": "A"}
    model = keras_resnet.ResNet([(16, 1, 1), (24, 1, 2)], **options)
    keras_resnet.to_keras(model).save(tmp_path / "stock.keras")
    model.save(tmp_path / "own.keras")
    images = random.normal(size=(2, 16, 16, 3)).astype("float32")
    for kind in ("stock", "own"):
        again = keras.saving.load_model(tmp_path / f"{kind}.keras")
        np.testing.assert_allclose(again.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-5)


def test_weights_round_trip(tmp_path):
    from keras_resnet.models import weights

    model = keras_resnet.ResNet20()
    weights.save(model, tmp_path / "a.weights.h5")
    again = keras_resnet.ResNet20(weights=tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(model.get_weights()[-2], again.get_weights()[-2])


def test_weights_of_pytorch_by_safetensors(random, tmp_path):
    """The file has torchvision's names."""
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


def test_grad_cam(random):
    """Behind global average pooling, the gradient of logit c with respect to map k is w[k,c] over the map's size."""
    stages = [(8, 1, 1), (16, 1, 1)]  # the last map is as large as the image
    model = keras_resnet.ResNet(stages, block="basic", stem="cifar", input_shape=(16, 16, 3), classes=3)
    images = random.normal(size=(4, 16, 16, 3)).astype("float32")
    maps = keras_resnet.features(model, ["C3"]).predict(images, verbose=0)["C3"]
    expected = np.maximum(maps @ model.get_layer("predictions").get_weights()[0], 0)[..., 1]
    expected /= np.maximum(expected.max((1, 2), keepdims=True), 1e-30)
    np.testing.assert_allclose(keras_resnet.grad_cam(model, images, 1), expected, atol=1e-5)


def test_a_network_trains_for_int8(random):
    """Its integers are the same numbers on every backend, since float32 holds them exactly."""
    labels = np.arange(8) % 3
    pixels = np.clip(random.normal(60 * labels[:, None, None, None] + 60, 30, (8, 16, 16, 3)), 0, 255).round()
    images = ((pixels - 120) / 60).astype("float32")
    net = keras_resnet.ResNet([(8, 1, 1), (12, 1, 2)], stem="cifar", block="basic", input_shape=(16, 16, 3), classes=3)
    prepared = keras_resnet.quantization.prepare(net, (120.0,) * 3, (60.0,) * 3)
    keras_resnet.quantization.calibrate(prepared, [images])
    prepared.compile(keras.optimizers.SGD(0.02, momentum=0.9), "sparse_categorical_crossentropy")
    losses = prepared.fit(images, labels, batch_size=8, epochs=12, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    integers = keras_resnet.quantization.integer_network(prepared)
    scores, expected = (model.predict(images, verbose=0) for model in (integers, prepared))
    np.testing.assert_allclose(scores, expected, atol=0.1)
