"""From a weights file to the network that it belongs to, and to a file in another format."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator

import keras

from keras_resnet.errors import InputError, check_choice
from keras_resnet.models import resnet, weights
from keras_resnet.models.architectures import EXPANSION, Architecture, find
from keras_resnet.models.weights.published import ModelInfo
from keras_resnet.models.weights.spec import STEM, ArchitectureSpec
from keras_resnet.ops.normalization import MODES

WRITERS: dict[str, Callable] = {weights.SUFFIX: weights.save, ".safetensors": weights.save_safetensors}


@contextlib.contextmanager
def _opened(path: str | os.PathLike, stride_in_1x1: bool | None) -> Iterator[weights.Stored]:
    """Open a file that is to say what network it is for."""
    weights.check_file(path)
    try:
        with weights.opened(path, stride_in_1x1) as stored:
            if stored is None:
                raise InputError("it is not of a network of this package, or was written by an older Keras")
            yield stored
    except InputError as error:
        raise InputError(f"weights file {os.fspath(path)!r} cannot be used: {str(error).rstrip('.')}.") from error


def info(
    path: str | os.PathLike, model: str | None = None, *, mode: str | None = None, stride_in_1x1: bool | None = None
) -> ModelInfo:
    """Return what a file says of preprocessing, crop and classes, or what is usual for it.

    Args:
        path: the file.
        model: name of the network, for a file that does not say all of it.
        mode: preprocessing, a key of `normalization.MODES`, for a file that does not say it.
        stride_in_1x1: as for `network`.

    Raises:
        ValueError: the file is damaged, or says nothing of its preprocessing and `mode` is None, or has no classifier.
    """
    with _opened(path, stride_in_1x1) as stored:
        name = _options(stored, model)["name"]
        if weights.files.HEAD[0] not in stored.shapes:
            raise InputError("it has no classifier")
        if mode is not None:
            check_choice("preprocessing", mode, tuple(MODES))
            return dataclasses.replace(stored.usual_info(mode), model=name)
        if stored.info is None:
            raise InputError(f"it does not say its preprocessing; give one of {', '.join(MODES)}")
        return stored.info


def network(
    path: str | os.PathLike,
    model: str | None = None,
    *,
    stride_in_1x1: bool | None = None,
    classifier_activation: str | None = "softmax",
    input_shape: tuple[int | None, int | None, int] | None = None,
) -> keras.Model:
    """Build the network that a weights file belongs to, and load it.

    Args:
        path: the file.
        model: name of the network, e.g. "resnet50", for a file that does not say all of it.
        stride_in_1x1: where its bottlenecks have their stride, for a file of which it is known better than it says.
        classifier_activation: activation of the classifier; None for logits.
        input_shape: (height, width, channels); by default of any size, with the file's channels.

    Raises:
        ValueError: the file is damaged, or does not say what network it is for.
    """
    with _opened(path, stride_in_1x1) as stored:
        options = _options(stored, model)
    channels = options.pop("channels")
    shape = input_shape or (None, None, channels)
    built = resnet.ResNet(**options, input_shape=shape, classifier_activation=classifier_activation)
    weights.load(built, path, stride_in_1x1=stride_in_1x1)
    return built


def _options(stored: weights.Stored, model: str | None) -> dict:
    """The builder's arguments for a file, what it does not say from the network of the paper called `model`."""
    said = stored.fingerprint
    if model is not None:
        paper = _of_architecture(find(model))
        # Files of the same stages with other shortcuts or strides are variants of the network, but not of a plain one.
        variant = None if "none" not in (paper.shortcut, said.shortcut) else paper.shortcut
        if difference := said.difference(dataclasses.replace(paper, shortcut=variant, stride_in_1x1=None)):
            raise InputError(difference)
        said = said.complete(paper)
    if said.shortcut is None:
        raise InputError("it does not say whether its network has shortcuts; name the model")
    if said.stride_in_1x1 is None and EXPANSION[said.block] > 1:
        raise InputError("it does not say where its bottlenecks have their stride; give stride_in_1x1")
    net = said.architecture
    return {
        "stages": said.stages(),
        "block": said.block,
        "stem": said.stem,
        "shortcut": {"none": None, "identity": "B"}.get(said.shortcut, said.shortcut),
        "zero_channels": said.zero_channels or "halves",
        "stride_in_1x1": said.stride_in_1x1 is not False,
        "include_top": weights.files.HEAD[0] in stored.shapes,
        "classes": stored.shapes.get(weights.files.HEAD[0], (0, 1000))[-1],
        "channels": stored.shapes[STEM][2],
        "name": net.name.lower() if net else "resnet",
    }


def _of_architecture(net: Architecture) -> ArchitectureSpec:
    """The fingerprint of a network of the paper as its constructor builds it."""
    return ArchitectureSpec(
        net.stem,
        net.block,
        tuple(stage.filters for stage in net.stages),
        tuple(stage.blocks for stage in net.stages),
        tuple(stage.stride for stage in net.stages),
        net.shortcut or "none",
        stride_in_1x1=True,
    )


def convert(
    source: str | os.PathLike,
    out: str | os.PathLike,
    model: str | None = None,
    *,
    stride_in_1x1: bool | None = None,
    info: ModelInfo | None = None,
) -> keras.Model:
    """Write a weights file in another format, with its SHA-256 manifest.

    Args:
        source: a file in any format that is read.
        out: `.weights.h5` for this package and Keras, or `.safetensors` for PyTorch, with torchvision's names; it must
            not exist.
        model: name of the network, for a file that does not say all of it.
        stride_in_1x1: as for `network`.
        info: the preprocessing, crop and classes to keep in the file; by default those of `source`.

    Returns:
        The network.

    Raises:
        ValueError: `source` cannot be used, or `out` exists, cannot be written or has another suffix.
    """
    out = pathlib.Path(out)
    writer = next((write for suffix, write in WRITERS.items() if out.name.endswith(suffix)), None)
    if writer is None:
        raise InputError(f"out must end in {' or '.join(WRITERS)}; got {str(out)!r}.")
    if out.exists():
        raise InputError(f"out must be a file that does not exist yet; {str(out)!r} does.")
    if not out.parent.is_dir():
        raise InputError(f"out must lie in an existing folder; {str(out.parent)!r} is none.")
    built = network(source, model, stride_in_1x1=stride_in_1x1)
    if info is None:
        with _opened(source, stride_in_1x1) as stored:
            info = stored.info
    writer(built, out, info)
    return built
