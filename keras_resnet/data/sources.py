"""Data sets by name: embedded digits, folders of images, IDX files, tensorflow-datasets, and random images."""

from __future__ import annotations

import functools
import pathlib
import re

import numpy as np
import tensorflow as tf

from keras_resnet.data import idx
from keras_resnet.data.dataset import Dataset, DatasetInfo, Files, Images, Stream
from keras_resnet.errors import InputError

# Mean and standard deviation of each channel over the training split, in [0, 255].
STATISTICS = {
    "cifar10": ((125.307, 122.950, 113.865), (62.993, 62.089, 66.705)),
    "cifar100": ((129.304, 124.070, 112.434), (68.170, 65.392, 70.418)),
    "fashion_mnist": ((72.940,) * 3, (90.021,) * 3),
    "imagenet2012": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}

IN_MEMORY_BYTES = 1 << 30
"""Sets of tensorflow-datasets with images of one size are decoded into memory up to this size of a split."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")

FOLDER_SPLITS = ("train", "val", "test")


def load(name: str, data_dir: str | None = None, download: bool = False) -> Dataset:
    """Find a data set by name.

    Args:
        name: one of
            * "digits": scikit-learn's 1,797 scanned digits, embedded; every third one is held out for testing;
            * "folder:/path": images in one subfolder a class, the whole under `train/`, `val/` and `test/` or, without
              these, all in the split "train";
            * "idx:/path": the four files of MNIST or Fashion-MNIST, such as Debian's package dataset-fashion-mnist puts
              into /usr/share/datasets/fashion-mnist; grey, repeated to RGB; `labels.txt` there may name the classes;
            * "synthetic" or "synthetic:224x224x1000": random images of this height, width and number of classes;
            * a set of tensorflow-datasets with images and labels, such as "cifar10" or "imagenet2012".
        data_dir: folder of prepared tensorflow-datasets; by default theirs.
        download: download and prepare a set of tensorflow-datasets where it is missing.

    Returns:
        A `Dataset`.

    Raises:
        ValueError: no such data set, a folder without images, broken IDX files, or a set that is not prepared while
            `download` is False.
    """
    kind, _, rest = name.partition(":")
    if name == "digits":
        return _digits()
    if kind == "folder":
        return _folder(rest)
    if kind == "idx":
        return _idx(rest)
    if kind == "synthetic":
        return _synthetic(name, rest or "224x224x1000")
    return _tensorflow_datasets(name, data_dir, download)


@functools.cache
def _digits() -> Dataset:
    """scikit-learn's digits, 8x8 grey, enlarged to 32x32 RGB."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.uint8(np.round(digits.images * (255 / 16)))
    large = np.stack([np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR)) for image in grey])
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
    """Random images of a given size, 1,024 for training and 256 for testing, for benchmarks."""
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", shape)
    if not match or 0 in (numbers := tuple(map(int, match.groups()))):
        raise InputError(f"a synthetic dataset must be named synthetic:HEIGHTxWIDTHxCLASSES; got {name!r}.")
    height, width, classes = numbers
    counts = {"train": 1024, "test": 256}

    @functools.cache
    def read(split):
        random = np.random.default_rng(list(counts).index(split))
        images = random.integers(0, 256, (counts[split], height, width, 3), dtype=np.uint8)
        return Images(images, random.integers(0, classes, counts[split], dtype=np.int32))

    names = tuple(map(str, range(classes)))
    return Dataset(DatasetInfo(name, names, (height, width), counts, (127.5,) * 3, (73.9,) * 3), read)


def _folder(path: str) -> Dataset:
    """Images in one subfolder a class."""
    root = pathlib.Path(path).expanduser()
    if not path or not root.is_dir():
        raise InputError(f"dataset must name an existing folder after 'folder:'; got {path!r}.")
    roots = {split: root / split for split in FOLDER_SPLITS if (root / split).is_dir()} or {"train": root}
    first = next(iter(roots.values()))
    class_names = tuple(sorted(entry.name for entry in first.iterdir() if entry.is_dir()))
    if not class_names:
        raise InputError(f"dataset folder {str(first)!r} must have one subfolder for each class; it has none.")
    splits = {}
    for split, base in roots.items():
        extra = sorted(entry.name for entry in base.iterdir() if entry.is_dir() and entry.name not in class_names)
        if extra:
            raise InputError(f"dataset folder {str(base)!r} has classes {extra} that {str(first)!r} does not have.")
        paths, labels, places = [], [], []
        for label, name in enumerate(class_names):
            found = sorted(str(file) for file in (base / name).rglob("*") if file.suffix.lower() in SUFFIXES)
            if not found and (base == first or not (base / name).is_dir()):
                raise InputError(f"class folder {str(base / name)!r} must hold images ({', '.join(SUFFIXES)}).")
            paths += found
            labels += [label] * len(found)
            places += [(number + 0.5) / len(found) for number in range(len(found))]
        # Classes take turns, so that a part such as train[:90%] has each in its share.
        order = np.argsort(places, kind="stable")
        splits[split] = Files(np.array(paths)[order], np.array(labels, "int32")[order])
    counts = {split: examples.count for split, examples in splits.items()}
    return Dataset(DatasetInfo(f"folder:{root}", class_names, None, counts), splits.__getitem__)


