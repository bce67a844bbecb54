"""Check names before TensorFlow is imported: networks, data sets, published weights and the folders of runs.

Only what is surely wrong is refused here; what a name stands for is found out by those who load it.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import pathlib
import re
from collections.abc import Iterable, Sequence

from keras_resnet import files
from keras_resnet.errors import InputError, did_you_mean, listed, nearest, nearest_first
from keras_resnet.models import zoo

WEIGHTS = ("imagenet", "imagenet_torchvision_v1", "imagenet_torchvision_v2", "cifar10_akamaster")
"""Names of weights published by others; `models.weights.published` has the files."""

OWN_DATASETS = ("digits", "synthetic")
"""Data sets that are not of tensorflow-datasets and are no path."""

CLIENTS = ("wandb", "mlflow")
"""Logs whose clients are packages of the same name, which the extras of the same name install."""

MOST_RUNS = 5
"""Number of runs that an error message names."""


def check_log(log: Iterable[str]) -> None:
    """Check that the clients of the logs are installed.

    Args:
        log: names of `experiment.config.LOGS`.

    Raises:
        ValueError: one of them is not installed.
    """
    for name in log:
        if name in CLIENTS and importlib.util.find_spec(name) is None:
            raise InputError(f"log={name} requires the package {name}: pip install 'keras-resnet-zoo[{name}]'.")


def check_dataset(name: str, data_dir: str | None = None, argument: str = "dataset") -> None:
    """Check the name of a data set.

    Args:
        name: such as "digits", "folder:PATH" or a name of tensorflow-datasets.
        data_dir: folder of prepared tensorflow-datasets.
        argument: name of the caller's argument.

    Raises:
        ValueError: the folder does not exist, a folder is named without "folder:", or the name is not known to
            tensorflow-datasets but similar to a name that is.
    """
    path_kind, path = files.path_kind(name)
    if path and path_kind in files.SHARD_KINDS:
        return  # a folder, a file, a pattern or an address
    if path_kind:
        if not path or not os.path.isdir(os.path.expanduser(path)):
            short = ", for which --data=PATH is short" if (argument, path_kind) == ("dataset", "folder") else ""
            raise InputError(
                f"{argument} must name an existing folder after '{path_kind}:'{short}; got {path!r}"
                f"{files.no_folder(path) or _near(path)}."
            )
        return
    kind, colon, _ = name.partition(":")
    if kind in OWN_DATASETS or not name:
        return
    base = re.split("[/:]", name)[0]
    prepared = pathlib.Path(data_dir or "~/tensorflow_datasets").expanduser()
    if base and (prepared / base).is_dir():
        return
    if os.path.isdir(name):
        raise InputError(f"{argument} must name a data set; got the folder {name!r} (did you mean 'folder:{name}'?).")
    known = published_datasets()
    if not known or base in known:
        return
    if name.startswith((".", "/", "~")) or not base:
        raise InputError(f"{argument} must name a data set; there is no folder {name!r}{_near(name)}.")
    common = [*OWN_DATASETS, *sorted(known)]
    hint = did_you_mean(kind, (*OWN_DATASETS, *files.PATH_KINDS)) if colon else ""
    hint = hint or did_you_mean(base, COMMON_DATASETS) or did_you_mean(base, common)
    if hint:
        raise InputError(
            f"{argument} must be 'digits', 'folder:PATH', 'idx:PATH', 'synthetic:HxWxCLASSES' or a "
            f"tensorflow-datasets name; got {name!r}{hint}."
        )


COMMON_DATASETS = (
    *("digits", "mnist", "cifar10", "cifar100", "fashion_mnist", "imagenet2012", "synthetic", "voc", "coco"),
    *("svhn_cropped", "oxford_flowers102", "oxford_iiit_pet", "food101", "caltech101", "stanford_dogs", "tf_flowers"),
)
"""Data sets that are meant more often than others with similar names."""


@functools.cache
def published_datasets() -> frozenset[str]:
    """Return the names of tensorflow-datasets, read from its source without importing it; empty if it is absent.

    The set is larger than that of data sets: every class counts.
    """
    found = importlib.util.find_spec("tensorflow_datasets")
    if found is None or not found.submodule_search_locations:
        return frozenset()
    root = pathlib.Path(next(iter(found.submodule_search_locations)))
    names = {path.name for path in (root / "datasets").glob("*") if path.is_dir()}
    for folder in root.iterdir():
        if folder.is_dir() and folder.name not in ("core", "datasets", "testing", "scripts", "__pycache__"):
            for file in folder.rglob("*.py"):
                classes = re.findall(rb"^class (\w+)\(", file.read_bytes(), re.MULTILINE)
                names |= {_snake_case(name.decode()) for name in classes}
    return frozenset(names)


def _snake_case(name: str) -> str:
    """The name of a data set's class as tensorflow-datasets writes it: "FashionMNIST" -> "fashion_mnist"."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()


