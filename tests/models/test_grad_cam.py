"""Grad-CAM against its formula, with gradients that are known or estimated by differences."""

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.errors import InputError
from keras_resnet.models import grad_cam

SIDE = 32
CLASSES = 3


def network(**options):
    options = {"block": "basic", "input_shape": (SIDE, SIDE, 3), "classes": CLASSES, **options}
    return keras_resnet.ResNet([(8, 2, 1), (16, 1, 2)], stem="cifar", **options)


def upsampled(maps, size=SIDE):
    """Linear interpolation between the centers of pixels, one pixel after another, and the maximum at 1."""
    result = np.zeros((len(maps), size, size))
    factor = maps.shape[1] / size
    for row, column in np.ndindex(size, size):
        y, x = (min(max((n + 0.5) * factor - 0.5, 0), maps.shape[1] - 1) for n in (row, column))
        (top, left), (dy, dx) = (int(y), int(x)), (y % 1, x % 1)
        bottom, right = min(top + 1, maps.shape[1] - 1), min(left + 1, maps.shape[1] - 1)
        upper = (1 - dx) * maps[:, top, left] + dx * maps[:, top, right]
        result[:, row, column] = (1 - dy) * upper + dy * (
            (1 - dx) * maps[:, bottom, left] + dx * maps[:, bottom, right]
        )
    return result / np.maximum(result.max((1, 2), keepdims=True), 1e-30)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(5, SIDE, SIDE, 3)).astype("float32")


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", None])
def test_of_the_last_stage_it_is_the_class_activation_map(images, activation):
    """Behind global average pooling, the gradient of logit c with respect to map k is w[k,c] over the map's size."""
    model = network(classifier_activation=activation)
    classes = np.array([2, 0, 1, 2, 2])
    maps = keras.Model(model.input, model.get_layer("conv3_block1_out").output).predict(images, verbose=0)
    kernel = model.get_layer("predictions").get_weights()[0]
    expected = np.maximum(np.einsum("bhwk,kb->bhw", maps, kernel[:, classes]), 0)
    found = keras_resnet.grad_cam(model, images, classes)
    assert found.shape == (5, SIDE, SIDE)
    np.testing.assert_allclose(found, upsampled(expected), atol=1e-4)
    best = model.predict(images, verbose=0).argmax(-1)
    np.testing.assert_array_equal(keras_resnet.grad_cam(model, images), keras_resnet.grad_cam(model, images, best))


def test_of_an_earlier_stage(images):
    """The mean gradient of a map is the slope of the logit when a constant is added to the map, over its size."""
    model, step = network(classifier_activation=None), 1e-2
    body, head = grad_cam.split(model, "conv2_block2_out")
    maps = body.predict(images, verbose=0)
    slopes = np.zeros((5, 1, 1, 8))
    for channel in range(8):
        change = step * np.eye(8)[channel]
        above, below = (head.predict((maps + sign * change).astype("float32"), verbose=0)[:, 1] for sign in (1, -1))
        slopes[:, 0, 0, channel] = (above.astype("float64") - below) / (2 * step)
    expected = upsampled(np.maximum((slopes * maps).sum(-1), 0))
    found = keras_resnet.grad_cam(model, images, 1, layer="conv2_block2_out")
    np.testing.assert_allclose(found, expected, atol=0.02)  # a few ReLUs switch within a step


def wrapped(inner, functional):
    """A user's classifier around a network without its top."""
    layers = [
        keras.layers.Rescaling(0.5),
        inner,
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(CLASSES, activation="softmax", name="head"),
    ]
    if not functional:
        return keras.Sequential([keras.Input((SIDE, SIDE, 3)), *layers])
    x = start = keras.Input((SIDE, SIDE, 3))
    for layer in layers:
        x = layer(x)
    return keras.Model(start, x)


