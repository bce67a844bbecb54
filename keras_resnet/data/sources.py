"""Data sets by name: scikit-learn's digits, folders of images, IDX files, tensorflow-datasets, and random images."""

from __future__ import annotations

import functools
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_resnet import files
from keras_resnet.data import class_folders, idx, imagenet_tfrecords, parquet, records, webdataset
from keras_resnet.data.dataset import Dataset, DatasetInfo, Images, Records, Stream
from keras_resnet.errors import InputError, did_you_mean

STATISTICS = {
    "cifar10": ((125.307, 122.950, 113.865), (62.993, 62.089, 66.705)),
    "cifar100": ((129.304, 124.070, 112.434), (68.170, 65.392, 70.418)),
    "fashion_mnist": ((72.940,) * 3, (90.021,) * 3),
    "imagenet2012": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
"""Data set -> mean and standard deviation of each channel over the training split, in [0, 255]."""

IN_MEMORY_BYTES = 1 << 30
"""Splits of tensorflow-datasets with images of one size are decoded into memory up to this size."""

KINDS = ("digits", "folder", "idx", "parquet", "synthetic", "tar", "tfds", "tfrecord")
"""What names of data sets other than those of tensorflow-datasets begin with, up to a colon."""


ALLOWED = (
    "'digits', 'folder:PATH', 'idx:PATH', 'parquet:FILES', 'tar:SHARDS', 'tfrecord:SHARDS', 'tfds:PATH', "
    "'synthetic:HxWxCLASSES' or a tensorflow-datasets name"
)
"""The names of data sets, for messages."""


def load(name: str, data_dir: str | None = None, download: bool = False, sequential: bool = False) -> Dataset:
    """Load a data set by name.

    Args:
        name: one of
            * "digits": scikit-learn's 1,797 scanned digits, which need no download; every third one is held out for
              testing;
            * "folder:/path": images in one subfolder per class, below `train/`, `val/` and `test/` or, without these,
              all in the split "train"; see `class_folders`;
            * "idx:/path": the four files of MNIST or Fashion-MNIST, such as those of Debian's package
              dataset-fashion-mnist in /usr/share/datasets/fashion-mnist; gray images are repeated to RGB, and
              `labels.txt` in the folder may name the classes;
            * "parquet:/path": Parquet files as Hugging Face's datasets writes them; see `parquet`;
            * "synthetic" or "synthetic:224x224x1000": random images of this height, width and number of classes;
            * "tar:/path": WebDataset's shards, a folder or a pattern such as "/data/train-{0000..0146}.tar"; see
              `webdataset`;
            * "tfrecord:/path": shards as TensorFlow's ImageNet scripts write them; see `imagenet_tfrecords`;
            * "tfds:/path": the folder of a data set prepared in the format of tensorflow-datasets, with its
              dataset_info.json, such as "/data/imagenet2012/5.1.0";
            * a tensorflow-datasets name of a data set with images and labels, such as "cifar10" or "imagenet2012".
        data_dir: folder of prepared tensorflow-datasets; by default ~/tensorflow_datasets.
        download: download and prepare the tensorflow-datasets data set if it is missing.
        sequential: read TFRecord and tar shards in their order, also local ones; see `streams`.

    Returns:
        A `Dataset`.

    Raises:
        ValueError: there is no such data set, the folder has no images, the IDX files are broken, or the data set is
            not prepared and `download` is False.
    """
    kind, colon, rest = name.partition(":")
    if name == "digits":
        return _digits()
    if kind == "folder":
        return class_folders.load(_existing(kind, rest))
    if kind == "idx":
        return _idx(rest)
    if kind == "parquet":
        return parquet.load(rest)
    if kind == "tar":
        return webdataset.load(rest, sequential)
    if kind == "tfrecord":
        return imagenet_tfrecords.load(rest, sequential)
    if kind == "tfds":
        return _tensorflow_datasets(name, builder_of_folder(_existing(kind, rest)), sequential)
    if kind == "synthetic":
        return _synthetic(name, rest or "224x224x1000")
    if colon and (hint := did_you_mean(kind, KINDS)):
        raise InputError(f"dataset must be {ALLOWED}; got {name!r}{hint}.")
    return _tensorflow_datasets(name, open_builder(name, data_dir, download, ALLOWED, FEATURES), sequential)


def _existing(kind: str, path: str) -> str:
    """Return the absolute path of the folder that a data set's name has after its kind.

    Raises:
        ValueError: there is no such folder.
    """
    root = os.path.abspath(files.expand(path))
    if not path or not os.path.isdir(root):
        hint = files.no_folder(root)
        raise InputError(f"dataset must name an existing folder after '{kind}:'; got {path!r}{hint}.")
    return root


@functools.cache
def _digits() -> Dataset:
    """Return scikit-learn's digits, 8x8 gray, enlarged to 32x32 RGB."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    gray = np.uint8(np.round(digits.images * (255 / 16)))
    large = np.stack([np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR)) for image in gray])
    images = np.repeat(large[..., None], 3, axis=-1)
    labels = digits.target.astype("int32")
    held_out = np.arange(len(labels)) % 3 == 2
    splits = {"train": Images(images[~held_out], labels[~held_out]), "test": Images(images[held_out], labels[held_out])}
    return Dataset(
        DatasetInfo(
            "digits",
            tuple(map(str, digits.target_names)),
            (32, 32),
            {split: examples.count for split, examples in splits.items()},
            (float(splits["train"].images.mean()),) * 3,
            (float(splits["train"].images.std()),) * 3,
        ),
        splits.__getitem__,
    )


def _synthetic(name: str, shape: str) -> Dataset:
    """Return random images of a given size, 1,024 for training and 256 for testing, for benchmarks."""
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", shape)
    if not match or 0 in (numbers := tuple(map(int, match.groups()))):
        raise InputError(f"a synthetic dataset must be named synthetic:HEIGHTxWIDTHxCLASSES; got {name!r}.")
    height, width, classes = numbers
    counts = {"train": 1024, "test": 256}

    @functools.cache
    def read(split: str) -> Images:
        random = np.random.default_rng(list(counts).index(split))
        images = random.integers(0, 256, (counts[split], height, width, 3), dtype=np.uint8)
        return Images(images, random.integers(0, classes, counts[split], dtype=np.int32))

    names = tuple(map(str, range(classes)))
    return Dataset(DatasetInfo(name, names, (height, width), counts, (127.5,) * 3, (73.9,) * 3), read)


def _idx(path: str) -> Dataset:
    """Return the gray images of IDX files, in memory and repeated to RGB."""
    root = pathlib.Path(_existing("idx", path))
    arrays = {split: idx.images(root, split) for split in idx.SPLITS}
    sizes = {split: images.shape[1:] for split, (images, _) in arrays.items()}
    if len(set(sizes.values())) > 1:
        raise InputError(f"images of the splits of {str(root)!r} must have one size; they have {sizes}.")
    class_names = _idx_class_names(root, 1 + max(int(labels.max()) for _, labels in arrays.values()))
    counts = {split: len(labels) for split, (_, labels) in arrays.items()}

    @functools.cache
    def read(split: str) -> Images:
        images, labels = arrays[split]
        return Images(np.repeat(images[..., None], 3, axis=-1), labels.astype("int32"))

    return Dataset(DatasetInfo(f"idx:{root}", class_names, tuple(sizes["train"]), counts), read)


def _idx_class_names(root: pathlib.Path, classes: int) -> tuple[str, ...]:
    """Return the class names in labels.txt, or the numbers of the classes if there is no such file."""
    file = root / "labels.txt"
    if not file.is_file():
        return tuple(map(str, range(classes)))
    names = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
    if len(names) < classes:
        raise InputError(f"labels.txt of {str(root)!r} must name {classes} classes; it names {len(names)}.")
    return names


def _tensorflow_datasets(name: str, builder: Any, sequential: bool) -> Dataset:
    """Return a data set of tensorflow-datasets: in memory if its images have one size and are few enough.

    Others are read by number from ArrayRecord files and from local TFRecord files, and in the order of other shards.
    """
    features = builder.info.features
    shape = features["image"].shape
    size = None if None in shape[:2] else tuple(shape[:2])
    counts = {split: info.num_examples for split, info in builder.info.splits.items()}
    classes = features["label"].num_classes

    @functools.cache
    def read(split: str) -> Images | Records | Stream:
        if size is not None and counts[split] * size[0] * size[1] * 3 <= IN_MEMORY_BYTES:
            images, labels = _decoded(builder, split)
            return Images(images, _checked_labels(labels, classes, name))
        return _shards_in_order(name, builder, split) if sequential else _encoded(name, builder, split)

    mean, std = STATISTICS.get(builder.info.name, (None, None))
    return Dataset(DatasetInfo(name, tuple(features["label"].names), size, counts, mean, std), read)


def _decoded(builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Read all images u8[N,H,W,3] and labels [N] of a split of tensorflow-datasets."""
    import tensorflow_datasets as tfds

    if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
        examples = list(builder.as_data_source(split))
        images = np.stack([example["image"] for example in examples])
        labels = np.array([example["label"] for example in examples])
    else:
        batches = list(tfds.as_numpy(builder.as_dataset(split=split).batch(1024)))
        images = np.concatenate([batch["image"] for batch in batches])
        labels = np.concatenate([batch["label"] for batch in batches])
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images, labels


def _encoded(name: str, builder: Any, split: str) -> Records | Stream:
    """Return the encoded images of a split of tensorflow-datasets."""
    import tensorflow_datasets as tfds

    info = builder.info.splits[split]
    instructions = info.file_instructions
    reader: records.Reader | None = None
    if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
        reader = records.ArrayRecords(instructions)
    elif builder.info.file_format == tfds.core.FileFormat.TFRECORD and all(
        os.path.isfile(instruction.filename) for instruction in instructions
    ):
        reader = records.tfrecords([instruction.filename for instruction in instructions])
    if reader is None:
        return _shards_in_order(name, builder, split)
    if len(reader) != info.num_examples:
        raise InputError(
            f"split {split!r} of {name!r} must have the {info.num_examples} records of its dataset_info.json; its "
            f"files have {len(reader)}."
        )

    def parse(examples: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        values = tf.io.parse_example(
            examples,
            {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)},
        )
        return values["image"], values["label"]

    return Records(f"{name}/{split}", reader, parse, np.arange(len(reader)))


def _shards_in_order(name: str, builder: Any, split: str) -> Stream:
    """Return the encoded images of a split of tensorflow-datasets, whose shards are read from their beginning."""
    import tensorflow_datasets as tfds

    lengths = builder.info.splits[split].shard_lengths
    ends = np.cumsum(lengths)
    config = tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1, add_tfds_id=False)

    def open(block: int, first: int) -> Iterator[tuple[bytes, int]]:
        part = f"{split}[{ends[block] - lengths[block] + first}:{ends[block]}]"
        decoders = {"image": tfds.decode.SkipDecoding()}
        for example in tfds.as_numpy(builder.as_dataset(part, decoders=decoders, read_config=config)):
            yield example["image"], int(example["label"])

    return Stream.of(f"{name}/{split}", lengths, open)


