"""Weight files: checked before they are read, loaded whole or not at all, and written by rename."""

from __future__ import annotations

import os
import pathlib
import tempfile

import keras

from keras_resnet.errors import InputError

SUFFIX = ".weights.h5"


def check(weights: str | os.PathLike | None) -> None:
    """Raise `InputError` unless `weights` is None or the path of an existing `.weights.h5` file."""
    if weights is None:
        return
    allowed = f"weights must be None or the path of an existing {SUFFIX} file"
    if not isinstance(weights, (str, os.PathLike)):
        raise InputError(f"{allowed}; got {weights!r}.")
    path = pathlib.Path(weights)
    if not path.name.endswith(SUFFIX):
        raise InputError(f"{allowed}; got {str(weights)!r}.")
    if not path.is_file():
        raise InputError(f"{allowed}; there is no file {str(weights)!r}.")


def load(model: keras.Model, path: str | os.PathLike) -> None:
    """Load a `.weights.h5` file into `model`; where it does not fit, the model stays as it was.

    Args:
        model: the network that the weights were saved from, built anew.
        path: the file.

    Raises:
        ValueError: the file is missing, damaged, or of another network.
    """
    check(path)
    before = model.get_weights()
    try:
        stored = _count(path)
        if stored != model.count_params():
            raise ValueError(f"the file holds {stored:,} numbers, the network {model.count_params():,}")
        model.load_weights(path)
    except (ValueError, KeyError, OSError) as error:
        model.set_weights(before)
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise InputError(f"weights file {str(path)!r} does not fit {model.name}: {reason}.") from error


def _count(path: str | os.PathLike) -> int:
    """How many numbers the model's variables in a file have, the optimizer's not counted."""
    import h5py

    total = 0

    def visit(name, node):
        nonlocal total
        if isinstance(node, h5py.Dataset) and not name.startswith("optimizer/"):
            total += node.size

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return total


def save(model: keras.Model, path: str | os.PathLike) -> None:
    """Write the model's weights, without the optimizer's state; `path` holds the old or the new file at every moment.

    Args:
        model: any Keras model.
        path: ends in `.weights.h5`.

    Raises:
        ValueError: the path does not end in `.weights.h5`.
    """
    import h5py

    path = pathlib.Path(path)
    if not path.name.endswith(SUFFIX):
        raise InputError(f"path must end in {SUFFIX}; got {str(path)!r}.")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".weights-") as folder:
        whole, bare = pathlib.Path(folder, f"whole{SUFFIX}"), pathlib.Path(folder, f"bare{SUFFIX}")
        model.save_weights(whole)
        with h5py.File(whole, "r") as source, h5py.File(bare, "w") as target:
            for name in source:
                if name != "optimizer":
                    source.copy(name, target)
        with open(bare, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(bare, path)
