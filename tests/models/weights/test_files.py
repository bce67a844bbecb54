"""Saving and loading weights files, and models that stay unchanged if a file does not fit."""

import os

import h5py
import keras
import numpy as np
import pytest
import safetensors

import keras_resnet
from keras_resnet.models import weights


def net(blocks=1, shortcut="A", **options):
    stages = [(16, blocks, 1), (32, blocks, 2)]
    options = {"stem": "cifar", "input_shape": (8, 8, 3), "classes": 4, "shortcut": shortcut, **options}
    return keras_resnet.ResNet(stages, block="basic", **options)


def test_round_trip(tmp_path):
    model = net()
    weights.save(model, tmp_path / "a.weights.h5")
    again = net(weights=tmp_path / "a.weights.h5")
    for one, two in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_files_of_keras_load_too(tmp_path):
    model = net()
    model.save_weights(tmp_path / "keras.weights.h5")
    np.testing.assert_array_equal(net(weights=tmp_path / "keras.weights.h5").get_weights()[0], model.get_weights()[0])


def test_files_without_names_load_into_their_own_network_only(tmp_path):
    """Keras 2 numbers the layers of each class in `.weights.h5` files, and does not store their names."""

    def save(model, path):
        model.save_weights(path)
        with h5py.File(path, "a") as file:
            groups = []
            file.visititems(lambda _, node: groups.append(node))
            for group in groups:
                group.attrs.pop("name", None)

    model, path = net(), tmp_path / "unnamed.weights.h5"
    save(model, path)
    for one, two in zip(net(weights=path).get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    save(net(blocks=2), path)
    with pytest.raises(ValueError, match=r"values, the network [\d,]+; it has no layer names"):
        weights.load(model, path)


def test_the_optimizer_state_is_not_saved(tmp_path):
    model = net()
    model.compile("adam", "mse")
    model.train_on_batch(np.zeros((1, 8, 8, 3)), np.zeros((1, 4)))
    model.save_weights(tmp_path / "whole.weights.h5")
    weights.save(model, tmp_path / "bare.weights.h5")
    assert os.path.getsize(tmp_path / "bare.weights.h5") < 0.6 * os.path.getsize(tmp_path / "whole.weights.h5")
    for name in ("whole", "bare"):
        net(weights=tmp_path / f"{name}.weights.h5")
    files = ["bare.weights.h5", "bare.weights.h5.sha256", "whole.weights.h5"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files


@pytest.mark.parametrize(
    "other", [{"blocks": 2}, {"shortcut": "B"}, {"classes": 5}, {"block": "bottleneck"}, {"include_top": False}]
)
def test_weights_of_another_network_do_not_change_the_model(tmp_path, other):
    if "block" in other:
        source = keras_resnet.ResNet([(16, 1, 1), (32, 1, 2)], stem="cifar", input_shape=(8, 8, 3), classes=4)
    else:
        source = net(**other)
    weights.save(source, tmp_path / "a.weights.h5")
    model = net()
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"weights file '.*a.weights.h5' does not fit resnet: ") as error:
        weights.load(model, tmp_path / "a.weights.h5")
    assert len(str(error.value).splitlines()) == 1
    for one, two in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_equal_sizes_with_other_shapes_are_rejected(tmp_path):
    """The total size fits but the shapes do not; some layers could be assigned before the error occurs."""

    def model(first, second):
        inputs = keras.Input((first,))
        x = keras.layers.Dense(3, use_bias=False)(inputs)
        return keras.Model(inputs, keras.layers.Dense(second, use_bias=False)(x))

    model(3, 5).save_weights(tmp_path / "a.weights.h5")
    target = model(5, 3)
    before = target.get_weights()
    with pytest.raises(ValueError, match="does not fit"):
        weights.load(target, tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(target.get_weights()[1], before[1])


def test_models_of_other_kinds_load_their_own_files(tmp_path):
    """The naming conventions do not cover nested layers and layers with other state."""

    def model():
        inputs = keras.Input((3,))
        inner = keras.Sequential([keras.layers.Dense(4), keras.layers.Dropout(0.5), keras.layers.Dense(2)])
        return keras.Model(inputs, inner(inputs))

    source, target = model(), model()
    weights.save(source, tmp_path / "a.weights.h5")
    weights.load(target, tmp_path / "a.weights.h5")
    for one, two in zip(source.get_weights(), target.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("size", [0, 100, 5_000])
def test_damaged_files_are_rejected(tmp_path, size):
    path = tmp_path / "a.weights.h5"
    weights.save(net(), path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="does not fit"):
        weights.load(net(), path)


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.weights.h5"
    model = net()
    weights.save(model, path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ValueError, match=r"cannot be written: .*No space left"):
        weights.save(model, path)
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.weights.h5", "a.weights.h5.sha256"]
    weights.load(model, path)


def test_save_requires_the_suffix(tmp_path):
    with pytest.raises(ValueError, match=r"path must end in \.weights\.h5"):
        weights.save(net(), tmp_path / "a.h5")


def test_equal_weights_give_equal_safetensors_files(tmp_path):
    model = keras_resnet.ResNet20(classes=3)
    paths = [tmp_path / f"{number}.safetensors" for number in range(8)]
    for path in paths:
        weights.save_safetensors(model, path)
    assert len({path.read_bytes() for path in paths}) == 1
    with safetensors.safe_open(paths[0], "numpy") as file:
        assert file.metadata()["format"] == "pt"
        np.testing.assert_array_equal(file.get_tensor("fc.bias"), model.get_layer("predictions").bias)
