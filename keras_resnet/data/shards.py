"""Shards of data sets: the files of a folder or pattern, by split."""

from __future__ import annotations

import glob
import itertools
import json
import os
import re
from collections.abc import Sequence

import tensorflow as tf

from keras_resnet import files
from keras_resnet.data.dataset import SPLIT_NAMES, usual_split
from keras_resnet.errors import InputError, listed
from keras_resnet.ops import graph_errors

CLASSES = "classes.txt"
"""File next to shards with the name of each class in a line, in the order of the labels."""

SIZES = "sizes.json"
"""File next to shards with the number of images in each."""


def by_split(kind: str, pattern: str, suffixes: Sequence[str] = ()) -> dict[str, list[str]]:
    """Find the shards of a data set.

    A shard belongs to the split whose usual name is a word of its file's name, such as "train" in
    "imagenet-train-0001.tar", or the name of its folder. Other shards are the split "train".

    Args:
        kind: what stands before the colon of the data set's name, for messages.
        pattern: a folder, which is searched with its subfolders; a file; or a pattern with `*`, `?`, `[...]` or ranges
            such as `{0000..0146}`. An address such as "gs://BUCKET/FOLDER" is of TensorFlow's file systems.
        suffixes: endings of the files in a folder; () for all with "-of-" in their names.

    Returns:
        Split -> paths in the order of their names.

    Raises:
        ValueError: there is no such file.
    """
    if pattern and not files.is_address(pattern):
        pattern = os.path.abspath(files.expand(pattern))
    paths: list[str] = []
    try:
        for part in _ranges(pattern):
            paths += (matches := _matches(part, suffixes))
            if not matches and not tf.io.gfile.isdir(part):
                raise InputError(f"dataset must name existing shards after '{kind}:'; there is no {part!r}.")
    except tf.errors.OpError as error:
        reason = graph_errors.first_line(error)
        raise InputError(f"dataset must name existing shards after '{kind}:'; {pattern!r}: {reason}.") from error
    if not paths:
        what = f"ends in {' or '.join(suffixes)}" if suffixes else "is named like train-00000-of-00100"
        raise InputError(f"dataset must name a folder of shards after '{kind}:'; no file of {pattern!r} {what}.")
    splits: dict[str, list[str]] = {}
    for path in sorted(set(paths)):
        splits.setdefault(_split(path), []).append(path)
    return splits


def _matches(part: str, suffixes: Sequence[str]) -> list[str]:
    """The shards in a folder, or the files of a pattern."""
    if tf.io.gfile.isdir(part):
        found = ((folder, name) for folder, _, names in tf.io.gfile.walk(part) for name in names)
        return [os.path.join(folder, name) for folder, name in found if _is_shard(name, suffixes)]
    if files.is_address(part):
        return tf.io.gfile.glob(part)
    return [part] if os.path.isfile(part) else glob.glob(part)


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
    text = _beside(paths[0], CLASSES)
    return None if text is None else tuple(line.strip() for line in text.splitlines() if line.strip())


def lengths(paths: Sequence[str]) -> list[int] | None:
    """Return the number of records of each shard by `sizes.json` next to them, or None without this file.

    WebDataset's tools write it: {"train-0000.tar": 1000, ...}.

    Args:
        paths: the shards.

    Raises:
        ValueError: the file lacks one of them.
    """
    text = _beside(paths[0], SIZES)
    if text is None:
        return None
    sizes = json.loads(text)
    names = [os.path.basename(path) for path in paths]
    if missing := [name for name in names if name not in sizes]:
        raise InputError(f"{SIZES} next to {paths[0]!r} must have the number of images of {listed(missing)}.")
    return [int(sizes[name]) for name in names]


def _beside(path: str, name: str) -> str | None:
    """The text of a file in the folder of a shard or in the one above."""
    folder = os.path.dirname(path)
    for place in (folder, os.path.dirname(folder)):
        if tf.io.gfile.exists(os.path.join(place, name)):
            with tf.io.gfile.GFile(os.path.join(place, name)) as file:
                return file.read()
    return None
