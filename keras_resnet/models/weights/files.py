"""Weights files: load them from all supported formats and naming conventions, and save them atomically.

    weights.load(model, "resnet20-12fca82f.th", adapt=True)
    weights.save(model, "mine.weights.h5")

A file is verified against its SHA-256 manifest, if it has one, and against the architecture of the network: its blocks,
shortcuts and strides. If it does not fit, the model is not changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import math
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet import compat, files
from keras_resnet.errors import InputError
from keras_resnet.models.weights import namings, published, readers
from keras_resnet.models.weights.identify import identify
from keras_resnet.models.weights.info import ModelInfo
from keras_resnet.models.weights.spec import STEM, ArchitectureSpec, named_variables

SUFFIX = ".weights.h5"
HEAD = ("predictions/kernel", "predictions/bias")

PARTIAL = ".weights-"
"""Prefix of the temporary folder in which a file is written, next to its destination."""

OVERHEAD = 1 << 20
"""Bytes of a weights file in addition to the numbers, at most: names and, in HDF5, groups."""

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class StoredWeights:
    """An open weights file of a residual or plain network, with the names and layouts of this package.

    Attributes:
        path: path of the file.
        naming: naming convention of its tensors.
        spec: architecture of its network, as far as the file determines it.
        names: "{layer}/{variable}" -> name in the file.
        content: the open file.
        head: layers of a head that is not one linear classifier, and is not read.
        note: which of several networks in the file this is, for the log; "" if it is the only one.
    """

    path: pathlib.Path
    naming: namings.Naming
    spec: ArchitectureSpec
    names: dict[str, str]
    content: readers.Content
    head: tuple[str, ...] = ()
    note: str = ""

    @functools.cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each variable of this package's network, which has no biases of convolutions."""
        return _shapes(self.content, self.naming, self.names)

    def read(self, name: str) -> np.ndarray:
        """Read a variable.

        Biases of convolutions and a different epsilon of batch norm are folded into the moving statistics.

        Args:
            name: "{layer}/{variable}".

        Raises:
            ValueError: the variable cannot be read.
        """
        array = namings.to_ours(name, self.content.read(self.names[name]), self.naming)
        if name.endswith("_bn/moving_variance"):
            return array + np.float32(namings.epsilon_difference(self.naming))
        bias = name.replace("_bn/moving_mean", "_conv/bias")
        if bias != name and bias in self.names:
            return array - self.content.read(self.names[bias])
        return array

    @property
    def info(self) -> ModelInfo | None:
        """Metadata in the file, or of the published weights with its digest, or as usual for its naming convention.

        None if none of these is available.

        Raises:
            ValueError: the metadata in the file cannot be read.
        """
        if notes := self.content.notes.get("info"):
            return ModelInfo.from_dict(notes)
        if info := published.find_by_digest(self.path):
            return info
        return self.usual_info(self.naming.mode) if self.naming.mode else None

    def usual_info(self, mode: str) -> ModelInfo:
        """Return metadata with the preprocessing `mode` and the usual crop and classes for the network."""
        net, classes = self.spec.architecture, self.shapes.get(HEAD[0], (0,))[-1]
        small = self.spec.stem == "cifar"
        names = tuple(map(str, range(classes)))
        if not small and classes == 1000:
            names = tuple(name for _, name in published.imagenet_classes())
        elif self.naming.name == "akamaster" and classes == 10:
            names = published.CIFAR10_CLASSES
        size, resize = (32, 0) if small else (224, 256)
        return ModelInfo(net.name.lower() if net else "resnet", mode, size, resize, names)


def _shapes(content: readers.Content, naming: namings.Naming, names: dict[str, str]) -> dict[str, tuple[int, ...]]:
    # Arrays of the same shapes that take no memory, to convert the layouts without reading the tensors.
    arrays = {ours: np.broadcast_to(np.float32(0), content.tensors[theirs].shape) for ours, theirs in names.items()}
    shapes = {ours: namings.to_ours(ours, array, naming).shape for ours, array in arrays.items()}
    return {ours: shape for ours, shape in shapes.items() if not ours.endswith("_conv/bias")}


