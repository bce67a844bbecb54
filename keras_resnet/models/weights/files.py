"""Weights files: read in every known format and naming, loaded whole or not at all, and written by rename.

    weights.load(model, "resnet20-12fca82f.th", adapt=True)
    weights.save(model, "mine.weights.h5")

A file is checked against its SHA-256 manifest, where it has one, and against what the network is: its blocks, its
shortcuts, and where its strides are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import os
import pathlib
import tempfile
from collections.abc import Iterator

import keras
import numpy as np

from keras_resnet import compat, files
from keras_resnet.errors import InputError
from keras_resnet.models.weights import namings, published, readers
from keras_resnet.models.weights.published import ModelInfo
from keras_resnet.models.weights.spec import STEM, ArchitectureSpec, slots

SUFFIX = ".weights.h5"
HEAD = ("predictions/kernel", "predictions/bias")

PARTIAL = ".weights-"
"""How the folder begins in which a file is written, beside its place."""

logger = logging.getLogger(__name__)


def check(weights: str | os.PathLike | None) -> None:
    """Raise `InputError` unless `weights` is None, a name of published weights or the path of an existing file."""
    if weights is None or published.is_name(weights):
        return
    names = ", ".join(repr(name) for name in dict.fromkeys(info.weights for info in published.PUBLISHED))
    allowed = f"weights must be None, one of {names} or the path of an existing file"
    if not isinstance(weights, (str, os.PathLike)):
        raise InputError(f"{allowed}; got {weights!r}.")
    if not pathlib.Path(weights).is_file():
        raise InputError(f"{allowed}; there is no file {str(weights)!r}.")


@dataclasses.dataclass(frozen=True)
class Stored:
    """An open weights file of a residual or plain network, by our names and in Keras' layout.

    Attributes:
        path: the file.
        naming: how it names its tensors.
        fingerprint: what the network is, as far as the file says.
        names: "{layer}/{variable}" -> name in the file.
    """

    path: pathlib.Path
    naming: namings.Naming
    fingerprint: ArchitectureSpec
    names: dict[str, str]
    content: readers.Content

    @functools.cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each of our variables; biases of convolutions are none of them."""
        return _shapes(self.content, self.naming, self.names)

    def read(self, name: str) -> np.ndarray:
        """Read one of our variables; what our network has no place for is folded into its batch norm.

        Raises:
            ValueError: it cannot be read.
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
        """The preprocessing, crop and classes: as the file says, as published, or as is usual for its naming.

        None where nothing says them.

        Raises:
            ValueError: what the file says cannot be read.
        """
        if notes := self.content.notes.get("info"):
            return ModelInfo.from_dict(notes)
        if known := published.recognised(self.path):
            return known
        return self.usual_info(self.naming.mode) if self.naming.mode else None

    def usual_info(self, mode: str) -> ModelInfo:
        """The crop and classes that are usual for such a network, with the preprocessing `mode`."""
        net, classes = self.fingerprint.architecture, self.shapes.get(HEAD[0], (0,))[-1]
        small = self.fingerprint.stem == "cifar"
        names = tuple(map(str, range(classes)))
        if not small and classes == 1000:
            names = tuple(name for _, name in published.imagenet_classes())
        elif self.naming.name == "akamaster" and classes == 10:
            names = published.CIFAR10_CLASSES
        size, resize = (32, 0) if small else (224, 256)
        return ModelInfo(net.name.lower() if net else "resnet", mode, size, resize, names)


def _shapes(content: readers.Content, naming: namings.Naming, names: dict[str, str]) -> dict[str, tuple[int, ...]]:
    # A view of one number in the tensor's shape: the layout can be turned without reading.
    views = {ours: np.broadcast_to(np.float32(0), content.tensors[theirs].shape) for ours, theirs in names.items()}
    turned = {ours: namings.to_ours(ours, view, naming).shape for ours, view in views.items()}
    return {ours: shape for ours, shape in turned.items() if not ours.endswith("_conv/bias")}


@contextlib.contextmanager
def opened(path: str | os.PathLike, stride_in_1x1: bool | None = None) -> Iterator[Stored | None]:
    """Open a weights file of a network of this package.

    Args:
        path: the file.
        stride_in_1x1: where its bottlenecks have their stride, for a file of which it is known better than its naming
            says; see `ArchitectureSpec`.

    Yields:
        A `Stored`, of which variables can be read until the context ends; None for a file of Keras 3 that only Keras
        can map to a model.

    Raises:
        ValueError: the file is damaged, hostile, or of another kind of network.
    """
    files.verify(path)
    with readers.opened(path) as content:
        if content.whole:
            yield None
            return
        naming, names = namings.identify(content.tensors)
        said = ArchitectureSpec.of_shapes(_shapes(content, naming, names))
        if text := content.notes.get("fingerprint"):
            said = said.complete(ArchitectureSpec.from_json(text))
        elif stride_in_1x1 is not None:
            said = dataclasses.replace(said, stride_in_1x1=stride_in_1x1)
        said = said.complete(dataclasses.replace(said, **naming.implies))
        yield Stored(pathlib.Path(path), naming, said, names, content)


def load(
    model: keras.Model, path: str | os.PathLike, *, adapt: bool = False, stride_in_1x1: bool | None = None
) -> None:
    """Load a weights file into `model`; where it does not fit, the model stays as it was.

    Args:
        model: a network of this package; for a `.weights.h5` file, any model that it was saved from.
        path: the file, in a format that `readers` knows.
        adapt: whether the ends may differ: a classifier for other classes keeps its new weights (a log line says so),
            a classifier that the network does not have is left out, and the first convolution takes another number of
            input channels, the kernels of red, green and blue repeated over them and scaled by 3 / channels.
        stride_in_1x1: where the file's bottlenecks have their stride, for a file of which it is known better than its
            naming says.

    Raises:
        ValueError: the file is missing, damaged, or of another network.
    """
    check_file(path)
    try:
        with opened(path, stride_in_1x1) as stored:
            if stored is None:
                _load_whole(model, path)
            else:
                variables, values = _fitting(model, stored, adapt)
                for name, value in values.items():
                    variables[name].assign(value)
    except InputError as error:
        reason = str(error).rstrip(".")
        raise InputError(f"weights file {str(path)!r} does not fit {model.name}: {reason}.") from error


def check_file(path: str | os.PathLike) -> None:
    """Raise `InputError` unless `path` is that of an existing file."""
    if not isinstance(path, (str, os.PathLike)) or not pathlib.Path(path).is_file():
        raise InputError(f"weights must be the path of an existing file; there is no file {str(path)!r}.")


def _fitting(model: keras.Model, stored: Stored, adapt: bool) -> tuple[dict, dict[str, np.ndarray]]:
    """The variables of `model`, and the values from the file for them, all read before any is assigned."""
    variables = slots(model)
    if variables is None:
        raise InputError("the model has layers that the networks of this package do not have")
    if difference := stored.fingerprint.difference(ArchitectureSpec.of_model(model)):
        raise InputError(difference)
    wanted = {name: tuple(variable.shape) for name, variable in variables.items()}
    shapes = dict(stored.shapes)
    if adapt:
        if any(shapes.get(name) != wanted.get(name) for name in HEAD):
            if HEAD[0] in wanted:
                had = f"{shapes[HEAD[0]][-1]} classes" if HEAD[0] in shapes else "no classifier"
                logger.warning(
                    "%s: the file has %s, the network %d: its classifier is new", model.name, had, wanted[HEAD[0]][-1]
                )
            for name in HEAD:
                wanted.pop(name, None)
                shapes.pop(name, None)
        if shapes[STEM][2] == 3 and shapes[STEM][:2] == wanted[STEM][:2] and shapes[STEM][3] == wanted[STEM][3]:
            shapes[STEM] = wanted[STEM]
    if strange := sorted(set(shapes) ^ set(wanted)):
        where = "the file" if strange[0] in shapes else "the network"
        raise InputError(f"only {where} has {strange[0]}")
    for name, shape in wanted.items():
        if shapes[name] != shape:
            raise InputError(f"{name} has shape {list(shapes[name])} there, {list(shape)} in the network")
    values = {name: stored.read(name) for name in wanted}
    values[STEM] = adapted_stem(values[STEM], wanted[STEM][2])
    return variables, values


def adapted_stem(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Spread the first convolution over another number of input channels, as timm does.

    A grey image gives what its copy in three channels gave.

    Args:
        kernel: f32[h,w,3,filters].
        channels: the number of channels that the network takes.

    Returns:
        f32[h,w,channels,filters]: the kernels of red, green and blue in turn, scaled by 3 / channels; their sum for
        one channel.
    """
    if channels == kernel.shape[2]:
        return kernel
    if channels == 1:
        return kernel.sum(2, keepdims=True)
    return np.take(kernel, np.arange(channels) % 3, axis=2) * np.float32(3 / channels)


