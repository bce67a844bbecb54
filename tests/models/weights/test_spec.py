"""Architectures read from models and files, and their differences."""

import keras
import pytest

import keras_resnet
from keras_resnet.models import weights
from keras_resnet.models.weights.spec import ArchitectureSpec
from tests.models.weights.nets import cifar, tiny


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ArchitectureSpec("imagenet", "bottleneck", (8, 16), (1, 2), (1, 2), "B", None, True)),
        ({"shortcut": "C"}, ArchitectureSpec("imagenet", "bottleneck", (8, 16), (1, 2), (1, 2), "C", None, True)),
        (
            {"stride_in_1x1": False, "include_top": False},
            ArchitectureSpec("imagenet", "bottleneck", (8, 16), (1, 2), (1, 2), "B", None, False),
        ),
    ],
)
def test_models(options, expected):
    spec = ArchitectureSpec.of_model(tiny(**options))
    assert spec == expected
    assert ArchitectureSpec.from_json(spec.to_json()) == expected


def test_other_models_have_none(tmp_path, small):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    assert ArchitectureSpec.of_model(model) is None
    torch = pytest.importorskip("torch")
    torch.save(small.state_dict(), tmp_path / "a.pth")
    with pytest.raises(ValueError, match="the model has layers that the networks of this package do not have"):
        weights.load(model, tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"shortcut": None}, "it has shortcut 'A', the network None; build the network with shortcut='A'"),
        ({"zero_channels": "after"}, "it has zero_channels 'halves', the network 'after'; build the network with"),
        ({"shortcut": "B"}, "it has shortcut 'A', the network 'B'"),
        (
            {"stem": "imagenet", "input_shape": (32, 32, 3), "shortcut": "B"},
            "it has stem 'cifar', the network 'imagenet'",
        ),
    ],
)
def test_networks_of_equal_shapes_are_distinguished(other, message, tmp_path):
    weights.save(cifar(), tmp_path / "a.weights.h5")
    with pytest.raises(ValueError, match=message):
        weights.load(cifar(**other), tmp_path / "a.weights.h5")


def test_strides_are_distinguished(tmp_path):
    one, two = (
        keras_resnet.ResNet([(16, 1, 1), (16, 1, s)], block="basic", stem="cifar", input_shape=(8, 8, 3), shortcut="A")
        for s in (1, 2)
    )
    weights.save(one, tmp_path / "a.weights.h5")
    with pytest.raises(ValueError, match=r"it has strides \(1, 1\), the network \(1, 2\)"):
        weights.load(two, tmp_path / "a.weights.h5")
