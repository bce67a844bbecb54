"""Shards of data sets: the files of a folder or pattern, by split."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator, Sequence

import tensorflow as tf

from keras_resnet import files
from keras_resnet.data.dataset import SPLIT_NAMES, usual_split
from keras_resnet.errors import InputError, counted, listed
from keras_resnet.ops import graph_errors

CLASSES = "classes.txt"
"""File next to shards with the name of each class in a line, in the order of the labels."""

TFRECORD = r".*-of-\d+(\.gz|\.zlib)?|.*\.tfrecords?(\.gz|\.zlib)?"
"""Names of TFRecord files in a folder, which have no common ending."""

BRACES = r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}"
"""A range of numbers, "{08..11}", or a list, "{train,val}"."""

SIZES = "sizes.json"
"""File next to shards with the number of images in each."""


def by_split(kind: str, pattern: str, suffixes: Sequence[str] = ()) -> dict[str, list[str]]:
    """Find the shards of a data set.

    A shard belongs to the split whose usual name is a word of its file's name, such as "train" in
    "imagenet-train-0001.tar", or the name of its folder. Other shards are the split "train".

    Args:
        kind: what stands before the colon of the data set's name, for messages.
        pattern: a folder, which is searched with its subfolders; a file; or a pattern with `*`, `?`, `[...]`, ranges
            such as `{0000..0146}` or lists such as `{train,val}`. An address such as "gs://BUCKET/FOLDER" is of
            TensorFlow's file systems.
        suffixes: endings of the files in a folder; () for those named like TFRecord files.

    Returns:
        Split -> paths in the order of their names.

    Raises:
        ValueError: there is no such file, or shards of a folder are missing by their names "00002-of-00004".
    """
    if re.search(r"(^|/)pipe:", pattern):
        raise InputError(f"dataset must name files after '{kind}:', and no command is run; got {pattern!r}.")
    if pattern and not files.is_address(pattern):
        pattern = os.path.abspath(files.expand(pattern))
    paths: list[str] = []
    try:
        for part in [pattern] if os.path.exists(pattern) else _expanded(pattern):
            paths += (matches := _matches(part, suffixes))
            if not matches and not tf.io.gfile.isdir(part):
                raise InputError(f"dataset must name existing shards after '{kind}:'; there is no {part!r}.")
    except tf.errors.UnimplementedError as error:
        where = "are on this machine or on a file system of TensorFlow"
        raise InputError(f"dataset must name shards that {where} after '{kind}:'; got {pattern!r}.") from error
    except tf.errors.OpError as error:
        reason = graph_errors.first_line(error)
        raise InputError(f"dataset must name existing shards after '{kind}:'; {pattern!r}: {reason}.") from error
    if not paths:
        what = (
            f"ends in {' or '.join(suffixes)}" if suffixes else "is named like train-00000-of-00100 or train.tfrecord"
        )
        raise InputError(
            f"dataset must name a folder of shards after '{kind}:'; no file of {pattern!r} {what}{_saved(pattern)}."
        )
    if tf.io.gfile.isdir(pattern):
        _check_complete(kind, pattern, paths)
    splits: dict[str, list[str]] = {}
    for path in _without_links(paths):
        splits.setdefault(_split(path), []).append(path)
    return splits


def _without_links(paths: Sequence[str]) -> list[str]:
    """The paths by name, without further names of the same file."""
    found: dict[str, str] = {}
    for path in sorted(paths):
        found.setdefault(path if files.is_address(path) else os.path.realpath(path), path)
    return list(found.values())


def _saved(pattern: str) -> str:
    """How to convert a folder that Hugging Face's `save_to_disk` wrote, to end a message; "" for others."""
    if not any(os.path.isfile(os.path.join(pattern, name)) for name in ("dataset_dict.json", "state.json")):
        return ""
    return (
        "; datasets' save_to_disk wrote it: convert each split with datasets.load_from_disk(...)"
        ".to_parquet('train.parquet')"
    )


