"""Data sets for the pipelines: what is known of them, and the examples of a split in one of three forms."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from keras_resnet.errors import InputError, check_choice


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set before an image is read.

    Attributes:
        name: the data set.
        class_names: names of the classes in the order of the labels.
        image_size: height and width in pixels where all images have the same; None where they differ.
        splits: number of examples of each split.
        mean: mean of each RGB channel over the training split, in [0, 255]; None where nobody has computed it.
        std: standard deviation of each channel, likewise.
    """

    name: str
    class_names: tuple[str, ...]
    image_size: tuple[int, int] | None
    splits: dict[str, int]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @classmethod
    def from_dict(cls, values: dict) -> DatasetInfo:
        """Rebuild from JSON's types."""
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


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
class Stream:
    """Encoded images that come one after the other: `records` of (contents string[], label i64[]), `count` of them."""

    name: str
    records: tf.data.Dataset
    count: int

    def part(self, start: int, stop: int) -> Stream:
        return Stream(f"{self.name}[{start}:{stop}]", self.records.skip(start).take(stop - start), stop - start)

    def pick(self, indices: np.ndarray) -> Stream:
        # One pass over the records, whatever the order of the indices.
        wanted = {int(index): place for place, index in enumerate(indices)}
        found = self.records.enumerate().filter(lambda number, _: tf.reduce_any(number == tf.constant(indices)))
        kept = {int(number): record for number, record in found.take(len(wanted))}
        contents, labels = zip(*(kept[number] for number in wanted), strict=True)
        return Stream(self.name, tf.data.Dataset.from_tensor_slices((list(contents), list(labels))), len(wanted))


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set: `info`, and `read(split)`, the examples of a whole split."""

    info: DatasetInfo
    read: Callable[[str], Images | Files | Stream]

    def examples(self, split: str) -> Images | Files | Stream:
        """Return the examples of a split or a part of one.

        Args:
            split: a split of the data set, or a part in tensorflow-datasets' notation: "train[:45000]",
                "train[45000:]", "train[:90%]".

        Raises:
            ValueError: no such split, or an empty part.
        """
        name, start, stop = split_range(split, self.info.splits)
        examples = self.read(name)
        return examples if stop - start == examples.count else examples.part(start, stop)

    def pick(self, split: str, indices: Sequence[int] | np.ndarray) -> Dataset:
        """Return a data set of one split, "picked", with the examples of a split at these indices, in their order.

        A split that can only be read in its order is read once.
        """
        picked = self.examples(split).pick(np.asarray(indices, "int64"))
        return Dataset(dataclasses.replace(self.info, splits={"picked": picked.count}), {"picked": picked}.__getitem__)

    def count(self, split: str) -> int:
        """Return how many examples a split or a part of one has."""
        _, start, stop = split_range(split, self.info.splits)
        return stop - start


def split_range(split: str, splits: dict[str, int]) -> tuple[str, int, int]:
    """Parse "name", "name[start:stop]" or the same in percent: the split's name, first index and end.

    Args:
        split: the text.
        splits: number of examples of each split.

    Raises:
        ValueError: another notation, no such split, or an empty part.
    """
    number = r"(-?\d+%?)?"
    match = re.fullmatch(rf"(\w+)(?:\[{number}:{number}\])?", split)
    if not match:
        raise InputError(f"split must be a name or a part such as 'train[:90%]'; got {split!r}.")
    name, *bounds = match.groups()
    check_choice("split", name, splits)
    count = splits[name]
    bounds = [
        bound if bound is None else round(int(bound[:-1]) * count / 100) if bound[-1] == "%" else int(bound)
        for bound in bounds
    ]
    start, stop, _ = slice(*bounds).indices(count)
    if start >= stop:
        raise InputError(f"split {split!r} is empty: {name!r} has {count} examples.")
    return name, start, stop
