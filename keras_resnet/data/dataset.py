"""Data sets: their metadata, and the examples of a split in one of four forms."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_resnet import files
from keras_resnet.data.records import InMemory, Reader
from keras_resnet.errors import InputError, check_choice, counted, listed, nearest

log = logging.getLogger(__name__)

SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Split -> its usual names."""


def usual_split(name: str) -> str:
    """Return the key of `SPLIT_NAMES` for a name, in any case: "val" for "Validation"; other names are returned."""
    return next((split for split, names in SPLIT_NAMES.items() if name.lower() in names), name)


def split_order(name: str) -> tuple[int, str]:
    """Return a key that sorts splits as they are used: training, validation, test, others."""
    usual = usual_split(name)
    return (list(SPLIT_NAMES).index(usual) if usual in SPLIT_NAMES else len(SPLIT_NAMES), name)


def log_similar(source: str, class_names: Sequence[str]) -> None:
    """Log the classes of a folder whose names differ only in case, spaces or underscores: they are often one class.

    Args:
        source: the folder.
        class_names: names of the classes.
    """
    spellings: dict[str, list[str]] = {}
    for name in class_names:
        spellings.setdefault(re.sub(r"[\s_-]+", "", name).casefold(), []).append(name)
    if similar := [" and ".join(map(repr, names)) for names in spellings.values() if len(names) > 1]:
        log.warning("%s: classes with similar names are different classes: %s", source, listed(similar, 3))


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """Metadata of a data set, known before an image is read.

    Attributes:
        name: name of the data set; of a folder, with its absolute path.
        class_names: names of the classes, in the order of the labels.
        image_size: height and width in pixels if all images have the same, else None.
        splits: number of examples of each split.
        mean: mean of each RGB channel over the training split, in [0, 255]; None if it has not been computed.
        std: standard deviation of each channel; None if it has not been computed.
    """

    name: str
    class_names: tuple[str, ...]
    image_size: tuple[int, int] | None
    splits: dict[str, int]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", files.absolute_dataset(self.name))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DatasetInfo:
        """Build the metadata from a dictionary with JSON's types."""
        options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**options)


@dataclasses.dataclass(frozen=True)
class Images:
    """Decoded images of one size in memory: images u8[N,H,W,3], labels i32[N]."""

    images: np.ndarray
    labels: np.ndarray

    @property
    def count(self) -> int:
        return len(self.labels)

    def part(self, start: int, stop: int) -> Images:
        return Images(self.images[start:stop], self.labels[start:stop])

    def pick(self, indices: np.ndarray) -> Images:
        return Images(self.images[indices], self.labels[indices])


@dataclasses.dataclass(frozen=True)
class Files:
    """Image files of any size: paths string[N], labels i32[N]."""

    paths: np.ndarray
    labels: np.ndarray

    @property
    def count(self) -> int:
        return len(self.labels)

    def part(self, start: int, stop: int) -> Files:
        return Files(self.paths[start:stop], self.labels[start:stop])

    def pick(self, indices: np.ndarray) -> Files:
        return Files(self.paths[indices], self.labels[indices])