def _check_complete(kind: str, folder: str, paths: Sequence[str]) -> None:
    """Raise `InputError` if a folder lacks some of the shards that names such as "train-00000-of-00004" count."""
    numbers: dict[tuple[str, str, str], set[int]] = {}
    for path in paths:
        if match := re.fullmatch(r"(.*?)(\d+)-of-(\d+)(?!\d).*", os.path.basename(path)):
            numbers.setdefault((os.path.dirname(path), match[1], match[3]), set()).add(int(match[2]))
    for (place, name, total), found in numbers.items():
        if missing := int(total) - len(found):
            first = next(number for number in range(int(total) + 1) if number not in found)
            raise InputError(
                f"{place!r} must have all {total} shards {name}*-of-{total}; it lacks {counted(missing, 'shard')} such "
                f"as number {first}. To use only those that exist, name them by a pattern: '{kind}:{folder}/*'."
            )


def _matches(part: str, suffixes: Sequence[str]) -> list[str]:
    """The shards in a folder, or the files of a pattern."""
    if tf.io.gfile.isdir(part):
        walk = tf.io.gfile.walk(part) if files.is_address(part) else _walk(part)
        found = ((folder, name) for folder, _, names in walk for name in names)
        return [os.path.join(folder, name) for folder, name in found if _is_shard(name, suffixes)]
    if files.is_address(part):
        return tf.io.gfile.glob(part)
    return [part] if os.path.isfile(part) else glob.glob(part)


def _walk(folder: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk through a local folder and the folders that it links to, each of them once."""
    seen = {os.path.realpath(folder)}
    for place, folders, names in os.walk(folder, followlinks=True):
        yield place, folders, names
        new = {os.path.realpath(os.path.join(place, name)): name for name in sorted(folders, reverse=True)}
        folders[:] = sorted(name for path, name in new.items() if path not in seen)
        seen |= set(new)


def _is_shard(name: str, suffixes: Sequence[str]) -> bool:
    return not name.startswith(".") and bool(
        name.endswith(tuple(suffixes)) if suffixes else re.fullmatch(TFRECORD, name)
    )


def _expanded(pattern: str) -> list[str]:
    """Replace ranges such as "{08..11}" by their numbers, with as many digits, and lists such as "{train,val}"."""
    match = re.search(BRACES, pattern)
    if not match:
        return [pattern]
    parts = (match[3] or "").split(",")
    if match[1]:
        parts = [str(number).zfill(len(match[1])) for number in range(int(match[1]), int(match[2]) + 1)]
    texts = [text for part in parts for text in _expanded(pattern[: match.start()] + part + pattern[match.end() :])]
    return list(dict.fromkeys(texts))


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
        ValueError: the file is damaged or lacks one of them.
    """
    text = _beside(paths[0], SIZES)
    if text is None:
        return None
    try:
        sizes = json.loads(text)
    except ValueError as error:
        raise InputError(f"{SIZES} next to {paths[0]!r} must be JSON: {error}.") from error
    if not isinstance(sizes, dict) or not all(type(size) is int and size >= 0 for size in sizes.values()):
        raise InputError(f'{SIZES} next to {paths[0]!r} must have numbers of images, {{"train-0000.tar": 1000, ...}}.')
    names = [os.path.basename(path) for path in paths]
    if missing := [name for name in names if name not in sizes]:
        raise InputError(f"{SIZES} next to {paths[0]!r} must have the number of images of {listed(missing)}.")
    return [sizes[name] for name in names]


def _beside(path: str, name: str) -> str | None:
    """The text of a file in the folder of a shard or in the one above."""
    folder = os.path.dirname(path)
    for place in (folder, os.path.dirname(folder)):
        if tf.io.gfile.exists(os.path.join(place, name)):
            with tf.io.gfile.GFile(os.path.join(place, name)) as file:
                return file.read()
    return None
