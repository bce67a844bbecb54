"""IDX files, the format of MNIST and Fashion-MNIST: a header with the shape, then the values."""

from __future__ import annotations

import gzip
import io
import math
import os
import pathlib
import zlib

import numpy as np

from keras_resnet.errors import InputError

SPLITS = {"train": "train", "test": "t10k"}
"""Split -> prefix of the names of its two files."""

UNSIGNED_BYTES = 8
"""Code of the type of images and labels, one of six in the format."""


def read(path: str | os.PathLike) -> np.ndarray:
    """Read an IDX file of unsigned bytes, compressed with gzip or not.

    Args:
        path: the file; its first bytes, not its name, decide whether it is compressed.

    Returns:
        u8[...] of the shape in its header.

    Raises:
        ValueError: the file cannot be read, has another format, or has fewer or more values than its header says.
    """
    path = pathlib.Path(path)
    try:
        with open(path, "rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if compressed else open(path, "rb") as file:
            return _parse(file, path)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"IDX file {str(path)!r} cannot be read: {error}.") from error


def _parse(file: gzip.GzipFile | io.BufferedReader, path: pathlib.Path) -> np.ndarray:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] != UNSIGNED_BYTES or not start[3]:
        raise InputError(
            f"IDX file {str(path)!r} must begin with 0, 0, 8 (unsigned bytes) and its number of dimensions; "
            f"it begins with {list(start)}."
        )
    header = file.read(4 * start[3])
    if len(header) < 4 * start[3]:
        raise InputError(f"IDX file {str(path)!r} ends within its header.")
    shape = tuple(int(size) for size in np.frombuffer(header, ">u4"))
    count = math.prod(shape)
    # Read in parts, so that a header with a larger shape than the file holds does not allocate memory for it.
    content = bytearray()
    while len(content) <= count and (part := file.read(min(count + 1 - len(content), 1 << 24))):
        content += part
    if len(content) != count:
        held = f"only {len(content)}" if len(content) < count else "more"
        raise InputError(f"IDX file {str(path)!r} must hold {count} values, as its header says; it holds {held}.")
    return np.frombuffer(content, np.uint8).reshape(shape)


def images(folder: str | os.PathLike, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the images and labels of a split.

    Args:
        folder: folder with `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
            `t10k-labels-idx1-ubyte`, each with or without `.gz`.
        split: a key of `SPLITS`.

    Returns:
        u8[N,H,W] gray images and u8[N] labels.

    Raises:
        ValueError: a file is missing or broken, or the two have wrong dimensions or different numbers of examples.
    """
    pixels, labels = (
        read(_file(pathlib.Path(folder), f"{SPLITS[split]}-{kind}-idx{dimensions}-ubyte"))
        for kind, dimensions in (("images", 3), ("labels", 1))
    )
    if pixels.ndim != 3 or labels.ndim != 1 or len(pixels) != len(labels) or not pixels.size:
        raise InputError(
            f"the {split} files of {os.fspath(folder)!r} must hold images [N,H,W] and labels [N]; "
            f"they hold {list(pixels.shape)} and {list(labels.shape)}."
        )
    return pixels, labels


def _file(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Return the path of a file that may end in .gz."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise InputError(f"folder {str(folder)!r} must hold {name} or {name}.gz; it does not.")
