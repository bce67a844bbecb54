"""Weights by name: those in this package, and those published by others, with their metadata and download.

`python -m keras_resnet.models.weights.published` prints the table.
"""

from __future__ import annotations

import dataclasses
import functools
import http.client
import os
import pathlib
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import BinaryIO, TypeGuard

from keras_resnet import files
from keras_resnet.errors import InputError, check_choice, listed, nearest_first
from keras_resnet.models import zoo
from keras_resnet.models.predictions import imagenet_classes
from keras_resnet.models.weights import hub
from keras_resnet.models.weights.info import ModelInfo

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def _keras_applications() -> Iterator[ModelInfo]:
    """Yield the authors' models as converted by keras.applications, with its hashes."""
    rows = {
        "resnet50": ("2cb95161c43110f7111970584f804107", 25.1, 7.9),
        "resnet101": ("f1aeb4b969a6efcfb50fad2f0c20cfc5", 23.6, 7.2),
        "resnet152": ("100835be76be38e30d865e96f2aaae62", 23.4, 6.9),
    }
    base = "https://storage.googleapis.com/tensorflow/keras-applications/resnet"
    for model, (md5, top1, top5) in rows.items():
        yield ModelInfo(
            model,
            "caffe",
            224,
            256,
            tuple(name for _, name in imagenet_classes()),
            weights="imagenet",
            stride_in_1x1=True,
            top1_error=top1,
            top5_error=top5,
            source="He et al., converted by keras.applications",
            licence="MIT",
            url=f"{base}/{model}_weights_tf_dim_ordering_tf_kernels.h5",
            digest=f"md5:{md5}",
        )


def _torchvision() -> Iterator[ModelInfo]:
    """Yield torchvision's weights of both recipes; file names contain the first digits of the SHA-256."""
    rows = [
        ("resnet18", 1, "f37072fd", 69.758, 89.078),
        ("resnet34", 1, "b627a593", 73.314, 91.420),
        ("resnet50", 1, "0676ba61", 76.130, 92.862),
        ("resnet101", 1, "63fe2227", 77.374, 93.546),
        ("resnet152", 1, "394f9c45", 78.312, 94.046),
        ("resnet50", 2, "11ad3fa6", 80.858, 95.434),
        ("resnet101", 2, "cd907fc2", 81.886, 95.780),
        ("resnet152", 2, "f82ba261", 82.284, 96.002),
    ]
    for model, recipe, digest, top1, top5 in rows:
        yield ModelInfo(
            model,
            "torch",
            224,
            {1: 256, 2: 232}[recipe],
            tuple(name for _, name in imagenet_classes()),
            weights=f"imagenet_torchvision_v{recipe}",
            # Basic blocks have no 1x1 convolution.
            stride_in_1x1=None if model in ("resnet18", "resnet34") else False,
            top1_error=round(100 - top1, 3),
            top5_error=round(100 - top5, 3),
            source="torchvision",
            licence="BSD-3-Clause",
            url=f"https://download.pytorch.org/models/{model}-{digest}.pth",
            digest=f"sha256:{digest}",
        )


def _akamaster() -> Iterator[ModelInfo]:
    """Yield akamaster's CIFAR-10 networks with option A; file names contain the first digits of the SHA-256."""
    rows = {
        "resnet20": ("12fca82f", 8.27),
        "resnet32": ("d509ac18", 7.37),
        "resnet44": ("014dd654", 6.90),
        "resnet56": ("4bfd9763", 6.61),
        "resnet110": ("1d1ed7c2", 6.32),
        "resnet1202": ("f3b1deed", 6.18),
    }
    base = "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models"
    for model, (digest, top1) in rows.items():
        yield ModelInfo(
            model,
            "torch",
            32,
            0,
            CIFAR10_CLASSES,
            weights="cifar10_akamaster",
            top1_error=top1,
            source="akamaster/pytorch_resnet_cifar10",
            licence="BSD-2-Clause",
            url=f"{base}/{model}-{digest}.th",
            digest=f"sha256:{digest}",
            verified=model in ("resnet20", "resnet56"),
        )


def _table() -> Iterator[ModelInfo]:
    yield from _keras_applications()
    for info in _torchvision():
        if info.model in ("resnet18", "resnet34"):
            # keras.applications has no such networks, so these are their "imagenet" weights.
            yield dataclasses.replace(info, weights="imagenet")
        yield info
    yield from _akamaster()


PUBLISHED = tuple(_table())
"""All weights published by others that are available by name."""