@contextlib.contextmanager
def opened(
    path: str | os.PathLike[str], stride_in_1x1: bool | None = None, weights_key: str | None = None
) -> Iterator[StoredWeights | None]:
    """Open a weights file of a residual or plain network.

    Args:
        path: path of the file.
        stride_in_1x1: overrides what the naming convention implies about the stride of bottlenecks; see
            `ArchitectureSpec`.
        weights_key: which network of a file with several, such as "state_dict_ema"; see `identify`.

    Yields:
        `StoredWeights`, which can be read inside the context; None for a file of Keras 3 that only Keras can map to a
        model.

    Raises:
        ValueError: the file is damaged, unsafe, or of another kind of network.
    """
    files.verify(path)
    with readers.opened(path) as content:
        if content.whole:
            yield None
            return
        network = identify({name: tensor.shape for name, tensor in content.tensors.items()}, weights_key)
        naming, names = network.naming, network.names
        content.check(names.values())
        spec = ArchitectureSpec.of_shapes(_shapes(content, naming, names))
        if text := content.notes.get("fingerprint"):
            spec = spec.complete(ArchitectureSpec.from_json(text))
        elif stride_in_1x1 is not None:
            spec = dataclasses.replace(spec, stride_in_1x1=stride_in_1x1)
        spec = spec.complete(dataclasses.replace(spec, **naming.implies))
        yield StoredWeights(pathlib.Path(path), naming, spec, names, content, network.head, network.note)


def load(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    adapt: bool = False,
    stride_in_1x1: bool | None = None,
    weights_key: str | None = None,
) -> None:
    """Load a weights file into a model; if the file does not fit, the model is not changed.

    Args:
        model: a network of this package; for a `.weights.h5` file, any model with the architecture of the saved one.
        path: path of the file, in a format of `readers`.
        adapt: whether input and output may differ. With another number of classes the classifier keeps its weights,
            and a warning is logged; a classifier that the model lacks is ignored. With another number of input
            channels the kernels for red, green and blue are repeated and scaled by 3 / channels.
        stride_in_1x1: overrides what the naming convention implies about the stride of bottlenecks.
        weights_key: which network of a file with several, such as "state_dict_ema" or "encoder_q": part of the names of
            its tensors. By default the averaged weights, if the file has one network with and one without.

    Raises:
        ValueError: the file is missing, damaged, or of another network.
    """
    check_file(path)
    try:
        with opened(path, stride_in_1x1, weights_key) as stored:
            if stored is None:
                _load_whole(model, path)
            else:
                if stored.note:
                    logger.warning("%s: %s", path, stored.note)
                variables, values = _fitting(model, stored, adapt)
                for name, value in values.items():
                    variables[name].assign(value)
    except InputError as error:
        reason = str(error).rstrip(".")
        if re.search(r"-\d{5}-of-\d{5}\.", os.path.basename(path)):
            reason += "; it is a part of a model, whose .index.json lists all parts"
        raise InputError(f"weights file {str(path)!r} does not fit {model.name}: {reason}.") from error


def check_file(path: str | os.PathLike[str], argument: str = "weights") -> None:
    """Raise `InputError` unless `path` is that of an existing file; `argument` is the name of the caller's."""
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(f"{argument} must be the path of an existing file; got {path!r}.")
    if not pathlib.Path(path).is_file():
        raise InputError(f"{argument} must be the path of an existing file; {published.missing(path)}.")