def check_weights(name: str, argument: str = "weights") -> None:
    """Raise `InputError` unless text is a name of weights, an address such as hf://USER/NAME, a file, or a folder."""
    known = [*zoo.names(), *WEIGHTS]
    if name in known or files.is_address(name) or os.path.exists(os.path.expanduser(name)):
        return
    allowed, hint = "", ""
    if not files.is_path(name):
        allowed, hint = f" or one of {', '.join(map(repr, nearest_first(name, known)))}", did_you_mean(name, known)
    hint = hint or _near(name)
    raise InputError(f"{argument} must be the path of an existing file{allowed}; there is no file {name!r}{hint}.")


def check_photos(paths: Sequence[str]) -> None:
    """Raise `InputError` unless each path is that of an existing file or folder; `predict` requires at least one."""
    if not paths:
        raise InputError("predict requires at least one image file.")
    for path in paths:
        if files.is_address(path) and not os.path.exists(path):
            raise InputError(f"predict takes files, not addresses; download {path!r} first.")
        if os.path.islink(path) and not os.path.exists(path):
            raise InputError(f"image file {path!r} is a link to a file that does not exist.")
        if not os.path.exists(path):
            raise InputError(f"there is no image file {path!r}{_near(path)}.")


def check_run(path: str | os.PathLike, argument: str = "workdir") -> None:
    """Raise `InputError` unless a folder holds a run; the message names runs nearby."""
    path = os.fspath(path)
    if os.path.isfile(os.path.join(path, "config.json")):
        return
    raise InputError(f"{argument} must be the folder of a run; {path!r} has no config.json{_runs_near(path)}.")


def _runs_near(path: str) -> str:
    """A hint at the runs in a folder, next to it, or in `runs`."""
    inside = _runs_in(path)
    others = inside or _runs_in(os.path.dirname(path.rstrip(os.sep)) or ".") or _runs_in("runs")
    if not others:
        return ""
    ends = {os.path.basename(run): run for run in others}
    if not inside and (end := nearest(os.path.basename(path.rstrip(os.sep)), ends)):
        return f" (did you mean {ends[end]!r}?)"
    return f"; there are the runs {listed(map(repr, others), MOST_RUNS)}"


def _runs_in(folder: str) -> list[str]:
    """The runs in a folder, as paths of the same beginning."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    paths = [name if folder == "." else os.path.join(folder, name) for name in names]
    return [path for path in paths if os.path.isfile(os.path.join(path, "config.json"))]


def _near(path: str) -> str:
    """A hint at a file or folder with a similar name in the same folder."""
    folder, name = os.path.split(path.rstrip(os.sep))
    try:
        others = os.listdir(os.path.expanduser(folder) or ".")
    except OSError:
        return ""
    similar = nearest(name, others) if name else ""
    return f" (did you mean {os.path.join(folder, similar)!r}?)" if similar else ""
