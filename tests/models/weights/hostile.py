"""Malicious weights files, each created by a function; `CORPUS` lists all functions.

The files try to run code, which would create `folder/executed`, to read `folder/secret.h5`, which has weights that fit,
or to exhaust memory and time.
"""

import argparse
import io
import json
import os
import pathlib
import pickle
import tarfile
import zipfile

import h5py
import keras
import numpy as np

from keras_resnet.models import weights


class Code:
    """An object whose pickle creates a folder when it is loaded."""

    def __init__(self, folder):
        self.path = str(folder / "executed")

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def _lambda_model():
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1, name="conv1_conv")(inputs))


def keras_with_lambda(folder, model):
    path = folder / "a.keras"
    _lambda_model().save(path)
    return path


def legacy_with_lambda(folder, model):
    path = folder / "a.h5"
    _lambda_model().save(path)
    return path


def legacy_with_custom_object(folder, model):
    path = folder / "a.h5"
    model.save(path)
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps(
            {"class_name": "os>mkdir", "config": {"path": str(folder / "executed")}}
        )
    return path


def keras_with_foreign_saved_model(folder, model):
    path = folder / "a.keras"
    config = {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": str(folder)}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", b"")
    return path


def _copy(folder):
    path = folder / "a.weights.h5"
    path.write_bytes((folder / "secret.h5").read_bytes())
    return path


KERNEL = "layers/conv2d/vars/0"


def external_link(folder, model):
    path = _copy(folder)
    with h5py.File(path, "r+") as file:
        del file[KERNEL]
        file[KERNEL] = h5py.ExternalLink(str(folder / "secret.h5"), KERNEL)
    return path


def soft_link(folder, model):
    path = _copy(folder)
    with h5py.File(path, "r+") as file:
        file["other"] = file[KERNEL][()]
        del file[KERNEL]
        file[KERNEL] = h5py.SoftLink("/other")
    return path


def virtual_dataset(folder, model):
    path = _copy(folder)
    with h5py.File(path, "r+") as file:
        shape = file[KERNEL].shape
        layout = h5py.VirtualLayout(shape, "float32")
        layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), KERNEL, shape=shape)
        del file[KERNEL]
        file.create_virtual_dataset(KERNEL, layout)
    return path


def external_storage(folder, model):
    path = _copy(folder)
    with h5py.File(path, "r+") as file:
        shape = file[KERNEL].shape
        del file[KERNEL]
        outside = [(str(folder / "secret.h5"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset(KERNEL, shape, "float32", external=outside)
    return path


def shape_bomb(folder, model):
    path = _copy(folder)
    with h5py.File(path, "r+") as file:
        del file["layers/dense/vars/0"]
        file.create_dataset("layers/dense/vars/0", (1 << 20, 1 << 20), "float32", chunks=(1024, 1024))
    return path


def compressed_bomb(folder, model):
    path = _copy(folder)
    with h5py.File(path, "r+") as file:
        del file["layers/dense/vars/0"]
        zeros = np.zeros((1 << 12, 1 << 12), "float32")
        file.create_dataset("layers/dense/vars/0", data=zeros, compression="gzip", chunks=True)
    return path


def circular_groups(folder, model):
    path = _copy(folder)
    with h5py.File(path, "r+") as file:
        for number in range(20):
            file[f"layers/again{number}"] = file["layers"]
    return path


def pickle_with_code(folder, model):
    import torch

    path = folder / "a.pth"
    torch.save({"state_dict": {"conv1.weight": Code(folder)}}, path)
    return path


def old_pickle_with_code(folder, model):
    import torch

    path = folder / "a.th"
    torch.save({"conv1.weight": Code(folder)}, path, _use_new_zipfile_serialization=False)
    return path


def bare_pickle_with_code(folder, model):
    path = folder / "a.pkl"
    path.write_bytes(pickle.dumps(Code(folder)))
    return path


def namespace_with_code(folder, model):
    """Arguments of a training script are ignored, but not what they hold."""
    import torch

    path = folder / "a.pth"
    torch.save({"conv1.weight": torch.zeros(1), "args": argparse.Namespace(lr=0.1, hook=Code(folder))}, path)
    return path


def zip_with_outside_path(folder, model):
    import torch

    path = folder / "a.pth"
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../executed", b"")
    return path


def zip_bomb(folder, model):
    import torch

    whole, path = io.BytesIO(), folder / "a.pth"
    torch.save({"conv1.weight": torch.zeros(1 << 24)}, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return path


def _safetensors(path, header, data=b""):
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def safetensors_shape_bomb(folder, model):
    entry = {"dtype": "F32", "shape": [1 << 20, 1 << 20], "data_offsets": [0, 1 << 42]}
    return _safetensors(folder / "a.safetensors", {"conv1.weight": entry})


def safetensors_that_overlap(folder, model):
    entry = {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}
    return _safetensors(folder / "a.safetensors", {"conv1.weight": entry, "bn1.weight": entry}, bytes(64))


def tar_with_a_symlink(folder, model):
    path = folder / "a.tar"
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("storages")
        member.type, member.linkname = tarfile.SYMTYPE, str(folder / "secret.h5")
        archive.addfile(member)
    return path


WHOLE, ARCHIVE, OUTSIDE, MORE = "a whole model", "not of PyTorch", "stored in another file", "other than tensors"
CORPUS = {
    keras_with_lambda: ARCHIVE,
    legacy_with_lambda: WHOLE,
    legacy_with_custom_object: WHOLE,
    keras_with_foreign_saved_model: ARCHIVE,
    external_link: "is a link",
    soft_link: "is a link",
    virtual_dataset: OUTSIDE,
    external_storage: OUTSIDE,
    shape_bomb: "declares 1,099,511,6.* values in",
    compressed_bomb: "compressed or filtered",
    circular_groups: "nested too deeply or contain each other",
    pickle_with_code: MORE,
    old_pickle_with_code: MORE,
    bare_pickle_with_code: MORE,
    namespace_with_code: MORE,
    zip_with_outside_path: "a member whose path is outside of it",
    zip_bomb: "compressed members",
    safetensors_shape_bomb: "cannot be read",
    safetensors_that_overlap: "cannot be read",
    tar_with_a_symlink: "not an HDF5, safetensors or PyTorch file",
}
"""Function (folder, model) that creates a file and returns its path -> pattern of the error message."""


def secret(folder: pathlib.Path, model) -> None:
    """Write the file that none of the malicious files may read."""
    weights.save(model, folder / "b.weights.h5")
    (folder / "b.weights.h5").rename(folder / "secret.h5")
    (folder / "b.weights.h5.sha256").unlink()