FEATURES = ("image", "label")
"""Features of tensorflow-datasets that are classified."""


def builder_of_folder(path: str) -> Any:
    """Return the `tfds.core.DatasetBuilder` of the folder of a prepared data set, whose code is not needed.

    Args:
        path: the folder of a version, or one above it with one version.

    Raises:
        ValueError: the folder has no dataset_info.json, or lacks the features of classification.
    """
    import tensorflow_datasets as tfds

    found = [path] if os.path.isfile(os.path.join(path, "dataset_info.json")) else []
    found = found or [str(file.parent) for file in sorted(pathlib.Path(path).glob("*/dataset_info.json"))]
    if len(found) != 1:
        raise InputError(f"dataset must name a folder with dataset_info.json after 'tfds:'; {path!r} has {len(found)}.")
    builder = tfds.builder_from_directory(found[0])
    _check_features(path, builder, FEATURES)
    return builder


def open_builder(name: str, data_dir: str | None, download: bool, allowed: str, required: Sequence[str]) -> Any:
    """Return the `tfds.core.DatasetBuilder` of a prepared data set of tensorflow-datasets.

    Args:
        name: name of the data set.
        data_dir: folder of prepared data sets; by default ~/tensorflow_datasets.
        download: download and prepare the data set if it is missing.
        allowed: the allowed names, for the error message.
        required: the features that it must have, such as "image".

    Raises:
        ValueError: there is no such data set, it is not prepared and `download` is False, or it lacks a feature.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        raise InputError(f"dataset must be {allowed}; got {name!r}.") from error
    if download:
        builder.download_and_prepare()
    if not builder.info.splits:
        raise InputError(f"dataset {name!r} is not prepared in {builder.data_dir}; set download or data_dir.")
    _check_features(name, builder, required)
    return builder


def _check_features(name: str, builder: Any, required: Sequence[str]) -> None:
    """Raise `InputError` unless a data set has the required features."""
    features = set(builder.info.features or {})
    if not set(required) <= features:
        raise InputError(f"dataset must have the features {' and '.join(required)}; {name!r} has {sorted(features)}.")


def _checked_labels(labels: np.ndarray, classes: int, name: str) -> np.ndarray:
    """Return labels as int32, or raise `InputError` if one is not a class."""
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        worst = labels.max() if labels.max() >= classes else labels.min()
        raise InputError(f"labels of {name!r} must be from 0 to {classes - 1}; got {worst}.")
    return labels.astype("int32")


def from_arrays(images: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...], name: str = "arrays") -> Dataset:
    """Return a data set of one split, "train", from images u8[N,H,W,3] and labels i32[N] in memory.

    Raises:
        ValueError: a shape, type or label is wrong.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or labels.shape != images.shape[:1]:
        got = f"{images.dtype}{list(images.shape)} and {list(labels.shape)}"
        raise InputError(f"images must be uint8[N,H,W,3] and labels [N]; got {got}.")
    examples = Images(images, _checked_labels(labels, len(class_names), name))
    info = DatasetInfo(name, tuple(class_names), (images.shape[1], images.shape[2]), {"train": examples.count})
    return Dataset(info, {"train": examples}.__getitem__)
