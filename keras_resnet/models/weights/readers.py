"""Readers of all supported formats of weights files, which never run code from a file.

The first bytes determine the format. The declared contents are validated before they are read: no links to other files,
no virtual or external data, and not more data than the file has bytes. Pickles are loaded by
`torch.load(weights_only=True)`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import os
import pathlib
import re
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from keras_resnet.errors import InputError
from keras_resnet.models.weights.spec import PARTS, STEM, kind_of

ATTRIBUTE = "keras_resnet"
"""Attribute of HDF5 files and metadata key of safetensors: the architecture and `ModelInfo` of the weights as JSON."""

MAX_TENSORS = 20_000
"""Maximum number of tensors. ResNet-1202 has 6,017 variables, and in PyTorch a step counter for each batch norm."""

INDEX = ".index"
"""Suffix of the index file of a `tf.train.Checkpoint`."""

CHECKPOINTED = re.compile(r"network/(.+)/\.ATTRIBUTES/VARIABLE_VALUE")
"""Keys of the weights in a run's checkpoint, which `training.checkpoints` writes by name."""

NOT_WEIGHTS = ("optimizer/", "metrics/")
"""Groups of other data in a weights file of Keras; only Keras 2 writes the metrics."""

MAX_DEPTH = 12
"""Maximum nesting of HDF5 groups; Keras' files have about six levels."""


class Tensor(NamedTuple):
    """A tensor in a file: its shape, and a function that reads it as f32[...]."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Content:
    """The contents of a weights file.

    Attributes:
        tensors: name in the file -> tensor.
        notes: architecture and metadata written by this package; empty for other files.
        whole: whether this is a file of Keras 3 for an arbitrary model, which only Keras can map to the model.
    """

    tensors: dict[str, Tensor]
    notes: dict[str, Any]
    whole: bool = False

    def read(self, name: str) -> np.ndarray:
        """Read a tensor as f32[...].

        Raises:
            ValueError: the tensor cannot be read, or has values that are not finite.
        """
        try:
            array = self.tensors[name].read()
        except Exception as error:  # as in `opened`
            raise InputError(f"its tensor {name!r} cannot be read ({_first_line(error)})") from error
        if not np.isfinite(array).all():
            raise InputError(f"its tensor {name!r} has values that are not finite")
        return array


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Content]:
    """Open a weights file for reading.

    Args:
        path: path of a `.weights.h5` or legacy `.h5` file of Keras, a PyTorch pickle, a `.safetensors` file, or the
            `.index` file of a run's checkpoint.

    Yields:
        The `Content`, whose tensors can be read inside the context.

    Raises:
        ValueError: the file has another format, is damaged, or contains anything but weights.
    """
    with contextlib.ExitStack() as stack:
        try:
            content = stack.enter_context(_reader(pathlib.Path(path))(pathlib.Path(path)))
            _check(content, sum(part.stat().st_size for part in _parts(pathlib.Path(path))))
        except InputError:
            raise
        except Exception as error:
            # The libraries raise errors of many types for damaged or malicious files.
            raise InputError(f"it cannot be read ({_first_line(error)})") from error
        yield content


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".:")[:200]


def _reader(path: pathlib.Path) -> Callable[[pathlib.Path], contextlib.AbstractContextManager[Content]]:
    """Return the reader for a file's first bytes, or for the suffix of a checkpoint's index, which has no signature."""
    if path.suffix == INDEX:
        return _checkpoint
    with open(path, "rb") as file:
        head = file.read(16)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return _hdf5
    if head.startswith(b"PK\x03\x04") or head.startswith(b"\x80"):
        return _pickle
    if len(head) > 8 and head[8:9] == b"{":
        return _safetensors
    raise InputError("it is not an HDF5, safetensors or PyTorch file")


def _check(content: Content, size: int) -> None:
    if not content.tensors:
        raise InputError("it has no weights")
    if len(content.tensors) > MAX_TENSORS:
        raise InputError(f"it has {len(content.tensors):,} tensors, more than {MAX_TENSORS:,}")
    # The smallest supported type is half precision with two bytes per value.
    values = sum(math.prod(tensor.shape) for tensor in content.tensors.values())
    if 2 * values > size:
        raise InputError(f"it declares {values:,} values in {size:,} bytes")


def _parts(path: pathlib.Path) -> list[pathlib.Path]:
    """Return the files that make up a weights file."""
    return [path, *path.parent.glob(f"{path.stem}.data-*")] if path.suffix == INDEX else [path]


def _notes(text: str | bytes | None) -> dict[str, Any]:
    notes = json.loads(text) if text else {}
    if not isinstance(notes, dict):
        raise InputError(f"its attribute {ATTRIBUTE!r} is not a JSON object")
    return notes


# HDF5


@contextlib.contextmanager
def _hdf5(path: pathlib.Path) -> Iterator[Content]:
    import h5py

    with h5py.File(path, "r") as file:
        if "model_config" in file.attrs or "model_weights" in file:
            raise InputError("it is a whole model; pass a file of model.save_weights")
        datasets = dict(_walk(file, set()))
        notes = _notes(file.attrs.get(ATTRIBUTE))
        datasets = {name: dataset for name, dataset in datasets.items() if not name.startswith(NOT_WEIGHTS)}
        if any(name.split("/")[-2:-1] == ["vars"] for name in datasets):
            tensors = _keras_names(file, datasets)
        else:
            tensors = _legacy_names(datasets)
        if tensors is None:
            # The states of random generators are integers, and Keras does not count them as weights.
            weights = {name: dataset for name, dataset in datasets.items() if "/seed_generator/" not in name}
            yield Content({name: _dataset(dataset) for name, dataset in _by_layer(weights).items()}, notes, whole=True)
        else:
            yield Content({name: _dataset(dataset) for name, dataset in tensors.items()}, notes)


def _walk(group: Any, seen: set[int], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and value of each data set in a group, after checking that it is stored in this file unfiltered.

    Args:
        group: an HDF5 group.
        seen: addresses of the groups entered so far, since groups can contain each other.
        prefix: path of the group.
    """
    import h5py

    address = h5py.h5o.get_info(group.id).addr
    if address in seen or prefix.count("/") > MAX_DEPTH:
        raise InputError("its groups are nested too deeply or contain each other")
    seen.add(address)
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise InputError(f"its entry {prefix + name!r} is a link")
        node = group[name]
        if isinstance(node, h5py.Group):
            yield from _walk(node, seen, f"{prefix}{name}/")
            continue
        if not isinstance(node, h5py.Dataset):
            raise InputError(f"its entry {prefix + name!r} is not a tensor")
        creation = node.id.get_create_plist()
        if node.is_virtual or creation.get_external_count():
            raise InputError(f"its tensor {prefix + name!r} is stored in another file")
        if creation.get_nfilters():
            raise InputError(f"its tensor {prefix + name!r} is compressed or filtered")
        yield prefix + name, node


