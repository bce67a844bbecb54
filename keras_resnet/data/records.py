"""Records of shards by their number, in any order: TFRecord, ArrayRecord and other files with an index.

reader = tfrecords(["train-00000-of-00002", "train-00001-of-00002"])
first, last = reader.read([0, len(reader) - 1])

A record is found without reading those before it. ArrayRecord files contain an index; the others are indexed once, by
reading the headers between the records, and the index is kept in the cache folder.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import io
import logging
import os
import pathlib
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import google_crc32c
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from keras_resnet import files
from keras_resnet.errors import InputError

if TYPE_CHECKING:
    from typing_extensions import Self

log = logging.getLogger(__name__)

HEADER, FOOTER = 12, 4
"""Bytes of a TFRecord before its data (length and checksum) and after them."""

VERSION = 1
"""Version of the cached indexes."""

THREADS = 16
"""Files whose state is read at a time."""


class Reader(Protocol):
    """Records that are read by their number."""

    def __len__(self) -> int:
        """Return the number of records."""

    def read(self, numbers: Sequence[int] | np.ndarray) -> list[bytes]:
        """Return the records with these numbers, in their order; several threads may read at once."""


@dataclasses.dataclass(frozen=True)
class Extents:
    """Records that are byte ranges of local files.

    Attributes:
        paths: the files.
        file: number of each record's file, i32[N].
        offset: first byte of each record in its file, i64[N].
        size: bytes of each record, i64[N].
    """

    paths: tuple[str, ...]
    file: np.ndarray
    offset: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, paths: Sequence[str | os.PathLike[str]], indexes: Sequence[dict[str, np.ndarray]]) -> Self:
        """Return the records of several files, numbered in this order.

        Args:
            paths: the files.
            indexes: `offset` and `size` of the records of each.
        """
        return cls(
            tuple(map(str, paths)),
            np.repeat(np.arange(len(indexes), dtype="int32"), [len(index["offset"]) for index in indexes]),
            np.concatenate([index["offset"] for index in indexes]),
            np.concatenate([index["size"] for index in indexes]),
        )

    def __len__(self) -> int:
        return len(self.offset)

    def read(self, numbers: Sequence[int] | np.ndarray) -> list[bytes]:
        """Return the records with these numbers, in their order.

        Raises:
            ValueError: a file has become shorter than when it was indexed.
        """
        return [self._read(int(number)) for number in numbers]

    def _read(self, number: int) -> bytes:
        return self._bytes(number, int(self.size[number]))

    def _bytes(self, number: int, size: int) -> bytes:
        """This number of bytes from the beginning of a record."""
        path = self.paths[self.file[number]]
        with open(path, "rb", buffering=0) as file:
            content = os.pread(file.fileno(), size, int(self.offset[number]))
        if len(content) != size:
            raise InputError(f"{path!r} is shorter than when it was indexed; record {number} is missing.")
        return content


@dataclasses.dataclass(frozen=True)
class TFRecords(Extents):
    """Records of local TFRecord files, whose checksums are verified."""

    def _read(self, number: int) -> bytes:
        size = int(self.size[number])
        content = self._bytes(number, size + FOOTER)
        if not _is_intact(content):
            path, start = self.paths[self.file[number]], int(self.offset[number])
            raise InputError(
                f"{path!r} is damaged: the checksum of its record at byte {start - HEADER} does not match."
            )
        return content[:size]


def _is_intact(content: bytes) -> bool:
    """Whether bytes match the masked CRC-32C in the four bytes after them."""
    value = google_crc32c.value(content[:-4])
    masked = ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return content[-4:] == masked.to_bytes(4, "little")


class ArrayRecords:
    """Records of ArrayRecord files.

    Args:
        paths: the files, or file instructions of tensorflow-datasets, with which no file is opened before it is read.
    """

    def __init__(self, paths: Sequence[object]):
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        self._source = ArrayRecordDataSource(list(paths))

    def __len__(self) -> int:
        return len(self._source)

    def read(self, numbers: Sequence[int] | np.ndarray) -> list[bytes]:
        """Return the records with these numbers, in their order."""
        return [self._source[int(number)] for number in numbers]


class InMemory:
    """Records in memory.

    Args:
        contents: the records.
    """

    def __init__(self, contents: Sequence[bytes]):
        self._contents = contents

    def __len__(self) -> int:
        return len(self._contents)

    def read(self, numbers: Sequence[int] | np.ndarray) -> list[bytes]:
        """Return the records with these numbers, in their order."""
        return [self._contents[int(number)] for number in numbers]


def tfrecords(paths: Sequence[str | os.PathLike[str]]) -> TFRecords:
    """Open TFRecord files, and index them unless they have been indexed on this machine.

    Args:
        paths: local files without compression; their records are numbered in this order.

    Raises:
        ValueError: a file cannot be read, or its end is missing.
    """
    return TFRecords.of(paths, indexed("tfrecord", paths, scan_tfrecord))


def read_tfrecord(file: Any, first: int = 0) -> Iterator[bytes]:
    """Yield the records of an open TFRecord file, whose checksums are verified, from record `first` on.

    Args:
        file: a file without compression, at its beginning; anything with `read`, `seek`, `tell` and `name`.
        first: number of the first record; of those before it only the headers are read.

    Raises:
        ValueError: the file is damaged or its end is missing.
    """
    number, position = 0, 0
    while header := file.read(HEADER):
        intact = len(header) == HEADER and _is_intact(header)
        size = struct.unpack("<Q", header[:8])[0] if intact else 0
        if intact and number < first:
            file.seek(position + HEADER + size + FOOTER)
        elif intact:
            content = file.read(size + FOOTER)
            intact = len(content) == size + FOOTER and _is_intact(content)
            if intact:
                yield content[:size]
        if not intact:
            raise InputError(
                f"{file.name!r} is damaged or its end is missing: record {number}, at byte {position}, cannot be read."
            )
        number, position = number + 1, position + HEADER + size + FOOTER


def scan_tfrecord(path: str) -> dict[str, np.ndarray]:
    """Return `offset` i64[N] and `size` i64[N] of the records of a TFRecord file, from their headers.

    Raises:
        ValueError: the file is not a TFRecord file, or its end is missing.
    """
    offsets: list[int] = []
    sizes: list[int] = []
    with open(path, "rb", buffering=0) as file:
        descriptor, end, position = file.fileno(), os.fstat(file.fileno()).st_size, 0
        while position < end:
            header = os.pread(descriptor, HEADER, position)
            is_header = len(header) == HEADER and _is_intact(header)
            size = struct.unpack("<Q", header[:8])[0] if is_header else end
            if position + HEADER + size + FOOTER > end:
                raise InputError(
                    f"{path!r} must be a whole TFRecord file without compression; record {len(offsets)}, at byte "
                    f"{position}, does not fit in its {end} bytes."
                )
            offsets.append(position + HEADER)
            sizes.append(size)
            position += HEADER + size + FOOTER
    return {"offset": np.array(offsets, "int64"), "size": np.array(sizes, "int64")}


def indexed(
    kind: str, paths: Sequence[str | os.PathLike[str]], scan: Callable[[str], dict[str, np.ndarray]]
) -> list[dict[str, np.ndarray]]:
    """Return the index of each file, from the cache folder if the files are unchanged since it was made.

    Args:
        kind: kind of the files, for the progress bar and the name of the cached index.
        paths: the files.
        scan: function from the path of a file to named arrays, such as `scan_tfrecord`.

    Raises:
        ValueError: there are no files, or `scan` refuses one.
    """
    if not paths:
        raise InputError("there must be at least one file of records; there is none.")
    names = [str(path) if files.is_address(str(path)) else os.path.abspath(path) for path in paths]
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        states = list(pool.map(_state, names))
    key = repr([VERSION, kind, states])
    cached = files.cache() / "indexes" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
    if (indexes := _load(cached)) is not None:
        return indexes
    with concurrent.futures.ThreadPoolExecutor(min(32, 4 * (os.cpu_count() or 1))) as pool:
        scanned = pool.map(scan, names)
        indexes = list(tqdm(scanned, f"index of {kind} files", len(names), unit="file", disable=None, leave=False))
    _save(cached, indexes)
    return indexes


def _state(path: str) -> tuple[str, int, int]:
    """The path, size and time of change of a file."""
    if files.is_address(path):
        remote = tf.io.gfile.stat(path)
        return path, remote.length, remote.mtime_nsec
    local = os.stat(path)  # TensorFlow's time has seconds only
    return path, local.st_size, local.st_mtime_ns


def _save(path: pathlib.Path, indexes: Sequence[dict[str, np.ndarray]]) -> None:
    """Save indexes to a file that appears when it is complete."""
    content = io.BytesIO()
    arrays: dict[str, Any] = {}
    for number, index in enumerate(indexes):
        arrays |= {f"{name}/{number}": values for name, values in index.items()}
    np.savez(content, **arrays)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, content.getvalue())
    except OSError as error:
        log.warning("the index of %d files is made again by the next run: %s", len(indexes), error)


def _load(path: pathlib.Path) -> list[dict[str, np.ndarray]] | None:
    """Load indexes; None if there is no such file or it is damaged."""
    try:
        with np.load(path) as arrays:
            indexes: dict[int, dict[str, np.ndarray]] = {}
            for key in arrays.files:
                name, number = key.split("/")
                indexes.setdefault(int(number), {})[name] = arrays[key]
    except (FileNotFoundError, zipfile.BadZipFile, ValueError, EOFError):
        return None
    return [indexes[number] for number in sorted(indexes)]
