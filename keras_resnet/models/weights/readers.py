"""Readers of all supported formats of weights files, which never run code from a file.

The first bytes determine the format. The declared contents are validated before they are read: no links to other files,
no virtual or external data, and not more data than the file has bytes. Pickles are loaded by
`torch.load(weights_only=True)`.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import json
import math
import os
import pathlib
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from keras_resnet.errors import InputError, listed
from keras_resnet.models.weights.spec import PARTS, STEM, kind_of

ATTRIBUTE = "keras_resnet"
"""Attribute of HDF5 files and metadata key of safetensors: the architecture and `ModelInfo` of the weights as JSON."""

MAX_TENSORS = 100_000
"""Maximum number of tensors. ResNet-1202 has 6,017 variables, and in PyTorch a step counter for each batch norm; a
checkpoint has the state of an optimizer too."""

SHARDS = ".index.json"
"""End of the name of the file that lists the parts of a model of Hugging Face."""

INDEX = ".index"
"""Suffix of the index file of a `tf.train.Checkpoint`."""

CHECKPOINTED = re.compile(r"network/(.+)/\.ATTRIBUTES/VARIABLE_VALUE")
"""Keys of the weights in a run's checkpoint, which `training.checkpoints` writes by name."""

WHOLE_MODEL = "load it with keras.saving.load_model, and pass a file of its save_weights"
"""What to do with a file of a whole Keras model, whose configuration could run code."""

NOT_WEIGHTS = ("optimizer/", "metrics/")
"""Groups of other data in a weights file of Keras; only Keras 2 writes the metrics."""

MAX_DEPTH = 12
"""Maximum nesting of HDF5 groups and of dictionaries; Keras' files have about six levels."""

SHOWN = 6
"""Names in a message."""

DATA_CLASSES = (
    "argparse.Namespace",
    "types.SimpleNamespace",
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "WindowsPath", "Path")),
    *(f"pathlib.Pure{name}Path" for name in ("Posix", "Windows")),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    "numpy.dtype",
    "numpy.ndarray",
    "datetime.date",
    "datetime.datetime",
    "datetime.timedelta",
    "torch.torch_version.TorchVersion",
)
"""Classes of data that training scripts store with the weights: each is replaced by one that ignores its data."""


NUMPY_ARRAYS = ("ndarray", "_reconstruct")
"""Names of the classes that replace NumPy's arrays."""


class Tensor(NamedTuple):
    """A tensor in a file: its shape, a function that reads it as f32[...], and why it cannot be weights, or ""."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Content:
    """The contents of a weights file.

    Attributes:
        tensors: name in the file -> tensor.
        notes: architecture and metadata written by this package; empty for other files.
        whole: whether this is a file of Keras 3 for an arbitrary model, which only Keras can map to the model.
        bounded: whether it is known that the file has as many bytes as the tensors take.
    """

    tensors: dict[str, Tensor]
    notes: dict[str, Any]
    whole: bool = False
    bounded: bool = False

    def check(self, names: Iterable[str]) -> None:
        """Raise `InputError` if one of these tensors cannot be weights."""
        for name in names:
            if problem := self.tensors[name].problem:
                raise InputError(f"its tensor {name!r} {problem}")

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


def _head(path: pathlib.Path) -> bytes:
    """Return the first bytes of a file."""
    with open(path, "rb") as file:
        return file.read(16)


def _reader(path: pathlib.Path) -> Callable[[pathlib.Path], contextlib.AbstractContextManager[Content]]:
    """Return the reader for a file's first bytes, or for the suffix of a checkpoint's index, which has no signature."""
    if path.suffix == INDEX:
        return _checkpoint
    if path.name.endswith(SHARDS):
        return _sharded
    head = _head(path)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return _hdf5
    # The length of a safetensors header may begin with the first byte of a pickle, whose next bytes are never zeros.
    if head[4:9] == b"\0\0\0\0{":
        return _safetensors
    if head.startswith(b"PK\x03\x04") or head.startswith(b"\x80"):
        return _pickle
    stem, data, _ = path.name.partition(".data-")
    hint = f"; pass {stem}{INDEX}" if data else _other_kind(head)
    raise InputError(f"it is not an HDF5, safetensors or PyTorch file{hint}")


OTHER_KINDS = {
    b"version https://": "a pointer of Git LFS: git lfs pull fetches the file itself",
    b"\x1f\x8b": "compressed with gzip: unpack it first",
    b"BZh": "compressed with bzip2: unpack it first",
    b"\xfd7zXZ": "compressed with xz: unpack it first",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
    b"Rar!": "a RAR archive: unpack it first",
    b"\x93NUMPY": "a single NumPy array",
    b"<": "a web page or XML: the download has failed",
    b"{": "JSON text",
}
"""First bytes of files that people take for weights -> what these are."""


def _other_kind(head: bytes) -> str:
    """Return what a file is instead of weights, to end a message; "" if it is not known."""
    if not head:
        return "; it is empty"
    start = head.lstrip(b" \t\r\n\xef\xbb\xbf")
    return next((f"; it is {kind}" for first, kind in OTHER_KINDS.items() if start.startswith(first)), "")


def _check(content: Content, size: int) -> None:
    if not content.tensors:
        raise InputError("it has no weights")
    if len(content.tensors) > MAX_TENSORS:
        raise InputError(f"it has {len(content.tensors):,} tensors, more than {MAX_TENSORS:,}")
    # The smallest supported type is half precision with two bytes per value.
    values = sum(math.prod(tensor.shape) for tensor in content.tensors.values())
    if 2 * values > size and not content.bounded:
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
            raise InputError(f"it is a whole model; {WHOLE_MODEL}")
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
    if dataset.attrs.get("dtype") == "bfloat16" and dataset.dtype.str == "|V2":  # HDF5 has no such type
        return Tensor(tuple(dataset.shape), lambda: _of_bfloat16(dataset[()]))
    if dataset.dtype.kind != "f":
        raise InputError(f"its tensor {dataset.name!r} has type {dataset.dtype}")
    return Tensor(tuple(dataset.shape), lambda: dataset[()].astype("float32"))


def _of_bfloat16(stored: np.ndarray) -> np.ndarray:
    """Return f32[...] of bfloat16 numbers, which are the upper halves of float32, as Keras writes them."""
    return (np.asarray(stored).view("<u2").astype("<u4") << 16).view("<f4")


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


KERAS_1 = {"W": "kernel", "b": "bias", "running_mean": "moving_mean", "running_std": "moving_variance"}
"""Names of variables in Keras 1, after the name of the layer -> today's; "std" is a variance."""