@pytest.mark.parametrize("functional", [True, False])
def test_a_network_inside_another_model(images, functional):
    inner = network(include_top=False)
    model = wrapped(inner, functional)
    kernel = model.get_layer("head").get_weights()[0]
    expected = np.maximum(inner.predict(0.5 * images, verbose=0) @ kernel[:, 2], 0)
    np.testing.assert_allclose(keras_resnet.grad_cam(model, images, 2), upsampled(expected), atol=1e-4)


def test_a_whole_network_inside_another_model(images):
    inner = network()
    start = keras.Input((SIDE, SIDE, 3))
    np.testing.assert_allclose(
        keras_resnet.grad_cam(keras.Model(start, inner(start)), images, 0),
        keras_resnet.grad_cam(inner, images, 0),
        atol=1e-4,
    )


def test_images_are_divided_into_chunks(images, monkeypatch):
    model = network()
    whole = keras_resnet.grad_cam(model, images, [0, 1, 2, 1, 0])
    monkeypatch.setattr(grad_cam, "CHUNK", 2)
    np.testing.assert_allclose(keras_resnet.grad_cam(model, images, [0, 1, 2, 1, 0]), whole, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 3}, "classes must be an integer from 0 to 2, or one for each of 5 images; got 3"),
        ({"classes": -1}, "got -1"),
        ({"classes": 0.5}, "got 0.5"),
        ({"classes": [0, 1]}, r"got \[0, 1\]"),
        ({"layer": "conv3_block1_outs"}, "such as 'conv3_block1_out'; got 'conv3_block1_outs'.*did you mean"),
        ({"layer": "conv2_block1_1_relu"}, "through which all of the network passes.*got 'conv2_block1_1_relu'"),
        ({"images": np.zeros((SIDE, SIDE, 3))}, r"at least one image; got shape \(32, 32, 3\)"),
        ({"images": np.zeros((0, SIDE, SIDE, 3))}, r"got shape \(0, 32, 32, 3\)"),
        ({"images": np.zeros((2, SIDE, SIDE, 1))}, r"the model's shape \[\?,32,32,3\]; got \[2,32,32,1\]"),
        ({"images": np.zeros((2, 3, SIDE, SIDE))}, r"got \[2,3,32,32\]"),
        ({"images": ["photo.jpg"]}, "images must be numbers.*got list: could not convert string"),
        ({"layer": "avg_pool"}, r"layer must have feature maps of shape \[B,h,w,k\]; 'avg_pool' has shape \[\?,16\]"),
        ({"layer": ""}, "got ''"),
        ({"model": keras_resnet.ResNet20}, "model must be a functional or sequential keras.Model.*ResNet20"),
        ({"model": keras.Sequential([keras.layers.Dense(2)])}, "model must be a functional or sequential"),
    ],
)
def test_mistakes(images, options, message):
    with pytest.raises(InputError, match=message):
        keras_resnet.grad_cam(**{"model": network(), "images": images, **options})


def test_a_model_with_two_outputs_is_refused(images):
    model = network()
    twins = keras.Model(model.input, [model.output, model.get_layer("avg_pool").output])
    with pytest.raises(InputError, match=r"one output.*got 1 inputs and 2 outputs"):
        keras_resnet.grad_cam(twins, images)


def test_a_model_without_a_network_of_the_package_requires_a_layer(images):
    model = keras.Sequential(
        [keras.Input((SIDE, SIDE, 3)), keras.layers.Conv2D(4, 3, name="maps"), keras.layers.Flatten()]
    )
    with pytest.raises(InputError, match="layer must be given for a model that contains no network"):
        keras_resnet.grad_cam(model, images)
    assert keras_resnet.grad_cam(model, images, 0, layer="maps").max() == 1


def test_overlay_is_blue_where_the_map_is_0_and_red_where_it_is_1():
    image = np.full((4, 4, 3), 100, "uint8")
    drawn = grad_cam.overlay(image, np.array([[0.0, 1.0], [0.0, 1.0]]), opacity=1.0)
    assert drawn[0, 0].tolist() == [0, 0, 143]
    assert drawn[0, 3].tolist() == [128, 0, 0]
    assert (grad_cam.overlay(image, np.zeros((2, 2)), opacity=0.0) == image).all()
