"""Hostile and damaged files are refused at once, with one sentence, and change and run nothing."""

import json
import time

import h5py
import numpy as np
import pytest

import keras_resnet
from keras_resnet.models import weights
from keras_resnet.models.weights import convert
from tests.models.weights import hostile

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def model():
    return keras_resnet.ResNet(
        [(16, 1, 1), (32, 1, 2)], block="basic", stem="cifar", input_shape=(8, 8, 3), classes=3, shortcut="A"
    )


def refused(model, path, match=None):
    """Load `path` and convert it; both must fail with one sentence within two seconds and leave all as it was."""
    before = model.get_weights()
    listing = sorted(entry.name for entry in path.parent.iterdir())
    for attempt in (lambda: weights.load(model, path, adapt=True), lambda: convert.network(path)):
        start = time.perf_counter()
        with pytest.raises(ValueError, match=match) as error:
            attempt()
        assert time.perf_counter() - start < 2
        assert len(str(error.value).splitlines()) == 1
        assert str(path) in str(error.value)
    assert sorted(entry.name for entry in path.parent.iterdir()) == listing
    for one, two in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(("make", "reason"), hostile.CORPUS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_hostile_files(make, reason, model, tmp_path):
    hostile.secret(tmp_path, model)
    path = make(tmp_path, model)
    assert not (tmp_path / "executed").exists()
    refused(model, path, reason)
    assert not (tmp_path / "executed").exists()


def test_what_pickles_would_do(tmp_path):
    """The corpus is dangerous: loaded without care, it runs."""
    import torch

    path = hostile.pickle_with_code(tmp_path, None)
    torch.load(path, weights_only=False)
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("suffix", [".weights.h5", ".safetensors"])
def test_every_flip_and_cut_is_refused_by_the_manifest(suffix, model, tmp_path, random):
    path = tmp_path / f"a{suffix}"
    (weights.save if suffix == weights.SUFFIX else weights.save_safetensors)(model, path)
    whole = path.read_bytes()
    weights.load(model, path)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[random.integers(len(whole))] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged or was replaced"):
            weights.load(model, path)
    for _ in range(50):
        path.write_bytes(whole[: random.integers(len(whole))])
        with pytest.raises(ValueError, match="is damaged or was replaced"):
            weights.load(model, path)


@pytest.mark.parametrize("kind", ["h5", "pth", "th", "safetensors"])
def test_cut_files_without_a_manifest(kind, model, tmp_path, random):
    import torch

    path = tmp_path / f"a.{kind}"
    if kind == "h5":
        model.save_weights(tmp_path / "a.weights.h5")
        (tmp_path / "a.weights.h5").rename(path)
    elif kind == "safetensors":
        weights.save_safetensors(model, path)
        (tmp_path / "a.safetensors.sha256").unlink()
    else:
        torch.save({"conv1.weight": torch.zeros(8, 3, 3, 3)}, path, _use_new_zipfile_serialization=kind == "pth")
    whole = path.read_bytes()
    for size in (0, 7, *random.integers(8, len(whole) - 600, size=6)):
        path.write_bytes(whole[:size])
        refused(model, path)


def test_files_of_other_networks(model, tmp_path):
    import torch

    path = tmp_path / "a.pth"
    vgg = {"features.0.weight": torch.zeros(64, 3, 3, 3), "features.0.bias": torch.zeros(64)}
    torch.save(vgg, path)
    refused(model, path, "its tensor 'features.0.weight' is not named as in a residual network of keras_resnet, ")
    deep_stem = {"conv1.0.weight": torch.zeros(32, 3, 3, 3), "layer1.0.conv1.weight": torch.zeros(8, 16, 3, 3)}
    torch.save(deep_stem, path)
    refused(model, path, r"its tensor 'conv1\.0\.weight' is not named as in a residual network")
    torch.save({"conv1.weight": torch.zeros(16, 3, 5, 5)}, path)
    refused(model, path, r"its first convolution must be 3x3 or 7x7; got a kernel of shape \[5, 5, 3, 16\]")
    torch.save({"conv1.weight": torch.zeros(16, 3, 3, 3, dtype=torch.int8)}, path)
    refused(model, path, r"has type torch\.int8")
    torch.save([1, 2], path)
    refused(model, path, "it has no state_dict")
    path.write_text("not weights at all")
    refused(model, path, "it is not an HDF5, safetensors or PyTorch file")


def test_values_that_are_not_finite(model, tmp_path):
    path = tmp_path / "a.weights.h5"
    model.save_weights(path)
    with h5py.File(path, "r+") as file:
        file[hostile.KERNEL][0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"its tensor 'conv1_conv/kernel' has values that are not finite"):
        weights.load(model, path)


@pytest.mark.parametrize(
    "notes",
    ["[]", "{", '{"fingerprint": "[]"}', '{"fingerprint": "{\\"strides\\": {}}"}', '{"info": {"mode": "caffe"}}'],
)
def test_notes_that_are_not_ours(notes, model, tmp_path):
    path = tmp_path / "a.weights.h5"
    model.save_weights(path)
    with h5py.File(path, "r+") as file:
        file.attrs["keras_resnet"] = notes
    with pytest.raises(ValueError, match=r"weights file .* cannot be used: ") as error:
        convert.info(path)
    assert len(str(error.value).splitlines()) == 1


def test_a_manifest_that_holds_nothing(model, tmp_path):
    path = tmp_path / "a.weights.h5"
    weights.save(model, path)
    manifest = tmp_path / "a.weights.h5.sha256"
    assert manifest.read_text().split()[1] == "a.weights.h5"
    manifest.write_text("")
    with pytest.raises(ValueError, match="holds no SHA-256 digest"):
        weights.load(model, path)
    with h5py.File(path) as file:
        assert json.loads(json.loads(file.attrs["keras_resnet"])["fingerprint"])["shortcut"] == "A"