def _legacy_names(datasets: dict[str, Any]) -> dict[str, Any]:
    """Return data sets of a legacy file by "{layer}/{variable}", or "{model}/{layer}/{variable}" in nested models.

    Their paths are "conv1_conv/conv1_conv/kernel:0" or "conv1_conv/kernel:0", in Keras 1 "conv1/conv1_W:0".
    """
    paths = {path: path.split(":")[0].split("/") for path in datasets}
    short = collections.Counter((parts[0], parts[-1]) for parts in paths.values())
    nested = {top for (top, _), count in short.items() if count > 1}
    named: dict[str, Any] = {}
    for path, dataset in datasets.items():
        top, variable = paths[path][0], paths[path][-1]
        layer = "/".join(paths[path][:-1]) if top in nested else top
        old = variable.removeprefix(f"{layer.rpartition('/')[2]}_")
        name = f"{layer}/{KERAS_1.get(old, old)}"
        if name in named:
            raise InputError(f"it has {name!r} twice")
        named[name] = dataset
    return named


# PyTorch


@contextlib.contextmanager
def _pickle(path: pathlib.Path) -> Iterator[Content]:
    if zipfile.is_zipfile(path):
        _check_zip(path)
    elif _head(path).startswith(b"PK"):
        raise InputError("it is incomplete: the end of the archive is missing")
    try:
        import torch
    except ImportError as error:
        raise InputError(
            "PyTorch files require torch (pip install 'keras-resnet-zoo[torch]'); safetensors files do not"
        ) from error
    try:
        with torch.serialization.safe_globals([_inert(name) for name in DATA_CLASSES]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the version of the pickle
            stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if "magic number" in str(error):
            raise InputError(
                "it is a pickle that torch.save did not write; save its tensors with torch.save or safetensors"
            ) from error
        # PyTorch's message is long and explains how to load the file unsafely.
        if any(word in str(error) for word in ("weights_only", "Unsupported", "Weights only")):
            named = re.search(r"GLOBAL ([\w.]+)", str(error))
            raise InputError(
                f"it contains objects other than tensors{f', of {named[1]}' if named else ''}, which could run code; "
                "nothing was loaded. Save only the tensors where the file was written: torch.save(model.state_dict(), "
                "'weights.pth')"
            ) from error
        raise
    tensors = dict(_flat(stored))
    if (
        not tensors
        and isinstance(stored, dict)
        and any(type(value).__name__ in NUMPY_ARRAYS for value in stored.values())
    ):
        raise InputError("its values are NumPy arrays, not tensors; save them with safetensors.numpy.save_file")
    if not tensors:
        keys = listed(map(repr, stored), SHOWN) if isinstance(stored, dict) else ""
        raise InputError(f"it has no state_dict; it has the keys {keys}" if keys else "it has no state_dict")
    yield Content({name: _torch_tensor(value) for name, value in tensors.items()}, {}, bounded=True)


def _inert(name: str) -> type:
    """Return a class for the unpickler to use for a class of data: it ignores everything it is given."""
    module, _, own = name.rpartition(".")

    def ignore(self: object, *_: object, **__: object) -> None:
        """Ignore the data."""

    return type(own, (), {"__module__": module, "__init__": ignore, "__setstate__": ignore})


def _flat(stored: Any) -> Iterator[tuple[str, Any]]:
    """Yield the tensors in nested dictionaries and lists, named by the keys on the way: "state_dict.conv1.weight".

    Each container is entered once, since they can contain each other.
    """
    import torch

    seen: set[int] = set()
    pending: list[tuple[tuple[str, ...], Any]] = [((), stored)]
    while pending:
        keys, value = pending.pop()
        if isinstance(value, torch.Tensor):
            yield ".".join(keys), value
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen and len(keys) < MAX_DEPTH:
            seen.add(id(value))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            pending += [((*keys, str(key)), item) for key, item in reversed(list(items)) if isinstance(key, (str, int))]


def _check_zip(path: pathlib.Path) -> None:
    """Reject archives that `torch.save` does not write: of other kinds, with outside paths or compressed members."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    names = [pathlib.PurePosixPath(member.filename.replace("\\", "/")) for member in members]
    if any(name.is_absolute() or ".." in name.parts for name in names):
        raise InputError("it is an archive with a member whose path is outside of it")
    if names and all(name.suffix == ".npy" for name in names):
        raise InputError(
            "it is an archive of NumPy arrays; write them as safetensors: "
            "safetensors.numpy.save_file(dict(numpy.load('weights.npz')), 'weights.safetensors')"
        )
    if not any(name.name == "data.pkl" for name in names):
        raise InputError(f"it is an archive, but not of PyTorch; of a .keras model, {WHOLE_MODEL}")
    if any(name.name == "constants.pkl" for name in names):
        raise InputError(
            "it is a TorchScript program; save its tensors: torch.save(torch.jit.load(FILE).state_dict(), 'a.pth')"
        )
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise InputError("it is an archive with compressed members, which PyTorch does not write")


def _torch_tensor(value: Any) -> Tensor:
    import torch

    problem = ""
    if value.layout != torch.strided or value.is_quantized:
        problem = "is not dense"
    elif not value.is_floating_point():
        problem = f"has type {value.dtype}"
    elif value.numel() * value.element_size() > value.untyped_storage().nbytes():
        problem = f"declares {value.numel():,} values in {value.untyped_storage().nbytes():,} bytes"
    return Tensor(tuple(value.shape), lambda: value.detach().to(torch.float32).numpy(), problem)


# safetensors


@contextlib.contextmanager
def _safetensors(path: pathlib.Path) -> Iterator[Content]:
    try:
        import safetensors
    except ImportError as error:
        raise InputError("safetensors files require safetensors (pip install safetensors)") from error
    with safetensors.safe_open(path, framework="numpy") as file:
        notes = _notes((file.metadata() or {}).get(ATTRIBUTE))
        yield Content({name: _slice(file, name) for name in file.keys()}, notes, bounded=True)  # noqa: SIM118


def _slice(file: Any, name: str) -> Tensor:
    part = file.get_slice(name)
    known = part.get_dtype() in ("F64", "F32", "F16", "BF16")
    problem = "" if known else f"has type {part.get_dtype()}"
    return Tensor(tuple(part.get_shape()), lambda: file.get_tensor(name).astype("float32"), problem)


@contextlib.contextmanager
def _sharded(path: pathlib.Path) -> Iterator[Content]:
    """Open the parts of a model that Hugging Face's index lists, which are in the folder of the index."""
    names = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
    with contextlib.ExitStack() as stack:
        tensors: dict[str, Tensor] = {}
        for name in names:
            if pathlib.PurePath(name).name != name or name.endswith(SHARDS):
                raise InputError(f"its part {name!r} is not a file in the same folder")
            if not path.with_name(name).is_file():
                raise InputError(f"its part {name!r} is missing")
            tensors |= stack.enter_context(opened(path.with_name(name))).tensors
        yield Content(tensors, {}, bounded=True)


# TensorFlow checkpoints


def _checkpoint(path: pathlib.Path) -> contextlib.AbstractContextManager[Content]:
    import tensorflow as tf  # only runs with TensorFlow checkpoints

    reader = tf.train.load_checkpoint(str(path.with_suffix("")))
    tensors = {}
    for key, shape in reader.get_variable_to_shape_map().items():
        if match := CHECKPOINTED.fullmatch(key):
            tensors[match[1].replace(".S", "/")] = Tensor(tuple(shape), functools.partial(reader.get_tensor, key))
    return contextlib.nullcontext(Content(tensors, {}))