@functools.cache
def _card(folder: pathlib.Path) -> ModelInfo:
    return ModelInfo.of_folder(folder)


def available() -> tuple[ModelInfo, ...]:
    """Return the metadata of all weights that are available by name; those in this package come first."""
    return (*map(_card, zoo.folders()), *PUBLISHED)


def list_weights(model: str | None = None) -> list[tuple[str, str]]:
    """Return the (network, weights) that are available by name, such as ("resnet50", "imagenet").

    Args:
        model: name of a network in any case, to list only its weights.
    """
    return [(info.model, info.weights) for info in available() if model is None or info.model == model.lower()]


def model_info(name: str, weights: str | None = None) -> ModelInfo:
    """Return the metadata of weights that are available by name.

    Args:
        name: name of the network, e.g. "resnet50".
        weights: name of the weights, e.g. "imagenet"; by default the first that are available: those in this package,
            or else the first in the table of published weights.

    Raises:
        ValueError: the network or the weights are unknown.
    """
    networks = list(dict.fromkeys(model for model, _ in list_weights()))
    if str(name).lower() not in networks:
        check_choice("name", name, networks)
    for info in available():
        if info.model == str(name).lower() and weights in (None, info.weights):
            return info
    raise _unknown(weights, name)


def is_name(weights: object) -> TypeGuard[str]:
    """Return whether `weights` is the name of weights rather than a path."""
    return isinstance(weights, str) and weights in {info.weights for info in available()}


def find(
    weights: object, model: str | None = None, argument: str = "weights", *, optional: bool = False
) -> ModelInfo | None:
    """Return the metadata of weights that are given by name; None for the path of an existing file.

    Args:
        weights: a name, the address of a repository of the Hugging Face Hub, `hf://USER/NAME`, or a path.
        model: name of the network, "resnet" for one that is not in the paper; None if it is not known, which suffices
            for weights of a single network.
        argument: name of the caller's argument, for error messages.
        optional: whether `weights` may be None, for which None is returned.

    Raises:
        ValueError: there are no such weights for the network, and no such file; or a name without a network.
    """
    if weights is None and optional:
        return None
    if hub.is_address(weights):
        return _on_hub(weights, model, argument)
    if is_name(weights):
        if model is None:
            networks = [network for network, name in list_weights() if name == weights]
            if len(networks) > 1:
                raise InputError(f"model must be given with {argument} {weights!r}: one of {', '.join(networks)}.")
            (model,) = networks
        for info in available():
            if (info.model, info.weights) == (model.lower(), weights):
                return info
    elif isinstance(weights, (str, os.PathLike)) and pathlib.Path(weights).is_file():
        return None
    raise _unknown(weights, model, argument, optional)


def _on_hub(address: str, model: str | None, argument: str) -> ModelInfo:
    """Return the card of a repository, after checking that it is of the network."""
    info = hub.find(address, files.cache())
    if model is not None and "resnet" not in (info.model, model) and info.model != model.lower():
        raise InputError(f"{argument} {address!r} are of {info.model}; the network is {model.lower()}.")
    return info


SUFFIXES = (".safetensors", ".h5", ".pth", ".pt", ".bin", ".th", ".ckpt", ".index.json")
"""Ends of the names of weights files, for messages."""


def missing(path: str | os.PathLike[str]) -> str:
    """Return that there is no file, or that a path is a folder and which weights it holds, for messages."""
    path = os.fspath(path)
    if not os.path.isdir(path):
        return f"there is no file {path!r}"
    inside = sorted(name for name in os.listdir(path) if name.endswith(SUFFIXES))
    found = f", which has {listed([repr(os.path.join(path, name)) for name in inside], 2)}" if inside else ""
    return f"{path!r} is a folder{found}"


def _unknown(weights: object, model: str | None, argument: str = "weights", optional: bool = False) -> InputError:
    """Return the error for unknown weights, which lists those that exist for the network, nearest first."""
    names = nearest_first(weights, dict.fromkeys(name for _, name in list_weights(model)))
    allowed = ["the path of an existing file"]
    if names:
        allowed.insert(0, f"one of {', '.join(map(repr, names))}" + (f" for {model.lower()}" if model else ""))
    if optional:
        allowed.insert(0, "None")
    text = ", ".join(allowed[:-1]) + " or " * (len(allowed) > 1) + allowed[-1]
    why = "" if names else f" ({model} has no weights by name)"
    got = f"got {weights!r}"
    if isinstance(weights, (str, os.PathLike)) and not is_name(weights):
        got = missing(weights)
    return InputError(f"{argument} must be {text}{why}; {got}.")