def _fitting(model: keras.Model, stored: StoredWeights, adapt: bool) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the variables of `model` and their values from the file, all read before any is assigned."""
    variables, spec = named_variables(model), ArchitectureSpec.of_model(model)
    if variables is None or spec is None:
        raise InputError(
            "the model has layers that the networks of this package do not have; load the weights into the network "
            "itself, before or after other layers are added to it"
        )
    if difference := stored.spec.difference(spec):
        raise InputError(difference)
    wanted = {name: tuple(variable.shape) for name, variable in variables.items()}
    shapes = dict(stored.shapes)
    if adapt:
        if any(shapes.get(name) != wanted.get(name) for name in HEAD):
            if HEAD[0] in wanted:
                stored_classes = f"{shapes[HEAD[0]][-1]} classes" if HEAD[0] in shapes else "no classifier"
                if stored.head:
                    stored_classes = f"a head of {_some(stored.head)}"
                logger.warning(
                    "%s: the file has %s, the network %d classes; the classifier keeps its initial weights",
                    model.name,
                    stored_classes,
                    wanted[HEAD[0]][-1],
                )
            for name in HEAD:
                wanted.pop(name, None)
                shapes.pop(name, None)
        if shapes[STEM][2] == 3 and shapes[STEM][:2] == wanted[STEM][:2] and shapes[STEM][3] == wanted[STEM][3]:
            shapes[STEM] = wanted[STEM]
    if stored.head and HEAD[0] in wanted:
        raise InputError(f"its head is {_some(stored.head)}, not one classifier; adapt=True loads the backbone only")
    if unmatched := sorted(set(shapes) ^ set(wanted)):
        owner = "the file" if unmatched[0] in shapes else "the network"
        raise InputError(f"only {owner} has {unmatched[0]}")
    for name, shape in wanted.items():
        if shapes[name] != shape:
            raise InputError(f"{name} has shape {list(shapes[name])} in the file, {list(shape)} in the network")
    values = {name: stored.read(name) for name in wanted}
    values[STEM] = adapted_stem(values[STEM], wanted[STEM][2])
    return variables, values


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")


def adapted_stem(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Adapt the first convolution to another number of input channels, as timm does.

    With one channel, the output for a gray image is that of the original kernel for its three equal channels.

    Args:
        kernel: f32[h,w,3,filters].
        channels: number of input channels of the network.

    Returns:
        f32[h,w,channels,filters]: the kernels of red, green and blue repeated in turn and scaled by 3 / channels; for
        one channel, their sum.
    """
    if channels == kernel.shape[2]:
        return kernel
    if channels == 1:
        return kernel.sum(2, keepdims=True)
    return np.take(kernel, np.arange(channels) % 3, axis=2) * np.float32(3 / channels)


def reverse_input_channels(model: keras.Model) -> None:
    """Reverse the input channels of the first convolution: a network for BGR images becomes one for RGB images."""
    kernel = model.get_layer("conv1_conv").kernel
    kernel.assign(np.ascontiguousarray(kernel.numpy()[:, :, ::-1]))  # PyTorch accepts no negative strides


QUANTIZED = "it has the weights of a run with quantize; use the float network that this run started from"
"""Why a file cannot be used for a float network."""


def is_quantized(names: Iterable[str]) -> bool:
    """Return whether variables are those of a network that is trained for int8, by their names in a file or model."""
    return any(re.search(r"(^|/)quantize(_\d+)?/|_int8/", name) for name in names)


def _load_whole(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Load a file of Keras into a model of the same architecture, by the names of layers or with Keras' reader."""
    before = model.get_weights()
    leaves = [layer for layer in model._flatten_layers(include_self=False) if not getattr(layer, "layers", None)]
    named = {f"{layer.name}/{index}": variable for layer in leaves for index, variable in enumerate(layer.weights)}
    try:
        with readers.opened(path) as content:
            shapes = {name: tensor.shape for name, tensor in content.tensors.items()}
            if shapes == {name: tuple(variable.shape) for name, variable in named.items()}:
                values = {name: content.read(name) for name in named}
                for name, variable in named.items():
                    variable.assign(values[name])
                return
            if is_quantized(content.tensors) and not is_quantized(named):
                raise ValueError(QUANTIZED)
            stored = sum(int(np.prod(tensor.shape)) for tensor in content.tensors.values())
        if stored != model.count_params():
            unnamed = any(name.startswith("layers/") for name in shapes)
            hint = (
                "; it has no layer names, which Keras 2 writes to .h5 but not to .weights.h5 files" if unnamed else ""
            )
            raise ValueError(f"the file has {stored:,} values, the network {model.count_params():,}{hint}")
        model.load_weights(str(path))
    except (ValueError, KeyError, OSError) as error:
        model.set_weights(before)
        raise InputError(str(error).strip().splitlines()[0]) from error


@contextlib.contextmanager
def _partial(path: pathlib.Path, size: int) -> Iterator[pathlib.Path]:
    """Make a temporary folder next to a file that is about to be written.

    Args:
        path: the file.
        size: bytes that it takes to write it.

    Raises:
        ValueError: the disk is full. h5py may even crash there, so the free space is looked up first.
    """
    free = shutil.disk_usage(path.parent).free
    if free < size:
        raise InputError(f"weights {str(path)!r} cannot be written: they take {size:,} bytes, and {free:,} are free.")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=PARTIAL) as folder:
        try:
            yield pathlib.Path(folder)
        except (OSError, RuntimeError) as error:
            if getattr(error, "filename", None):
                raise
            raise InputError(f"weights {str(path)!r} cannot be written: {str(error).splitlines()[0]}.") from error


