"""The --out of commands that write a plot."""

from __future__ import annotations

import pathlib

from keras_resnet.errors import InputError

SUFFIXES = (".png", ".pdf", ".svg")


def plot_path(out: str) -> pathlib.Path:
    """Return the path of a plot; its folder is created.

    Raises:
        ValueError: another suffix, or a folder that cannot be created.
    """
    path = pathlib.Path(out)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"out must end in .png, .pdf or .svg; got {out!r}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"out must be a writable file; {out!r} is not: {error.strerror}.") from error
    return path
