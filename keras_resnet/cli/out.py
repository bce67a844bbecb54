"""The --out of commands that write a plot."""

from __future__ import annotations

import pathlib

from keras_resnet import files
from keras_resnet.errors import InputError

SUFFIXES = (".png", ".pdf", ".svg")


def plot_path(out: str) -> pathlib.Path:
    """Return the path of a plot that does not exist yet.

    Raises:
        ValueError: another suffix, or the file exists.
    """
    path = pathlib.Path(out)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"out must end in .png, .pdf or .svg; got {out!r}.")
    files.check_new(path, "file")
    return path