def _idx(path: str) -> Dataset:
    """IDX files of grey images, all in memory, repeated to RGB."""
    root = pathlib.Path(path).expanduser()
    if not path or not root.is_dir():
        raise InputError(f"dataset must name an existing folder after 'idx:'; got {path!r}.")
    found = {split: idx.images(root, split) for split in idx.SPLITS}
    sizes = {split: images.shape[1:] for split, (images, _) in found.items()}
    if len(set(sizes.values())) > 1:
        raise InputError(f"images of the splits of {str(root)!r} must have one size; they have {sizes}.")
    classes = 1 + max(int(labels.max()) for _, labels in found.values())
    names = tuple(map(str, range(classes)))
    if (root / "labels.txt").is_file():
        lines = (root / "labels.txt").read_text(encoding="utf-8").splitlines()
        names = tuple(line.strip() for line in lines if line.strip())
        if len(names) < classes:
            raise InputError(f"labels.txt of {str(root)!r} must name {classes} classes; it names {len(names)}.")
    counts = {split: len(labels) for split, (_, labels) in found.items()}

    @functools.cache
    def read(split):
        images, labels = found[split]
        return Images(np.repeat(images[..., None], 3, axis=-1), labels.astype("int32"))

    return Dataset(DatasetInfo(f"idx:{root}", names, tuple(sizes["train"]), counts), read)


def _tensorflow_datasets(name: str, data_dir: str | None, download: bool) -> Dataset:
    import tensorflow_datasets as tfds

    allowed = "'digits', 'folder:PATH', 'idx:PATH', 'synthetic:HxWxCLASSES' or a name of tensorflow-datasets"
    builder = open_builder(name, data_dir, download, allowed, "label")
    features = builder.info.features
    shape = features["image"].shape
    size = None if None in shape[:2] else tuple(shape[:2])
    counts = {split: info.num_examples for split, info in builder.info.splits.items()}
    classes = features["label"].num_classes

    @functools.cache
    def read(split):
        if size is not None and counts[split] * size[0] * size[1] * 3 <= IN_MEMORY_BYTES:
            batches = builder.as_dataset(split=split).batch(1024)
            pairs = [(batch["image"], batch["label"]) for batch in tfds.as_numpy(batches)]
            images, labels = (np.concatenate(column) for column in zip(*pairs, strict=True))
            if images.shape[-1] == 1:
                images = np.repeat(images, 3, axis=-1)
            return Images(images, _checked_labels(labels, classes, name))
        records = builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()}).map(
            lambda example: (example["image"], example["label"]), num_parallel_calls=tf.data.AUTOTUNE
        )
        return Stream(f"{name}/{split}", records, counts[split])

    mean, std = STATISTICS.get(name, (None, None))
    return Dataset(DatasetInfo(name, tuple(features["label"].names), size, counts, mean, std), read)


def open_builder(name: str, data_dir: str | None, download: bool, allowed: str, answer: str):
    """Return the builder of a prepared set of tensorflow-datasets with images and what is to be said of them.

    Args:
        name: of the set.
        data_dir: folder of prepared sets; by default theirs.
        download: download and prepare the set where it is missing.
        allowed: what names may be, for the error.
        answer: the feature that it must have beside "image".

    Raises:
        ValueError: no such set, not prepared while `download` is False, or without these features.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        raise InputError(f"dataset must be {allowed}; got {name!r}.") from error
    if download:
        builder.download_and_prepare()
    if not builder.info.splits:
        raise InputError(f"dataset {name!r} is not prepared in {builder.data_dir}; set download, or data_dir.")
    features = set(builder.info.features or {})
    if not {"image", answer} <= features:
        raise InputError(f"dataset must have the features image and {answer}; {name!r} has {sorted(features)}.")
    return builder


def _checked_labels(labels: np.ndarray, classes: int, name: str) -> np.ndarray:
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        worst = labels.max() if labels.max() >= classes else labels.min()
        raise InputError(f"labels of {name!r} must be from 0 to {classes - 1}; one is {worst}.")
    return labels.astype("int32")


def from_arrays(images: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...], name: str = "arrays") -> Dataset:
    """Make a data set of one split, "train", of images u8[N,H,W,3] and labels i32[N] in memory.

    Raises:
        ValueError: shapes, type or labels are not these.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or labels.shape != images.shape[:1]:
        got = f"{images.dtype}{list(images.shape)} and {list(labels.shape)}"
        raise InputError(f"images must be uint8[N,H,W,3] and labels [N]; got {got}.")
    examples = Images(images, _checked_labels(labels, len(class_names), name))
    info = DatasetInfo(name, tuple(class_names), images.shape[1:3], {"train": examples.count})
    return Dataset(info, {"train": examples}.__getitem__)
