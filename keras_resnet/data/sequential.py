"""Shards that are read from their beginning, compressed or not, on any file system of TensorFlow: TFRecord and tar."""

from __future__ import annotations

import dataclasses
import gzip
import json
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from keras_resnet import files
from keras_resnet.data import records
from keras_resnet.data.dataset import Stream
from keras_resnet.data.folders import SUFFIXES
from keras_resnet.errors import InputError, listed
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
            sample, number = Sample("", path), 0
            for member in archive:
                if not member.isreg():
                    continue
                key, ending = split_key(member.name)
                if key != sample.key:
                    if sample.images:
                        if number >= first:
                            yield sample.image(), sample.label(in_order=True)
                        number += 1
                    sample = Sample(key, path)
                is_image = ending.endswith(SUFFIXES)
                if number < first:
                    sample.images |= {ending: b""} if is_image else {}
                elif (is_image or ending in LABELS) and (member_file := archive.extractfile(member)):
                    sample.add(ending, member_file.read())
            if sample.images and number >= first:
                yield sample.image(), sample.label(in_order=True)
    except (tarfile.TarError, EOFError, zlib.error, OSError, tf.errors.OpError) as error:
        raise InputError(f"{path!r} must be a whole tar file: {str(error).partition(chr(10))[0]}.") from error


def _unpacked(path: str) -> Any:
    """Open a file to read what it contains; the end of a compressed file must not be missing."""
    file = tf.io.gfile.GFile(path, "rb")
    return gzip.GzipFile(fileobj=file, mode="rb") if path.endswith(COMPRESSED) else file


def scan_tar(path: str) -> dict[str, np.ndarray]:
    """Return the `label` i32[N] of the images of a tar shard, which is read as a whole."""
    return {"label": np.array([number for _, number in tar_images(path)], "int32")}


@dataclasses.dataclass
class Sample:
    """The files of a tar shard with the same key.

    Attributes:
        key: their path up to the first dot of the name.
        path: the shard.
        images: ending -> an image file, or where it is.
        labels: ending -> a file of `LABELS`.
    """

    key: str
    path: str
    images: dict[str, Any] = dataclasses.field(default_factory=dict)
    labels: dict[str, bytes] = dataclasses.field(default_factory=dict)

    def add(self, ending: str, content: Any) -> None:
        """Add a file.

        Raises:
            ValueError: the shard has two files of this name.
        """
        files = self.labels if ending in LABELS else self.images
        if ending in files:
            raise InputError(f"{self.path!r} must have one file of each name; it has {self.key + ending!r} twice.")
        files[ending] = content

    def image(self) -> Any:
        """Return the image: that of "KEY.jpg" and "KEY.mask.png" with one suffix, or the only one.

        Raises:
            ValueError: there are several.
        """
        endings = [ending for ending in self.images if ending in SUFFIXES] or list(self.images)
        if len(endings) > 1:
            names = listed([f"{self.key}{ending}" for ending in endings])
            raise InputError(f"sample {self.key!r} of {self.path!r} must have one image; it has {names}.")
        return self.images[endings[0]]

    def label(self, in_order: bool = False) -> int:
        """Return the label, from the file that is preferred.

        Args:
            in_order: whether only files next to each other were read, for the message.

        Raises:
            ValueError: there is none.
        """
        for ending in LABELS:
            if ending in self.labels:
                return label(self.labels[ending], f"{self.key}{ending} of {self.path!r}")
        where = " next to it in the shard" if in_order else ""
        raise InputError(
            f"image {self.key!r} of {self.path!r} must have a label, {self.key}.cls or {self.key}.json{where}."
        )


def stream(
    name: str, paths: Sequence[str], lengths: Sequence[int], read: Callable[[str, int], Iterator[tuple[bytes, int]]]
) -> Stream:
    """Return the stream of whole shards, which must have exactly the numbers of images that are known.

    Args:
        name: name of the split, for messages.
        paths: the shards.
        lengths: number of images of each.
        read: function of a shard and a number that yields its (contents, label) from this image on.
    """

    def open(block: int, first: int) -> Iterator[tuple[bytes, int]]:
        images, count, number = read(paths[block], first), lengths[block], first
        for number, image in enumerate(images, first + 1):
            if number == count and next(images, None) is not None:
                raise _other_count(paths[block], count, "more")
            yield image
        if number < count:
            raise _other_count(paths[block], count, f"only {number}")

    return Stream.of(name, lengths, open)


def _other_count(path: str, count: int, found: str) -> InputError:
    source = "sizes.json next to it or what it had when it was counted"
    return InputError(f"{path!r} must have {count} images, by {source}; it has {found}.")


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
