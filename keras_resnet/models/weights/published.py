"""Weights published by others: their preprocessing, reported errors and licenses, and their download.

`python -m keras_resnet.models.weights.published` prints the table.
"""

from __future__ import annotations

import dataclasses
import http.client
import math
import os
import pathlib
import tempfile
import urllib.request
from collections.abc import Iterator
from typing import Any, BinaryIO, TypeGuard

from keras_resnet import files
from keras_resnet.errors import InputError
from keras_resnet.models.predictions import imagenet_classes
from keras_resnet.ops.normalization import MODES, Normalization

CACHE_VARIABLE = "KERAS_RESNET_CACHE"
"""Environment variable with the folder of downloaded weights."""

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """Metadata of weights: the network, preprocessing, crop, classes and origin.

    Attributes:
        model: name of the constructor in lower case; "resnet" for networks that are not in the paper.
        mode: preprocessing, a key of `normalization.MODES`; "" if `mean` and `std` define it.
        image_size: height and width of the crop in pixels.
        resize: shorter side in pixels before the center crop; 0 if the whole image is resized to `image_size`.
        class_names: names of the classes in the order of the outputs.
        mean: mean of each RGB channel in [0, 255], if `mode` is "".
        std: standard deviation of each RGB channel, if `mode` is "".
        weights: name of published weights; "" for others.
        stride_in_1x1: whether bottlenecks have their stride in the first 1x1 (v1) rather than in the 3x3 (v1.5).
        top1_error: published top-1 error of the center crop in percent, if known.
        top5_error: published top-5 error of the center crop in percent, if known.
        source: publisher of the weights.
        licence: license of the weights.
        url: address of the file.
        digest: "md5:" or "sha256:" followed by the published digest; of SHA-256 digests, possibly only the first
            digits.
        verified: whether the published file itself has been loaded and tested with this package.
        exif: whether to rotate JPEGs by their EXIF orientation.
    """

    model: str
    mode: str
    image_size: int
    resize: int
    class_names: tuple[str, ...] = dataclasses.field(repr=False)
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    weights: str = ""
    stride_in_1x1: bool | None = None
    top1_error: float | None = None
    top5_error: float | None = None
    source: str = ""
    licence: str = ""
    url: str = ""
    digest: str = ""
    verified: bool = False
    exif: bool = False

    @property
    def normalization(self) -> Normalization:
        """The preprocessing, as `mode` of `preprocess_input`."""
        if self.mode:
            return MODES[self.mode]
        assert self.mean is not None
        assert self.std is not None
        return Normalization(self.mean, self.std)

    def to_dict(self) -> dict[str, Any]:
        """Return the metadata as a dictionary for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelInfo:
        """Read a dictionary of `to_dict`; fields of later versions are ignored.

        Raises:
            ValueError: a value is missing or invalid.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        fields: dict[str, Any]
        try:
            fields = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items() if n in names}
            info = cls(**fields)
            statistics: tuple[Any, Any] = (info.mean, info.std)
            valid = info.mode in MODES or (
                info.mode == "" and all(len(v) == 3 and all(map(math.isfinite, v)) for v in statistics)
            )
            valid = valid and all(isinstance(name, str) for name in (info.model, *info.class_names))
            valid = valid and isinstance(info.image_size, int) and isinstance(info.resize, int)
        except (TypeError, AttributeError) as error:
            raise InputError(f"its metadata on preprocessing cannot be read: {error}") from error
        if not valid:
            raise InputError("its metadata on preprocessing is invalid")
        return info


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
"""All published weights that are available by name."""


def model_info(name: str, weights: str | None = None) -> ModelInfo:
    """Return the metadata of published weights.

    Args:
        name: name of the network, e.g. "resnet50".
        weights: name of the weights, e.g. "imagenet"; by default the first in the table of published weights.

    Raises:
        ValueError: the network or the weights are unknown.
    """
    networks = list(dict.fromkeys(info.model for info in PUBLISHED))
    if str(name).lower() not in networks:
        raise InputError(f"name must be one of {', '.join(networks)}; got {name!r}.")
    candidates = [info for info in PUBLISHED if info.model == str(name).lower()]
    for info in candidates:
        if weights in (None, info.weights):
            return info
    allowed = ", ".join(repr(info.weights) for info in candidates)
    raise InputError(f"weights must be one of {allowed} for {name}, or a path; got {weights!r}.")


def is_name(weights: object) -> TypeGuard[str]:
    """Return whether `weights` is the name of published weights rather than a path."""
    return isinstance(weights, str) and weights in {info.weights for info in PUBLISHED}


def find_by_digest(path: str | os.PathLike[str]) -> ModelInfo | None:
    """Return the metadata of a file of published weights; None for other files."""
    digests = {algorithm: files.digest(path, algorithm) for algorithm in ("md5", "sha256")}
    return next((info for info in PUBLISHED if _matches(info.digest, digests)), None)


def _matches(expected: str, digests: dict[str, str]) -> bool:
    algorithm, digits = expected.split(":")
    return digests[algorithm].startswith(digits)


def cache() -> pathlib.Path:
    """Return the folder of downloaded weights: KERAS_RESNET_CACHE, or `keras_resnet` in the user's cache folder."""
    if folder := os.environ.get(CACHE_VARIABLE):
        return pathlib.Path(folder)
    base = os.environ.get("XDG_CACHE_HOME")
    return (pathlib.Path(base) if base else pathlib.Path.home() / ".cache") / "keras_resnet"


def fetch(info: ModelInfo) -> pathlib.Path:
    """Return the path of published weights, downloading the file if it is not in the cache.

    The download has a temporary name until its digest has been verified, so an incomplete file is never used.

    Raises:
        ValueError: the file cannot be downloaded, or does not have the published digest.
    """
    path = cache() / info.url.rsplit("/", 1)[1]
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
    """Return a Markdown table of the published weights, with the top-1 and, if known, top-5 errors."""
    lines = [
        "| network | weights | source, license | stride in | images as | resize, crop | error, % | digest | tested |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for info in PUBLISHED:
        digest = f"[`{info.digest}`]({info.url})"
        stride = {True: "1x1 (v1)", False: "3x3 (v1.5)", None: "3x3"}[info.stride_in_1x1]
        crop = f"{info.resize}, {info.image_size}" if info.resize else f"whole {info.image_size}"
        errors = f"{info.top1_error:g}, {info.top5_error:g}" if info.top5_error else f"{info.top1_error:g}"
        tested = "yes" if info.verified else "not verified"
        source = f"{info.source}, {info.licence}"
        row = [info.model, f'`"{info.weights}"`', source, stride, info.mode, crop, errors, digest, tested]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