def _load_whole(model: keras.Model, path: str | os.PathLike) -> None:
    """Load a file of Keras into the model that it was saved from: by the names of layers, or by Keras' own reader."""
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
            stored = sum(int(np.prod(tensor.shape)) for tensor in content.tensors.values())
        if stored != model.count_params():
            unnamed = any(name.startswith("layers/") for name in shapes)
            hint = "; it does not name its layers: of Keras 2, .h5 files do and .weights.h5 do not" if unnamed else ""
            raise ValueError(f"the file holds {stored:,} numbers, the network {model.count_params():,}{hint}")
        model.load_weights(str(path))
    except (ValueError, KeyError, OSError) as error:
        model.set_weights(before)
        raise InputError(str(error).strip().splitlines()[0]) from error


def save(model: keras.Model, path: str | os.PathLike, info: ModelInfo | None = None) -> None:
    """Write the model's weights and their SHA-256 manifest, without the optimizer's state.

    `path` holds the old or the new file at every moment. For a network of this package the file says what network it
    is, so that loading into another one fails where shapes alone would fit. Keras reads the file too.

    Args:
        model: any Keras model.
        path: ends in `.weights.h5`.
        info: the preprocessing, crop and classes to keep in the file.

    Raises:
        ValueError: the path does not end in `.weights.h5`.
    """
    import h5py

    path = pathlib.Path(path)
    if not path.name.endswith(SUFFIX):
        raise InputError(f"path must end in {SUFFIX}; got {str(path)!r}.")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=PARTIAL) as folder:
        whole, bare = pathlib.Path(folder, f"whole{SUFFIX}"), pathlib.Path(folder, f"bare{SUFFIX}")
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
    """What a file says about its weights beside their values, as JSON; None where nothing is known."""
    fingerprint = ArchitectureSpec.of_model(model)
    notes = {} if fingerprint is None else {"fingerprint": fingerprint.to_json()}
    if info is not None:
        notes["info"] = info.to_dict()
    return json.dumps(notes) if notes else None


def save_safetensors(model: keras.Model, path: str | os.PathLike, info: ModelInfo | None = None) -> None:
    """Write a network's weights with torchvision's names and layout, and their SHA-256 manifest.

    PyTorch's `load_state_dict` takes the file's tensors; this package reads the network's facts from its metadata.

    Args:
        model: a network of this package.
        path: ends in `.safetensors`.
        info: the preprocessing, crop and classes to keep in the file.

    Raises:
        ValueError: the path has another suffix, or the model is another one.
    """
    from safetensors.numpy import save_file

    path = pathlib.Path(path)
    variables = slots(model)
    if path.suffix != ".safetensors":
        raise InputError(f"path must end in .safetensors; got {str(path)!r}.")
    if variables is None:
        raise InputError(f"{model.name} is not a network of this package.")
    arrays = {name: variable.numpy().astype("float32") for name, variable in variables.items()}
    metadata = {"format": "pt", readers.ATTRIBUTE: _notes(model, info)}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=PARTIAL) as folder:
        partial = pathlib.Path(folder, path.name)
        save_file(dict(namings.to_theirs(arrays)), partial, metadata)
        files.publish(partial, path)