def _dataset(dataset: Any) -> Tensor:
    if dataset.dtype.kind != "f":
        raise InputError(f"its tensor {dataset.name!r} has type {dataset.dtype}")
    return Tensor(tuple(dataset.shape), lambda: dataset[()].astype("float32"))


def _keras_names(file: Any, datasets: dict[str, Any]) -> dict[str, Any] | None:
    """Return data sets of a file of Keras 3 by "{layer}/{variable}"; None if layers are nested or have no names."""
    named: dict[str, Any] = {}
    for path, dataset in datasets.items():
        if "/seed_generator/" in path:
            continue
        group, _, index = path.rpartition("/")
        layer = file[group].attrs.get("name")
        top = group.split("/")[:1] == ["layers"] and group.count("/") == 2 and group.endswith("/vars")
        if not top or not isinstance(layer, str) or not index.isdecimal() or len(index) > 3:
            return None
        parts = PARTS.get(kind_of(layer) or "", ())
        if int(index) >= len(parts):
            return None
        named[f"{layer}/{parts[int(index)]}"] = dataset
    # Other models may have some layers with the same names, such as "predictions".
    return named if STEM in named else None


def _by_layer(datasets: dict[str, Any]) -> dict[str, Any]:
    """Return data sets of a file of Keras by "{layer}/{number}", or by their paths if layer names are not unique."""
    named: dict[str, Any] = {}
    for path, dataset in datasets.items():
        layer = dataset.parent.attrs.get("name")
        if not isinstance(layer, str) or f"{layer}/{path.rpartition('/')[2]}" in named:
            return datasets
        named[f"{layer}/{path.rpartition('/')[2]}"] = dataset
    return named