def find_by_digest(path: str | os.PathLike[str]) -> ModelInfo | None:
    """Return the metadata of a file of weights that are available by name; None for other files."""
    digests = {algorithm: files.digest(path, algorithm) for algorithm in ("md5", "sha256")}
    return next((info for info in available() if _matches(info.digest, digests)), None)


def _matches(expected: str, digests: dict[str, str]) -> bool:
    algorithm, digits = expected.split(":")
    return digests[algorithm].startswith(digits)


def fetch(info: ModelInfo) -> pathlib.Path:
    """Return the path of weights that are available by name, downloading the file unless it is on this machine.

    The download has a temporary name until its digest has been verified, so an incomplete file is never used.

    Raises:
        ValueError: the file cannot be downloaded, or does not have the published digest.
    """
    if info.url.startswith("file:"):
        return _installed(info)
    if hub.is_address(info.url):
        return hub.fetch(info, files.cache())
    path = files.cache() / info.url.rsplit("/", 1)[1]
    advice = f"save the file as {str(path)!r}, or pass weights=PATH"
    if path.is_file():
        if not _verified(path, info):
            raise InputError(
                f"weights {info.weights!r} of {info.model}: {str(path)!r} is not the published file (its digest is not "
                f"{info.digest}); remove it to download it again, or pass weights=PATH."
            )
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(prefix=".partial-", dir=path.parent)
        try:
            with open(handle, "wb") as file:
                _download(info, file)
            if not _verified(partial, info):
                raise InputError(
                    f"weights {info.weights!r} of {info.model}: the download from {info.url} is not the published file "
                    f"(its digest is not {info.digest}); {advice}."
                )
            os.chmod(partial, 0o644)
            os.replace(partial, path)
        finally:
            pathlib.Path(partial).unlink(missing_ok=True)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(
            f"weights {info.weights!r} of {info.model} could not be downloaded from {info.url} ({reason}); {advice}."
        ) from error
    return path


def _installed(info: ModelInfo) -> pathlib.Path:
    """Return the path of weights in this package."""
    path = pathlib.Path(urllib.request.url2pathname(urllib.parse.urlsplit(info.url).path))
    if not path.is_file() or not _verified(path, info):
        raise InputError(
            f"weights {info.weights!r} of {info.model}: {str(path)!r} is missing or damaged (its digest is not "
            f"{info.digest}); reinstall the package."
        )
    return path


def _verified(path: str | os.PathLike[str], info: ModelInfo) -> bool:
    algorithm, _ = info.digest.split(":")
    return _matches(info.digest, {algorithm: files.digest(path, algorithm)})


def _download(info: ModelInfo, file: BinaryIO) -> None:
    """Download published weights into an open file, with a progress bar."""
    from tqdm import tqdm

    with urllib.request.urlopen(info.url, timeout=30) as response:
        size = int(response.headers.get("Content-Length") or 0)
        name = info.url.rsplit("/", 1)[1]
        with tqdm(total=size or None, unit="B", unit_scale=True, desc=name, disable=None) as bar:
            while block := response.read(1 << 18):
                file.write(block)
                bar.update(len(block))
    file.flush()
    os.fsync(file.fileno())
    if size and file.tell() != size:
        raise OSError(f"the connection closed after {file.tell():,} of {size:,} bytes")


def table() -> str:
    """Return a Markdown table of the weights available by name, with the top-1 and, if known, top-5 errors."""
    lines = [
        "| network | weights | source, license | stride in | images as | resize, crop | error, % | digest | tested |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for info in available():
        digest = f"[`{info.digest}`]({info.url})"
        if info.url.startswith("file:"):
            digest = f"`{info.digest[:15]}`"
        stride = {True: "1x1 (v1)", False: "3x3 (v1.5)", None: "3x3"}[info.stride_in_1x1]
        crop = f"{info.resize}, {info.image_size}" if info.resize else f"whole {info.image_size}"
        errors = ", ".join(f"{error:g}" for error in (info.top1_error, info.top5_error) if error)
        tested = "yes" if info.verified else "not verified"
        source = f"{info.source}, {info.licence}"
        mode = info.mode or "own mean and std"
        row = [info.model, f'`"{info.weights}"`', source, stride, mode, crop, errors, digest, tested]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)
