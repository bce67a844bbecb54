"""Feature pyramids: names, strides, channels and shapes of levels, and that they are the network's own maps."""

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.models import weights
from tests.backends import reference

CASES = [
    ("ResNet18", None, {"C1": (2, 64), "C2": (4, 64), "C3": (8, 128), "C4": (16, 256), "C5": (32, 512)}),
    ("ResNet18", 8, {"C1": (2, 64), "C2": (4, 64), "C3": (8, 128), "C4": (8, 256), "C5": (8, 512)}),
    ("ResNet50", None, {"C1": (2, 64), "C2": (4, 256), "C3": (8, 512), "C4": (16, 1024), "C5": (32, 2048)}),
    ("ResNet50", 8, {"C1": (2, 64), "C2": (4, 256), "C3": (8, 512), "C4": (8, 1024), "C5": (8, 2048)}),
    ("PlainNet18", 16, {"C1": (2, 64), "C2": (4, 64), "C3": (8, 128), "C4": (16, 256), "C5": (16, 512)}),
    ("ResNet56", None, {"C1": (1, 16), "C2": (1, 16), "C3": (2, 32), "C4": (4, 64)}),
    ("ResNet56", 2, {"C1": (1, 16), "C2": (1, 16), "C3": (2, 32), "C4": (2, 64)}),
]


@pytest.mark.parametrize(("name", "output_stride", "expected"), CASES, ids=lambda value: str(value)[:10])
def test_strides_channels_and_shapes(name, output_stride, expected):
    pyramid = getattr(keras_resnet, name)(features_only=True, output_stride=output_stride)
    assert {info.name: (info.stride, info.channels) for info in pyramid.feature_info} == expected
    assert [info.index for info in pyramid.feature_info] == list(range(len(expected)))
    for height, width in ((224, 224), (97, 131)):
        shapes = {level: tuple(shape) for level, shape in pyramid.compute_output_shape((1, height, width, 3)).items()}
        assert shapes == {
            level: (1, -(-height // stride), -(-width // stride), channels)
            for level, (stride, channels) in expected.items()
        }


def small(**options):
    options = {"block": "basic", "input_shape": (None, None, 3), "classes": 3, **options}
    return keras_resnet.ResNet([(8, 2, 1), (16, 1, 2), (16, 1, 2)], **options)


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_they_are_the_maps_of_the_network(stem, random):
    model = small(stem=stem)
    pyramid = keras_resnet.features(model, ("C4", "C1", "C2"))
    images = random.normal(size=(2, 37, 51, 3)).astype("float32")
    maps = pyramid.predict(images, verbose=0)
    assert [info.name for info in pyramid.feature_info] == ["C4", "C1", "C2"]
    assert [info.layer for info in pyramid.feature_info] == ["conv4_block1_out", "conv1_relu", "conv2_block2_out"]
    for info in pyramid.feature_info:
        by_hand = keras.Model(model.input, model.get_layer(info.layer).output).predict(images, verbose=0)
        np.testing.assert_allclose(maps[info.name], by_hand, atol=1e-6)
        assert maps[info.name].shape == (2, -(-37 // info.stride), -(-51 // info.stride), info.channels)
    assert pyramid.get_layer("conv1_conv") is model.get_layer("conv1_conv")


def test_layers_after_the_last_level_are_left_out():
    pyramid = keras_resnet.features(small(), ["C3"])
    assert pyramid.layers[-1].name == "conv3_block1_out"
    assert set(keras_resnet.features(small()).output) == {"C2", "C3", "C4"}


def test_indices_are_timms():
    assert list(small(features_only=True, out_indices=(1, -1)).output) == ["C2", "C4"]
    assert list(small(features_only=True).output) == ["C1", "C2", "C3", "C4"]


def test_weights_saved_and_loaded(tmp_path, random):
    model = small()
    weights.save(model, tmp_path / "a.weights.h5")
    pyramid = small(features_only=True, weights=tmp_path / "a.weights.h5")
    pyramid.save(tmp_path / "pyramid.keras")
    loaded = keras.saving.load_model(tmp_path / "pyramid.keras")
    assert keras_resnet.feature_info(loaded) == keras_resnet.feature_info(model)
    images = random.normal(size=(1, 40, 40, 3)).astype("float32")
    expected = keras_resnet.features(model, ["C1", "C2", "C3", "C4"]).predict(images, verbose=0)
    for level, values in loaded.predict(images, verbose=0).items():
        np.testing.assert_allclose(values, expected[level], atol=1e-6)


def test_a_pyramid_learns(random):
    pyramid = small(stem="cifar", features_only=True, out_indices=(3,))
    pooled = keras.layers.GlobalAveragePooling2D()(pyramid.output["C4"])
    model = keras.Model(pyramid.input, keras.layers.Dense(2)(pooled))
    model.compile("sgd", "mse")
    before = pyramid.get_weights()
    model.fit(random.normal(size=(4, 16, 16, 3)), random.normal(size=(4, 2)), verbose=0)
    assert all(np.any(old != new) for old, new in zip(before, pyramid.get_weights(), strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out_indices": (1,)}, r"out_indices requires features_only=True; got \(1,\)"),
        ({"features_only": True, "out_indices": (4,)}, r"out_indices must be different integers from 0 to 3, .*\(4,\)"),
        ({"features_only": True, "out_indices": (1, -3)}, "out_indices must be different integers"),
        ({"features_only": True, "out_indices": ()}, "out_indices must be different integers"),
        ({"features_only": True, "out_indices": ("C2",)}, "out_indices must be different integers"),
        ({"features_only": True, "pooling": "avg"}, "features_only cannot be combined with pooling"),
        ({"features_only": True, "recompute": True}, "features_only cannot be combined with recompute"),
    ],
)
def test_mistakes_in_the_constructor(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (("C5",), r"levels must be one of 'C1', 'C2', 'C3', 'C4'; got 'C5'"),
        (("C2", "C2"), "levels must be different names"),
        ("C2", r"levels must be different names such as \('C3', 'C4', 'C5'\); got 'C2'"),
        ((), "levels must be different names"),
    ],
)
def test_mistakes_in_levels(levels, message):
    with pytest.raises(ValueError, match=message):
        keras_resnet.features(small(), levels)


def test_another_model_has_no_pyramid():
    inputs = keras.Input((8, 8, 3))
    with pytest.raises(ValueError, match="model must be a network of this package; 'other' has no layer 'conv1_relu'"):
        keras_resnet.features(keras.Model(inputs, keras.layers.Flatten()(inputs), name="other"))


def test_the_outputs_of_this_backend_that_others_are_compared_with_are_current():
    """`tests/backends` compares JAX and PyTorch with the stored outputs."""
    with np.load(reference.PATH) as stored:
        for name in reference.NETWORKS:
            for key, values in reference.outputs(name).items():
                np.testing.assert_allclose(values, stored[key], atol=2e-5, rtol=0, err_msg=key)