def _legacy_names(datasets: dict[str, Any]) -> dict[str, Any]:
    """Return data sets of a legacy file by "{layer}/{variable}".

    Their paths are "conv1_conv/conv1_conv/kernel:0" or "conv1_conv/kernel:0".
    """
    named: dict[str, Any] = {}
    for path, dataset in datasets.items():
        layer, _, rest = path.partition("/")
        variable = rest.rpartition("/")[2]
        name = f"{layer}/{variable.split(':')[0]}"
        if name in named:
            raise InputError(f"it has {name!r} twice")
        named[name] = dataset
    return named


# PyTorch


@contextlib.contextmanager
def _pickle(path: pathlib.Path) -> Iterator[Content]:
    if zipfile.is_zipfile(path):
        _check_zip(path)
    try:
        import torch
    except ImportError as error:
        raise InputError(
            "PyTorch files require torch (pip install 'keras-resnet-zoo[torch]'); safetensors files do not"
        ) from error
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # PyTorch's message is long and explains how to load the file unsafely.
        if any(word in str(error) for word in ("weights_only", "Unsupported", "Weights only")):
            raise InputError(
                "it contains objects other than tensors, which could run code; nothing was loaded"
            ) from error
        raise
    yield Content({name: _torch_tensor(name, value) for name, value in _state(stored).items()}, {})


def _check_zip(path: pathlib.Path) -> None:
    """Reject archives that `torch.save` does not write: of other kinds, with outside paths or compressed members."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    names = [pathlib.PurePosixPath(member.filename.replace("\\", "/")) for member in members]
    if any(name.is_absolute() or ".." in name.parts for name in names):
        raise InputError("it is an archive with a member whose path is outside of it")
    if not any(name.name == "data.pkl" for name in names):
        raise InputError("it is an archive, but not of PyTorch; of a .keras model, pass a file of model.save_weights")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise InputError("it is an archive with compressed members, which PyTorch does not write")


def _state(stored: Any) -> dict[str, Any]:
    """Return the dictionary of tensors in a PyTorch checkpoint."""
    for key in ("state_dict", "model"):
        if isinstance(stored, dict) and isinstance(stored.get(key), dict):
            stored = stored[key]
    if not isinstance(stored, dict) or not all(isinstance(name, str) for name in stored):
        raise InputError("it has no state_dict")
    return stored


def _torch_tensor(name: str, value: Any) -> Tensor:
    import torch

    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_quantized:
        raise InputError(f"its entry {name!r} is not a dense tensor")
    if not (value.is_floating_point() or name.endswith("num_batches_tracked")):
        raise InputError(f"its tensor {name!r} has type {value.dtype}")
    return Tensor(tuple(value.shape), lambda: value.detach().to(torch.float32).numpy())


# safetensors


@contextlib.contextmanager
def _safetensors(path: pathlib.Path) -> Iterator[Content]:
    try:
        import safetensors
    except ImportError as error:
        raise InputError("safetensors files require safetensors (pip install safetensors)") from error
    with safetensors.safe_open(path, framework="numpy") as file:
        notes = _notes((file.metadata() or {}).get(ATTRIBUTE))
        yield Content({name: _slice(file, name) for name in file.keys()}, notes)  # noqa: SIM118


def _slice(file: Any, name: str) -> Tensor:
    part = file.get_slice(name)
    if part.get_dtype() not in ("F64", "F32", "F16", "BF16") and not name.endswith("num_batches_tracked"):
        raise InputError(f"its tensor {name!r} has type {part.get_dtype()}")
    return Tensor(tuple(part.get_shape()), lambda: file.get_tensor(name).astype("float32"))


# TensorFlow checkpoints


def _checkpoint(path: pathlib.Path) -> contextlib.AbstractContextManager[Content]:
    import tensorflow as tf  # only runs with TensorFlow checkpoints

    reader = tf.train.load_checkpoint(str(path.with_suffix("")))
    tensors = {}
    for key, shape in reader.get_variable_to_shape_map().items():
        if match := CHECKPOINTED.fullmatch(key):
            tensors[match[1].replace(".S", "/")] = Tensor(tuple(shape), functools.partial(reader.get_tensor, key))
    return contextlib.nullcontext(Content(tensors, {}))