def _bytes(variables: Iterable[Any]) -> int:
    """Return the size of variables on the disk."""
    return sum(math.prod(variable.shape) * np.dtype("float32").itemsize for variable in variables)


def save(model: keras.Model, path: str | os.PathLike[str], info: ModelInfo | None = None) -> None:
    """Save the weights of a model and their SHA-256 manifest, without the state of the optimizer.

    The file is replaced atomically. For a network of this package it contains the architecture, so that loading it into
    another network fails even if all shapes are equal. Keras can load the file too.

    Args:
        model: any Keras model.
        path: path of the file, ending in `.weights.h5`.
        info: metadata to save in the file: preprocessing, crop and classes.

    Raises:
        ValueError: the path does not end in `.weights.h5`.
    """
    import h5py

    path = pathlib.Path(path)
    if not path.name.endswith(SUFFIX):
        raise InputError(f"path must end in {SUFFIX}; got {str(path)!r}.")
    optimizer = getattr(model, "optimizer", None)
    state = getattr(optimizer, "variables", ())
    size = 2 * _bytes(model.weights) + _bytes(state() if callable(state) else state)
    with _partial(path, size + OVERHEAD) as folder:
        whole, bare = folder / f"whole{SUFFIX}", folder / f"bare{SUFFIX}"
        model.save_weights(str(whole))
        with h5py.File(whole, "r") as source, h5py.File(bare, "w") as target:
            for name in source:
                if name not in ("optimizer", "metrics"):
                    source.copy(name, target)
            compat.name_layers(target, model)
            if notes := _notes(model, info):
                target.attrs[readers.ATTRIBUTE] = notes
        files.publish(bare, path)


def _notes(model: keras.Model, info: ModelInfo | None) -> str | None:
    """Return the architecture and metadata to save with the weights, as JSON; None if there are none."""
    spec = ArchitectureSpec.of_model(model)
    notes: dict[str, Any] = {} if spec is None else {"fingerprint": spec.to_json()}
    if info is not None:
        notes["info"] = info.to_dict()
    return json.dumps(notes) if notes else None


def save_safetensors(model: keras.Model, path: str | os.PathLike[str], info: ModelInfo | None = None) -> None:
    """Save the weights of a network with torchvision's names and layouts, and their SHA-256 manifest.

    PyTorch's `load_state_dict` accepts the tensors of the file. The architecture and `info` are in its metadata.

    Args:
        model: a network of this package.
        path: path of the file, ending in `.safetensors`.
        info: metadata to save in the file: preprocessing, crop and classes.

    Raises:
        ValueError: the path does not end in `.safetensors`, or the model is not a network of this package.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    path = pathlib.Path(path)
    variables = named_variables(model)
    if path.suffix != ".safetensors":
        raise InputError(f"path must end in .safetensors; got {str(path)!r}.")
    if variables is None:
        raise InputError(f"model must be a network of this package; got {model.name!r}.")
    arrays = {name: variable.numpy().astype("float32") for name, variable in variables.items()}
    metadata = {"format": "pt", readers.ATTRIBUTE: _notes(model, info) or "{}"}
    with _partial(path, _bytes(arrays.values()) + OVERHEAD) as folder:
        partial = folder / path.name
        try:
            save_file(dict(namings.to_theirs(arrays)), partial, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error
        _sort_metadata(partial)
        partial.chmod(0o644)  # safetensors makes a file that only its owner reads
        files.publish(partial, path)


def _sort_metadata(path: pathlib.Path) -> None:
    """Sort the metadata of a .safetensors file, whose order is random: equal weights give equal files and digests."""
    with open(path, "r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        file.seek(8)
        file.write(text.ljust(size))
