"""Shards that are read from their beginning, compressed or not, on any file system of TensorFlow: TFRecord and tar."""

from __future__ import annotations

import gzip
import json
import posixpath
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from keras_resnet import files
from keras_resnet.data import records
from keras_resnet.data.folders import SUFFIXES
from keras_resnet.errors import InputError
from keras_resnet.ops import graph_errors

COMPRESSED = (".gz", ".tgz")
"""Endings of compressed files."""

LABELS = (".cls", ".json")
"""Endings of the files of a tar shard that have an image's label, in the order in which they are preferred."""


def is_necessary(paths: Sequence[str]) -> bool:
    """Return whether shards can only be read in their order: they are compressed, or addresses such as gs://X/Y."""
    return any(files.is_address(path) or path.endswith(COMPRESSED) for path in paths)


def compression(path: str) -> str:
    """Return the compression of a TFRecord file: "", "GZIP" or "ZLIB".

    Raises:
        ValueError: it has no record that can be read.
    """
    for name in ("", "GZIP", "ZLIB"):
        try:
            next(iter(tf.data.TFRecordDataset(path, name)), None)
        except tf.errors.DataLossError:
            continue
        except tf.errors.OpError as error:
            raise InputError(f"{path!r} cannot be read: {graph_errors.first_line(error)}.") from error
        return name
    raise InputError(f"{path!r} must be a TFRecord file, without compression or with GZIP or ZLIB; it is damaged.")


def tfrecords(path: str, first: int = 0, compressed: str | None = None) -> Iterator[bytes]:
    """Yield the records of a TFRecord file, whose checksums are verified, from record `first` on.

    Args:
        path: the file.
        first: number of the first record. Those before it are not read if the file is not compressed.
        compressed: its compression, if that is known.

    Raises:
        ValueError: the file is damaged or its end is missing.
    """
    try:
        compressed = compression(path) if compressed is None else compressed
        if compressed:
            yield from tf.data.TFRecordDataset(path, compressed).skip(first).as_numpy_iterator()
        else:  # in a tenth of the time of TFRecordDataset outside a graph
            with tf.io.gfile.GFile(path, "rb") as file:
                yield from records.read_tfrecord(file, first)
    except tf.errors.OpError as error:
        raise InputError(f"{path!r} cannot be read: {graph_errors.first_line(error)}.") from error


def count_tfrecords(path: str) -> dict[str, np.ndarray]:
    """Return the number of records of a TFRecord file, `count` i64[1], which is read as a whole."""
    return {"count": np.array([sum(1 for _ in tfrecords(path))], "int64")}


def tar_images(path: str, first: int = 0) -> Iterator[tuple[bytes, int]]:
    """Yield the image files and labels of a tar shard from image `first` on; the files of an image follow each other.

    Raises:
        ValueError: the file is not a whole tar file, or an image has no label.
    """
    mode: Literal["r|", "r:"] = "r|" if path.endswith(COMPRESSED) else "r:"  # "r:" skips images without reading them
    try:
        with _unpacked(path) as file, tarfile.open(fileobj=file, mode=mode) as archive:
            key, number = "", 0
            image: bytes | None = None
            labels: dict[str, int] = {}
            for member in archive:
                if not member.isreg():
                    continue
                name, ending = split_key(member.name)
                if name != key:
                    if image is not None:
                        if number >= first:
                            yield image, chosen(labels, key, path)
                        number += 1
                    key, image, labels = name, None, {}
                is_image = ending.endswith(SUFFIXES)
                if number < first:
                    image = b"" if is_image else image
                elif (is_image or ending in LABELS) and (member_file := archive.extractfile(member)):
                    content = member_file.read()
                    if is_image:
                        image = content
                    else:
                        labels[ending] = label(content, f"{name}{ending} of {path!r}")
            if image is not None and number >= first:
                yield image, chosen(labels, key, path)
    except (tarfile.TarError, EOFError, zlib.error, OSError, tf.errors.OpError) as error:
        raise InputError(f"{path!r} must be a whole tar file: {str(error).partition(chr(10))[0]}.") from error


def _unpacked(path: str) -> Any:
    """Open a file to read what it contains; the end of a compressed file must not be missing."""
    file = tf.io.gfile.GFile(path, "rb")
    return gzip.GzipFile(fileobj=file, mode="rb") if path.endswith(COMPRESSED) else file


def scan_tar(path: str) -> dict[str, np.ndarray]:
    """Return the `label` i32[N] of the images of a tar shard, which is read as a whole."""
    return {"label": np.array([number for _, number in tar_images(path)], "int32")}


def chosen(labels: dict[str, int], key: str, path: str) -> int:
    """Return the label of an image, from the file that is preferred."""
    for ending in LABELS:
        if ending in labels:
            return labels[ending]
    raise missing_label(key, path)


def missing_label(key: str, path: str) -> InputError:
    """Return the error for an image of a tar shard without a label."""
    return InputError(f"image {key!r} of {path!r} must have a label, {key}.cls or {key}.json.")


def split_key(name: str) -> tuple[str, str]:
    """Return the key of a file, which is its path up to the first dot of its name, and its ending in lower case."""
    folder, file = posixpath.split(name)
    stem, dot, ending = file.partition(".")
    return posixpath.join(folder, stem), f"{dot}{ending}".lower()


def label(content: bytes, name: str) -> int:
    """Return the label in a file of a tar shard: an integer, or that under "label" in JSON.

    Raises:
        ValueError: there is no label of 0 or more.
    """
    try:
        value = json.loads(content)
    except ValueError:
        value = content[:40].decode(errors="replace")
    if isinstance(value, dict):
        value = value.get("label", value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InputError(f"{name} must have an integer label of 0 or more; it has {str(value)[:60]!r}.")
    return value
