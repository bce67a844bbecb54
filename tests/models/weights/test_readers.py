"""Malicious and damaged files are rejected quickly, with a one-line error and without side effects."""

import json
import time

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_resnet.models import weights
from keras_resnet.models.weights import convert, readers
from tests.models.weights import hostile
from tests.models.weights.nets import cifar

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def model():
    return cifar()


def assert_rejected(model, path, match=None):
    """Check that loading and converting `path` fails within two seconds, with one line and without side effects."""
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
def test_malicious_files(make, reason, model, tmp_path):
    hostile.secret(tmp_path, model)
    path = make(tmp_path, model)
    assert not (tmp_path / "executed").exists()
    assert_rejected(model, path, reason)
    assert not (tmp_path / "executed").exists()


def test_malicious_pickles_run_code_when_loaded_unsafely(tmp_path):
    """Check the corpus itself: loading it unsafely runs its code."""
    import torch

    path = hostile.pickle_with_code(tmp_path, None)
    torch.load(path, weights_only=False)
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("suffix", [".weights.h5", ".safetensors"])
def test_the_manifest_detects_flipped_bits_and_truncation(suffix, model, tmp_path, random):
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


def test_safetensors_with_headers_of_every_length(tmp_path):
    """A file begins with the length of its header, a multiple of 8, whose first byte may be that of a pickle, 0x80."""
    first_bytes = set()
    for length in range(0, 256, 8):
        save_file({"a": np.ones(2, "float32")}, tmp_path / "a.safetensors", {"text": "x" * length})
        first_bytes.add((tmp_path / "a.safetensors").read_bytes()[0])
        with readers.opened(tmp_path / "a.safetensors") as content:
            np.testing.assert_array_equal(content.read("a"), np.ones(2))
    assert first_bytes == set(range(0, 256, 8))


@pytest.mark.parametrize("kind", ["h5", "pth", "th", "safetensors"])
def test_truncated_files_without_a_manifest(kind, model, tmp_path, random):
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
        assert_rejected(model, path)


def test_files_of_other_networks(model, tmp_path):
    import torch

    path = tmp_path / "a.pth"
    vgg = {"features.0.weight": torch.zeros(64, 3, 3, 3), "features.0.bias": torch.zeros(64)}
    torch.save(vgg, path)
    assert_rejected(
        model, path, "its tensor 'features.0.weight' is not named as in a residual network of keras_resnet, "
    )
    deep_stem = {"conv1.0.weight": torch.zeros(32, 3, 3, 3), "layer1.0.conv1.weight": torch.zeros(8, 16, 3, 3)}
    torch.save(deep_stem, path)
    assert_rejected(model, path, r"its tensor 'conv1\.0\.weight' is not named as in a residual network")
    torch.save({"conv1.weight": torch.zeros(16, 3, 5, 5)}, path)
    assert_rejected(model, path, r"its first convolution must be 3x3 or 7x7; got a kernel of shape \[5, 5, 3, 16\]")
    torch.save({"conv1.weight": torch.zeros(16, 3, 3, 3, dtype=torch.int8)}, path)
    assert_rejected(model, path, r"has type torch\.int8")
    torch.save([1, 2], path)
    assert_rejected(model, path, "it has no state_dict")
    path.write_text("not weights at all")
    assert_rejected(model, path, "it is not an HDF5, safetensors or PyTorch file")


def test_values_must_be_finite(model, tmp_path):
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
def test_invalid_metadata(notes, model, tmp_path):
    path = tmp_path / "a.weights.h5"
    model.save_weights(path)
    with h5py.File(path, "r+") as file:
        file.attrs["keras_resnet"] = notes
    with pytest.raises(ValueError, match=r"weights file .* cannot be used: ") as error:
        convert.info(path)
    assert len(str(error.value).splitlines()) == 1


def test_an_empty_manifest(model, tmp_path):
    path = tmp_path / "a.weights.h5"
    weights.save(model, path)
    manifest = tmp_path / "a.weights.h5.sha256"
    assert manifest.read_text().split()[1] == "a.weights.h5"
    manifest.write_text("")
    with pytest.raises(ValueError, match="holds no SHA-256 digest"):
        weights.load(model, path)
    with h5py.File(path) as file:
        assert json.loads(json.loads(file.attrs["keras_resnet"])["fingerprint"])["shortcut"] == "A"
