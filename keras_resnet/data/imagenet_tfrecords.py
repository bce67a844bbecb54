"""TFRecord shards as TensorFlow's ImageNet scripts write them: train-00000-of-01024, validation-00000-of-00128.

Each record is a `tf.train.Example` with the image file in `image/encoded` and the class from 1 on in
`image/class/label`; 0 is the background, which no image has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from keras_resnet.data import records, sequential, shards
from keras_resnet.data.dataset import Dataset, DatasetInfo, Records, Stream
from keras_resnet.errors import InputError

FEATURES = {
    "image/encoded": tf.io.FixedLenFeature([], tf.string),
    "image/class/label": tf.io.FixedLenFeature([], tf.int64),
}
"""The features of a record."""

CLASSES = 1000
"""Number of classes, unless `classes.txt` next to the shards names them."""


def load(pattern: str, in_order: bool = False) -> Dataset:
    """Open the shards.

    Records of local files are read by number, after each file was indexed once; those of compressed files and of other
    file systems are read in their order.

    Args:
        pattern: folder, file or pattern, as for `shards.by_split`.
        in_order: also read local files in their order.

    Raises:
        ValueError: there are no shards, or one is damaged or has other records.
    """
    splits = shards.by_split("tfrecord", pattern)
    first = next(iter(splits.values()))
    names = shards.class_names(first) or tuple(map(str, range(CLASSES)))
    necessary = any(map(sequential.is_necessary, splits.values())) or sequential.compression(first[0]) != ""
    read = _records if not (necessary or in_order) else _stream if necessary else _local_stream
    examples = {split: read(split, paths) for split, paths in splits.items()}
    counts = {split: part.count for split, part in examples.items()}
    return Dataset(DatasetInfo(f"tfrecord:{pattern}", names, None, counts), examples.__getitem__)


def _records(split: str, paths: Sequence[str]) -> Records:
    """The images of a split by their number."""
    reader = records.tfrecords(paths)
    if not len(reader):
        raise InputError(f"{paths[0]!r} must have records; it has none.")
    _check(reader.read([0])[0], paths[0])
    return Records(f"tfrecord/{split}", reader, _parse, np.arange(len(reader)))


def _local_stream(split: str, paths: Sequence[str]) -> Stream:
    """The images of a split in their order, counted by the headers of the records."""
    return _in_order(
        split, paths, [len(index["size"]) for index in records.indexed("tfrecord", paths, records.scan_tfrecord)]
    )


def _stream(split: str, paths: Sequence[str]) -> Stream:
    """The images of a split in their order, counted by `sizes.json` or by reading them all once."""
    lengths = shards.lengths(paths)
    if lengths is None:
        indexes = records.indexed("tfrecord in order", paths, sequential.count_tfrecords)
        lengths = [int(index["count"][0]) for index in indexes]
    return _in_order(split, paths, lengths)


def _in_order(split: str, paths: Sequence[str], lengths: Sequence[int]) -> Stream:
    """The images of a split in their order; all shards have the compression of the first."""
    compressed = sequential.compression(paths[0])
    first = next(sequential.tfrecords(paths[0], 0, compressed), None)
    if first is None:
        raise InputError(f"{paths[0]!r} must have records; it has none.")
    _check(first, paths[0])

    def open(block: int, first: int) -> Iterator[tuple[bytes, int]]:
        for record in sequential.tfrecords(paths[block], first, compressed):
            feature = tf.train.Example.FromString(record).features.feature
            yield feature["image/encoded"].bytes_list.value[0], feature["image/class/label"].int64_list.value[0] - 1

    return Stream.of(f"tfrecord/{split}", lengths, open)


def _parse(examples: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the image files string[B] and labels i64[B], from 0 on, of records string[B]."""
    values = tf.io.parse_example(examples, FEATURES)
    return values["image/encoded"], values["image/class/label"] - 1


def _check(record: bytes, path: str) -> None:
    """Raise `InputError` unless the first record of a file has the features."""
    try:
        example = tf.train.Example.FromString(record)
    except DecodeError as error:
        raise InputError(f"{path!r} must have records of tf.train.Example; the first one cannot be parsed.") from error
    names = sorted(example.features.feature)
    if not set(FEATURES) <= set(names):
        raise InputError(f"records of {path!r} must have the features {' and '.join(FEATURES)}; they have {names}.")
