"""Weights that others have published: where they are, what they expect of images, and how they come here.

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
from typing import Any, TypeGuard

from keras_resnet import files
from keras_resnet.errors import InputError
from keras_resnet.models.predictions import imagenet_classes
from keras_resnet.ops.normalization import MODES, Normalization

CACHE_VARIABLE = "KERAS_RESNET_CACHE"
"""Environment variable that names the folder of downloaded weights."""

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """What travels with weights: the preprocessing, the crop rule and the classes, and where they are from.

    Attributes:
        model: name of the constructor in lower case; "resnet" for stages that no network of the paper has.
        mode: preprocessing: a key of `normalization.MODES`, or "" where `mean` and `std` are given.
        image_size: side of the crop in pixels.
        resize: shorter side before the centre crop; 0 for images that are taken whole.
        class_names: names of the classes in the order of the outputs.
        mean: mean of each RGB channel in [0, 255], where no mode says it.
        std: standard deviation of each channel, likewise.
        weights: name of published weights; "" for others.
        stride_in_1x1: whether bottlenecks have their stride in the first 1x1 (v1) or the 3x3 (v1.5).
        top1_error: published error of one centre crop in percent; None where none is.
        top5_error: likewise.
        source: who published them.
        licence: their licence.
        url: where the file is.
        digest: "md5:" or "sha256:" and the digest as the publisher gives it, for sha256 perhaps only its first digits.
        verified: whether the published file itself has been loaded and tested with this package.
        exif: whether JPEGs are turned as their EXIF orientation says.
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
        """What `preprocess_input` takes as its mode."""
        return MODES[self.mode] if self.mode else Normalization(self.mean, self.std)

    def to_dict(self) -> dict:
        """Return the info in JSON's types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> ModelInfo:
        """Read what `to_dict` wrote; fields of later versions are passed over.

        Raises:
            ValueError: it is not that.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        try:
            info = cls(**{n: tuple(v) if isinstance(v, list) else v for n, v in values.items() if n in fields})
            sound = info.mode in MODES or (
                info.mode == "" and all(len(v) == 3 and all(map(math.isfinite, v)) for v in (info.mean, info.std))
            )
            sound = sound and all(isinstance(name, str) for name in (info.model, *info.class_names))
            sound = sound and isinstance(info.image_size, int) and isinstance(info.resize, int)
        except (TypeError, AttributeError) as error:
            raise InputError(f"its notes on preprocessing cannot be read: {error}") from error
        if not sound:
            raise InputError("its notes on preprocessing cannot be read")
        return info


def _keras_applications() -> Iterator[ModelInfo]:
    """The authors' models as keras.applications publishes them, with its hashes."""
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
    """torchvision's two recipes; the digits in a file's name are the first of its SHA-256."""
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
            # The basic blocks of the two smaller networks have no 1x1.
            stride_in_1x1=None if model in ("resnet18", "resnet34") else False,
            top1_error=round(100 - top1, 3),
            top5_error=round(100 - top5, 3),
            source="torchvision",
            licence="BSD-3-Clause",
            url=f"https://download.pytorch.org/models/{model}-{digest}.pth",
            digest=f"sha256:{digest}",
        )


def _akamaster() -> Iterator[ModelInfo]:
    """CIFAR-10 networks with option A; the digits in a file's name are the first of its SHA-256."""
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
            # keras.applications has none of them, so they are "imagenet" too.
            yield dataclasses.replace(info, weights="imagenet")
        yield info
    yield from _akamaster()


PUBLISHED = tuple(_table())
"""Every network of which published weights are known by name."""


def model_info(name: str, weights: str | None = None) -> ModelInfo:
    """Return what is known of published weights.

    Args:
        name: the network, e.g. "resnet50".
        weights: name of the weights, e.g. "imagenet"; by default the first that are published for the network.

    Raises:
        ValueError: there are none of these names.
    """
    networks = list(dict.fromkeys(info.model for info in PUBLISHED))
    if str(name).lower() not in networks:
        raise InputError(f"name must be one of {', '.join(networks)}; got {name!r}.")
    found = [info for info in PUBLISHED if info.model == str(name).lower()]
    for info in found:
        if weights in (None, info.weights):
            return info
    allowed = ", ".join(repr(info.weights) for info in found)
    raise InputError(f"weights must be one of {allowed} for {name}, or a path; got {weights!r}.")


def is_name(weights: object) -> TypeGuard[str]:
    """Return whether `weights` is the name of published weights rather than a path."""
    return isinstance(weights, str) and weights in {info.weights for info in PUBLISHED}


def recognised(path: str | os.PathLike) -> ModelInfo | None:
    """Find published weights by the content of a file; None for other files."""
    digests = {algorithm: files.digest(path, algorithm) for algorithm in ("md5", "sha256")}
    return next((info for info in PUBLISHED if _matches(info.digest, digests)), None)


def _matches(expected: str, digests: dict[str, str]) -> bool:
    algorithm, digits = expected.split(":")
    return digests[algorithm].startswith(digits)


def cache() -> pathlib.Path:
    """The folder of downloaded weights: that of KERAS_RESNET_CACHE, or `keras_resnet` in the user's cache folder."""
    if folder := os.environ.get(CACHE_VARIABLE):
        return pathlib.Path(folder)
    base = os.environ.get("XDG_CACHE_HOME")
    return (pathlib.Path(base) if base else pathlib.Path.home() / ".cache") / "keras_resnet"


def fetch(info: ModelInfo) -> pathlib.Path:
    """Return the verified file of published weights, downloaded where the cache does not have it.

    The download has another name until its digest is checked, so that no half file is ever taken for the whole.

    Raises:
        ValueError: it cannot be downloaded or is not the published file.
    """
    path = cache() / info.url.rsplit("/", 1)[1]
    by_hand = f"put the file there as {str(path)!r}, or give weights=PATH"
    if path.is_file():
        if not _verified(path, info):
            raise InputError(
                f"weights {info.weights!r} of {info.model}: {str(path)!r} is not the published file (its digest is not "
                f"{info.digest}); remove it to download it again, or give weights=PATH."
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
                    f"weights {info.weights!r} of {info.model}: what {info.url} gave is not the published file "
                    f"(its digest is not {info.digest}); {by_hand}."
                )
            os.chmod(partial, 0o644)
            os.replace(partial, path)
        finally:
            pathlib.Path(partial).unlink(missing_ok=True)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(
            f"weights {info.weights!r} of {info.model} could not be downloaded from {info.url} ({reason}); {by_hand}."
        ) from error
    return path


def _verified(path: str | os.PathLike, info: ModelInfo) -> bool:
    algorithm, _ = info.digest.split(":")
    return _matches(info.digest, {algorithm: files.digest(path, algorithm)})


def _download(info: ModelInfo, file) -> None:
    """Copy a URL to an open file, with a bar on the terminal."""
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
        raise OSError(f"the connection ended after {file.tell():,} of {size:,} bytes")


def table() -> str:
    """Return a Markdown table of the published weights; errors are top-1 and, where known, top-5."""
    lines = [
        "| network | weights | source, licence | stride in | images as | resize, crop | error, % | digest | tested |",
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
