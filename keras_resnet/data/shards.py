"""Shards of data sets: the files of a folder or pattern, by split."""

from __future__ import annotations

import glob
import itertools
import os
import pathlib
import re
from collections.abc import Sequence

from keras_resnet import files
from keras_resnet.data.dataset import SPLIT_NAMES, usual_split
from keras_resnet.errors import InputError

CLASSES = "classes.txt"
"""File next to shards with the name of each class in a line, in the order of the labels."""


def by_split(kind: str, pattern: str, suffixes: Sequence[str] = ()) -> dict[str, list[str]]:
    """Find the shards of a data set.

    A shard belongs to the split whose usual name is a word of its file's name, such as "train" in
    "imagenet-train-0001.tar", or the name of its folder. Other shards are the split "train".

    Args:
        kind: what stands before the colon of the data set's name, for messages.
        pattern: a folder, which is searched with its subfolders; a file; or a pattern with `*`, `?`, `[...]` or ranges
            such as `{0000..0146}`.
        suffixes: endings of the files in a folder; () for all with "-of-" in their names.

    Returns:
        Split -> paths in the order of their names.

    Raises:
        ValueError: there is no such file.
    """
    pattern = os.path.abspath(files.expand(pattern)) if pattern else ""
    paths: list[str] = []
    for part in _ranges(pattern):
        if os.path.isdir(part):
            found = (path for path in pathlib.Path(part).rglob("*") if path.is_file())
            paths += [str(path) for path in found if _is_shard(path.name, suffixes)]
        else:
            matches = [part] if os.path.isfile(part) else glob.glob(part)
            if not matches:
                raise InputError(f"dataset must name existing shards after '{kind}:'; there is no {part!r}.")
            paths += matches
    if not paths:
        what = f"ends in {' or '.join(suffixes)}" if suffixes else "is named like train-00000-of-00100"
        raise InputError(f"dataset must name a folder of shards after '{kind}:'; no file of {pattern!r} {what}.")
    splits: dict[str, list[str]] = {}
    for path in sorted(set(paths)):
        splits.setdefault(_split(path), []).append(path)
    return splits


def _is_shard(name: str, suffixes: Sequence[str]) -> bool:
    return not name.startswith(".") and (name.endswith(tuple(suffixes)) if suffixes else "-of-" in name)


def _ranges(pattern: str) -> list[str]:
    """Replace each range of numbers, "{08..11}", by its numbers with the same number of digits."""
    parts = re.split(r"\{(\d+)\.\.(\d+)\}", pattern)
    options: list[list[str]] = [[parts[0]]]
    for first, last, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        numbers = range(int(first), int(last) + 1)
        options += [[str(number).zfill(len(first)) for number in numbers], [text]]
    return ["".join(choice) for choice in itertools.product(*options)]


def _split(path: str) -> str:
    """The split of a shard."""
    words = (usual_split(word) for word in re.split(r"[^A-Za-z]+", os.path.basename(path)))
    folder = usual_split(os.path.basename(os.path.dirname(path)))
    return next((word for word in (*words, folder) if word in SPLIT_NAMES), "train")


def class_names(paths: Sequence[str]) -> tuple[str, ...] | None:
    """Return the lines of `classes.txt` next to the first shard or in the folder above, or None without this file.

    Args:
        paths: the shards.
    """
    folder = pathlib.Path(paths[0]).parent
    file = next((place / CLASSES for place in (folder, folder.parent) if (place / CLASSES).is_file()), None)
    if file is None:
        return None
    return tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