@dataclasses.dataclass(frozen=True)
class Records:
    """Encoded images in shards, which are read by their number.

    Attributes:
        name: name of the split, for messages.
        reader: the records.
        parse: function of records string[B] and their numbers i64[B] that returns contents string[B] and labels [B].
        numbers: numbers of the examples' records, i64[N].
    """

    name: str
    reader: Reader
    parse: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    numbers: np.ndarray

    @property
    def count(self) -> int:
        return len(self.numbers)

    def part(self, start: int, stop: int) -> Records:
        return dataclasses.replace(self, numbers=self.numbers[start:stop])

    def pick(self, indices: np.ndarray) -> Records:
        return dataclasses.replace(self, numbers=self.numbers[indices])

    def fetch(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Read examples: indices i64[B] -> contents string[B], labels [B], names string[B]."""

        def read(numbers: np.ndarray) -> np.ndarray:
            return np.array(self.reader.read(numbers), object)

        numbers = tf.gather(tf.constant(self.numbers), index)
        records = tf.ensure_shape(tf.numpy_function(read, [numbers], tf.string, stateful=False), index.shape)
        contents, labels = self.parse(records, numbers)
        return contents, labels, tf.strings.join([self.name, tf.strings.as_string(numbers)], "#")


@dataclasses.dataclass(frozen=True)
class Stream:
    """Encoded images in blocks that are read in order: whole shards, or row groups of Parquet files.

    Attributes:
        name: name of the split, for messages.
        open: function of a block and one of its records that returns (contents, label) of this record and the following
            ones of the block.
        block: number of the block of each span, i64[M].
        first: first record of each span in its block, i64[M].
        length: records of each span, at least one, i64[M].
    """

    name: str
    open: Callable[[int, int], Iterator[tuple[bytes, int]]]
    block: np.ndarray
    first: np.ndarray
    length: np.ndarray

    @classmethod
    def of(cls, name: str, lengths: Sequence[int], open: Callable[[int, int], Iterator[tuple[bytes, int]]]) -> Stream:
        """Return the stream of whole blocks with these numbers of records."""
        length = np.asarray(lengths, "int64")
        block = np.flatnonzero(length)
        return cls(name, open, block, np.zeros_like(block), length[block])

    @property
    def count(self) -> int:
        return int(self.length.sum())

    def part(self, start: int, stop: int) -> Stream:
        ends = np.cumsum(self.length)
        before = ends - self.length
        first, last = np.maximum(before, start), np.minimum(ends, stop)
        some = first < last
        return Stream(self.name, self.open, self.block[some], (self.first + first - before)[some], (last - first)[some])

    def pick(self, indices: np.ndarray) -> Records:
        """Read the examples at these indices into memory."""
        reader = StreamReader(self)
        found = {number: reader.read(number) for number in np.unique(indices).tolist()}
        contents, labels = [found[int(i)][0] for i in indices], [found[int(i)][1] for i in indices]

        def parse(contents: tf.Tensor, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return contents, tf.gather(tf.constant(labels, tf.int64), numbers)

        return Records(self.name, InMemory(contents), parse, np.arange(len(contents)))


class StreamReader:
    """Reads records of a stream by their number; consecutive ones without opening their block again.

    Args:
        stream: the stream.
    """

    def __init__(self, stream: Stream):
        self._stream = stream
        self._ends = np.cumsum(stream.length)
        self._records: Iterator[tuple[bytes, int]] = iter(())
        self._next = self._end = -1

    def read(self, number: int) -> tuple[bytes, int]:
        """Return the contents and the label of a record.

        Raises:
            ValueError: its block has fewer records than it should.
        """
        if number != self._next or number == self._end:
            span = int(np.searchsorted(self._ends, number, "right"))
            self._end = int(self._ends[span])
            row = self._stream.first[span] + number - (self._end - self._stream.length[span])
            self._records = self._stream.open(int(self._stream.block[span]), int(row))
        self._next = number + 1
        try:
            return next(self._records)
        except StopIteration:
            raise InputError(
                f"{self._stream.name} must have {self._ends[-1]} records; record {number} is missing."
            ) from None


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set: its metadata `info`, and `read(split)`, which returns the examples of a whole split."""

    info: DatasetInfo
    read: Callable[[str], Images | Files | Records | Stream]

    def examples(self, split: str) -> Images | Files | Records | Stream:
        """Return the examples of a split or a part of one.

        Args:
            split: a split of the data set, or a part of one in tensorflow-datasets' notation: "train[:45000]",
                "train[45000:]", "train[:90%]".

        Raises:
            ValueError: there is no such split, or the part is empty.
        """
        name, start, stop = split_range(split, self.info.splits)
        examples = self.read(name)
        return examples if stop - start == examples.count else examples.part(start, stop)

    def pick(self, split: str, indices: Sequence[int] | np.ndarray) -> Dataset:
        """Return a data set of one split, "picked", with the examples of a split at these indices, in their order.

        A split that can only be read in order is read once.
        """
        picked = self.examples(split).pick(np.asarray(indices, "int64"))
        return Dataset(dataclasses.replace(self.info, splits={"picked": picked.count}), {"picked": picked}.__getitem__)

    def sample(self, split: str, count: int) -> Dataset:
        """Return a data set of one split, "picked", with examples spread evenly over a split; 0 for all.

        Of a stream, they are the first ones.

        Raises:
            ValueError: there is no such split, or it has fewer examples.
        """
        available = self.count(split)
        if not 0 <= count <= available:
            raise InputError(f"the number of images must be from 0 to the {available} of {split!r}; got {count}.")
        index = np.arange(count or available)
        # A stream can only be read from its beginning; tensorflow-datasets has shuffled its examples.
        ordered = isinstance(self.examples(split), Stream)
        return self.pick(split, index if ordered else index * available // len(index))

    def describe(self) -> str:
        """Return one line with the number of classes and of the images in each split."""
        classes, parts = len(self.info.class_names), []
        for split, count in self.info.splits.items():
            part = f"{split} {counted(count, 'image')}"
            examples = self.read(split) if self.info.name.startswith("folder:") else None
            if isinstance(examples, Files) and (present := len(np.unique(examples.labels))) < classes:
                part += f" of {present} of them"
            parts.append(part)
        return f"{self.info.name}: {counted(classes, 'class', 'classes')}; {', '.join(parts)}"

    def count(self, split: str, argument: str = "split") -> int:
        """Return the number of examples of a split or a part of one.

        Args:
            split: as for `examples`.
            argument: name of the caller's argument, for error messages.
        """
        _, start, stop = split_range(split, self.info.splits, argument)
        return stop - start


def split_range(split: str, splits: dict[str, int], argument: str = "split") -> tuple[str, int, int]:
    """Parse "name", "name[start:stop]" or the same in percent into the split's name, first index and end.

    A split is found by each of its usual names: "validation" names the split "val" of a data set, and the reverse.

    Args:
        split: the text to parse.
        splits: number of examples of each split.
        argument: name of the caller's argument, for error messages.

    Raises:
        ValueError: the notation is wrong, there is no such split, or the part is empty.
    """
    number = r"(-?\d+%?)?"
    match = re.fullmatch(rf"(\w+)(?:\[{number}:{number}\])?", split)
    if not match:
        raise InputError(f"{argument} must be a name or a part such as 'train[:90%]'; got {split!r}.")
    name, *bounds = match.groups()
    if name not in splits:
        name = next((other for other in splits if usual_split(other) == usual_split(name)), name)
    if argument == "eval_split" and "train" in splits and name not in splits and not nearest(name, splits):
        raise InputError(
            f"{argument} must be one of {', '.join(map(repr, splits))}; got {name!r}. --train_split='train[:80%]' "
            "--eval_split='train[80%:]' divides 'train'."
        )
    check_choice(argument, name, splits)
    count = splits[name]
    bounds = [
        bound if bound is None else round(int(bound[:-1]) * count / 100) if bound[-1] == "%" else int(bound)
        for bound in bounds
    ]
    start, stop, _ = slice(*bounds).indices(count)
    if start >= stop:
        raise InputError(f"{argument} {split!r} is empty: {name!r} has {count} examples.")
    return name, start, stop
