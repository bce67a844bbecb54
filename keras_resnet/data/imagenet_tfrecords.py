"""TFRecord shards as TensorFlow's ImageNet scripts write them: train-00000-of-01024, validation-00000-of-00128.

Each record is a `tf.train.Example` with the image file in `image/encoded` and the class from 1 on in
`image/class/label`; 0 is the background, which no image has.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_resnet.data import records, shards
from keras_resnet.data.dataset import Dataset, DatasetInfo, Records
from keras_resnet.errors import InputError

FEATURES = {
    "image/encoded": tf.io.FixedLenFeature([], tf.string),
    "image/class/label": tf.io.FixedLenFeature([], tf.int64),
}
"""The features of a record."""

CLASSES = 1000
"""Number of classes, unless `classes.txt` next to the shards names them."""


def load(pattern: str) -> Dataset:
    """Open the shards; records are read by number, after each file was indexed once.

    Args:
        pattern: folder, file or pattern, as for `shards.by_split`.

    Raises:
        ValueError: there are no shards, or one is damaged or has other records.
    """
    splits = shards.by_split("tfrecord", pattern)
    first = next(iter(splits.values()))
    names = shards.class_names(first) or tuple(map(str, range(CLASSES)))
    readers = {split: records.tfrecords(paths) for split, paths in splits.items()}
    for split, reader in readers.items():
        _check(reader, splits[split][0])

    def read(split: str) -> Records:
        return Records(f"tfrecord/{split}", readers[split], _parse, np.arange(len(readers[split])))

    counts = {split: len(reader) for split, reader in readers.items()}
    return Dataset(DatasetInfo(f"tfrecord:{pattern}", names, None, counts), read)


def _parse(examples: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the image files string[B] and labels i64[B], from 0 on, of records string[B]."""
    values = tf.io.parse_example(examples, FEATURES)
    return values["image/encoded"], values["image/class/label"] - 1


def _check(reader: records.Reader, path: str) -> None:
    """Raise `InputError` unless the first record of a file has the features."""
    if not len(reader):
        raise InputError(f"{path!r} must have records; it has none.")
    example = tf.train.Example()
    try:
        example.ParseFromString(reader.read([0])[0])
    except Exception as error:
        raise InputError(f"{path!r} must have records of tf.train.Example; the first one cannot be parsed.") from error
    names = sorted(example.features.feature)
    if not set(FEATURES) <= set(names):
        raise InputError(f"records of {path!r} must have the features {' and '.join(FEATURES)}; they have {names}.")
