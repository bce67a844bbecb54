"""Build the network of a weights file, and convert weights files to other formats."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_resnet import files
from keras_resnet.errors import InputError, check_choice
from keras_resnet.models import resnet, weights
from keras_resnet.models.architectures import EXPANSION, Architecture, find
from keras_resnet.models.weights import readers
from keras_resnet.models.weights.files import QUANTIZED, is_quantized
from keras_resnet.models.weights.info import ModelInfo
from keras_resnet.models.weights.spec import STEM, ArchitectureSpec
from keras_resnet.ops.normalization import MODES

WRITERS: dict[str, Callable[[keras.Model, pathlib.Path, ModelInfo | None], None]] = {
    weights.SUFFIX: weights.save,
    ".safetensors": weights.save_safetensors,
}


@contextlib.contextmanager
def _opened(
    path: str | os.PathLike[str], stride_in_1x1: bool | None, weights_key: str | None
) -> Iterator[weights.StoredWeights]:
    """Open a weights file of a residual or plain network."""
    weights.check_file(path)
    try:
        with weights.opened(path, stride_in_1x1, weights_key) as stored:
            if stored is None:
                with readers.opened(path) as content:
                    if is_quantized(content.tensors):
                        raise InputError(QUANTIZED)
                raise InputError(
                    "it is not from a network of this package, or was written by an older version of Keras"
                )
            yield stored
    except InputError as error:
        raise InputError(f"weights file {os.fspath(path)!r} cannot be used: {str(error).rstrip('.')}.") from error


def info(
    path: str | os.PathLike[str],
    model: str | None = None,
    *,
    mode: str | None = None,
    stride_in_1x1: bool | None = None,
    weights_key: str | None = None,
) -> ModelInfo:
    """Return the metadata of a weights file: preprocessing, crop and classes.

    Args:
        path: path of the file.
        model: name of the network, if the file does not determine it; see `network`.
        mode: preprocessing, a key of `normalization.MODES`, if the file does not state it.
        stride_in_1x1: see `network`.
        weights_key: see `network`.

    Raises:
        ValueError: the file is damaged or has no classifier, or neither the file nor `mode` state the preprocessing.
    """
    with _opened(path, stride_in_1x1, weights_key) as stored:
        name = _options(stored, model)["name"]
        if weights.HEAD[0] not in stored.shapes:
            head = f", but a head of {len(stored.head)} layers" if stored.head else ""
            raise InputError(f"it has no classifier{head}")
        if mode is not None:
            check_choice("preprocessing", mode, tuple(MODES))
            return dataclasses.replace(stored.usual_info(mode), model=name)
        if stored.info is None:
            raise InputError(f"it does not state its preprocessing; pass one of {', '.join(MODES)}")
        return stored.info


def network(
    path: str | os.PathLike[str],
    model: str | None = None,
    *,
    stride_in_1x1: bool | None = None,
    weights_key: str | None = None,
    classifier_activation: str | None = "softmax",
    input_shape: tuple[int | None, int | None, int] | None = None,
) -> keras.Model:
    """Build the network of a weights file and load the weights.

    Args:
        path: path of the file.
        model: name of the network, e.g. "resnet50", if the file does not determine all of its architecture.
        stride_in_1x1: whether bottlenecks have their stride in the first 1x1; overrides what the file implies.
        weights_key: which network of a file with several; see `files.load`.
        classifier_activation: activation of the classifier; None returns logits.
        input_shape: (height, width, channels); by default any height and width, with the channels of the file.

    Raises:
        ValueError: the file is damaged, or does not determine the architecture.
    """
    with _opened(path, stride_in_1x1, weights_key) as stored:
        options = _options(stored, model)
    channels = options.pop("channels")
    shape = input_shape or (None, None, channels)
    built = resnet.ResNet(**options, input_shape=shape, classifier_activation=classifier_activation)
    weights.load(built, path, stride_in_1x1=stride_in_1x1, weights_key=weights_key)
    return built


def _options(stored: weights.StoredWeights, model: str | None) -> dict[str, Any]:
    """Return the arguments of `ResNet` for a file; those it does not determine are of the network called `model`."""
    spec = stored.spec
    if model is not None:
        paper = _paper_spec(find(model))
        # A residual network with other shortcuts or strides is a variant of the named one; a plain network is not.
        variant = None if "none" not in (paper.shortcut, spec.shortcut) else paper.shortcut
        if difference := spec.difference(dataclasses.replace(paper, shortcut=variant, stride_in_1x1=None)):
            raise InputError(difference)
        spec = spec.complete(paper)
    if spec.shortcut is None:
        raise InputError("it does not state whether its network has shortcuts; pass the name of the model")
    if spec.stride_in_1x1 is None and EXPANSION[spec.block] > 1:
        raise InputError("it does not state where its bottlenecks have their stride; pass stride_in_1x1")
    net = spec.architecture
    return {
        "stages": spec.stages(),
        "block": spec.block,
        "stem": spec.stem,
        "shortcut": {"none": None, "identity": "B"}.get(spec.shortcut, spec.shortcut),
        "zero_channels": spec.zero_channels or "halves",
        "stride_in_1x1": spec.stride_in_1x1 is not False,
        "include_top": weights.HEAD[0] in stored.shapes,
        "classes": stored.shapes.get(weights.HEAD[0], (0, 1000))[-1],
        "channels": stored.shapes[STEM][2],
        "name": net.name.lower() if net else "resnet",
    }


def _paper_spec(net: Architecture) -> ArchitectureSpec:
    """Return the specification of a network of the paper with the defaults of its constructor."""
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
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    model: str | None = None,
    *,
    stride_in_1x1: bool | None = None,
    weights_key: str | None = None,
    info: ModelInfo | None = None,
) -> keras.Model:
    """Convert a weights file to another format and write its SHA-256 manifest.

    Args:
        source: path of a weights file in any supported format.
        out: path of the new file, ending in `.weights.h5` for this package and Keras, or in `.safetensors` for PyTorch
            with torchvision's names.
        model: name of the network, if the file does not determine it; see `network`.
        stride_in_1x1: see `network`.
        weights_key: see `network`.
        info: metadata to save in the file; by default that of `source`.

    Returns:
        The network with the weights.

    Raises:
        ValueError: `source` cannot be used, or `out` exists, cannot be written or has another suffix.
    """
    out = pathlib.Path(out)
    writer = next((write for suffix, write in WRITERS.items() if out.name.endswith(suffix)), None)
    if writer is None:
        raise InputError(f"out must end in {' or '.join(WRITERS)}; got {str(out)!r}.")
    files.check_new(out, "file")
    built = network(source, model, stride_in_1x1=stride_in_1x1, weights_key=weights_key)
    if info is None:
        with _opened(source, stride_in_1x1, weights_key) as stored:
            info = stored.info
    files.make_parent(out)
    writer(built, out, info)
    return built
