"""TFRecord shards as TensorFlow's ImageNet scripts write them: train-00000-of-01024, validation-00000-of-00128.

Each record is a `tf.train.Example` with the image file in `image/encoded` and the class from 1 on in
`image/class/label`; 0 is the background, which no image has.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from keras_resnet import files
from keras_resnet.data import records, sequential, shards
from keras_resnet.data.dataset import Dataset, DatasetInfo, Records, Stream
from keras_resnet.errors import InputError
from keras_resnet.ops import graph_errors

FEATURES = {
    "image/encoded": tf.io.FixedLenFeature([], tf.string, ""),
    "image/class/label": tf.io.FixedLenFeature([], tf.int64, 0),
}
"""The features of a record; those that are missing have values that are refused."""

CLASSES = 1000
"""Number of classes, unless `classes.txt` next to the shards names them."""

FROM_ONE = "image/class/label must count from 1, as in TensorFlow's ImageNet files"
"""Message for labels that count from 0, or records without a label."""


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
    necessary = any(map(sequential.is_necessary, splits.values())) or sequential.compression(_filled(first)) != ""
    read = _records if not (necessary or in_order) else _stream if necessary else _local_stream
    examples = {split: read(split, paths) for split, paths in splits.items()}
    counts = {split: part.count for split, part in examples.items()}
    return Dataset(DatasetInfo(f"tfrecord:{pattern}", names, None, counts), examples.__getitem__)


def _filled(paths: Sequence[str]) -> str:
    """The first file with any bytes; the first one without such files or on other file systems."""
    local = (path for path in paths if not files.is_address(path))
    return next((path for path in local if os.path.exists(path) and os.path.getsize(path)), paths[0])


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
    """The images of a split in their order; each shard may have its own compression."""
    compressed = {path: sequential.compression(path) for path in paths}
    filled = next((path for path, count in zip(paths, lengths, strict=True) if count), None)
    if filled is None:
        raise InputError(f"{paths[0]!r} must have records; it has none.")
    for record in itertools.islice(sequential.tfrecords(filled, 0, compressed[filled]), 1):
        _check(record, filled)

    def read(path: str, first: int) -> Iterator[tuple[bytes, int]]:
        for record in sequential.tfrecords(path, first, compressed[path]):
            image, label = _check(record, path)
            if label < 1:
                raise InputError(f"{FROM_ONE}; got {label}.")
            yield image, label - 1

    return sequential.stream(f"tfrecord/{split}", paths, lengths, read)


def _parse(examples: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the image files string[B] and labels i64[B], from 0 on, of records string[B]."""
    values = tf.io.parse_example(examples, FEATURES)
    labels = values["image/class/label"]
    with tf.control_dependencies(
        [graph_errors.check(tf.reduce_all(labels > 0), f"{FROM_ONE}; got ", tf.reduce_min(labels, keepdims=True), ".")]
    ):
        return values["image/encoded"], labels - 1


def _check(record: bytes, path: str) -> tuple[bytes, int]:
    """Return the image file and the label, from 1 on, of a record; raise `InputError` if it has no such features."""
    try:
        feature = tf.train.Example.FromString(record).features.feature
    except DecodeError as error:
        raise InputError(f"{path!r} must have records of tf.train.Example; one cannot be parsed.") from error
    names = sorted(feature)
    if not set(FEATURES) <= set(names):
        raise InputError(f"records of {path!r} must have the features {' and '.join(FEATURES)}; they have {names}.")
    images, labels = feature["image/encoded"].bytes_list.value, feature["image/class/label"].int64_list.value
    if len(images) != 1 or len(labels) != 1:
        got = ", ".join(f"{name} of {_kind(feature[name])}" for name in FEATURES)
        raise InputError(f"records of {path!r} must have one image file and one integer label; they have {got}.")
    return images[0], labels[0]


def _kind(feature: Any) -> str:
    """The type and number of a feature's values, for messages."""
    kind = feature.WhichOneof("kind")
    return f"{len(getattr(feature, kind).value)} {kind.removesuffix('_list')}" if kind else "no values"
