"""WebDataset's tar shards: KEY.jpg and KEY.cls, or KEY.json with a "label", for each image."""

from __future__ import annotations

import json
import posixpath
import tarfile

import numpy as np
import tensorflow as tf

from keras_resnet.data import folders, records, shards
from keras_resnet.data.dataset import Dataset, DatasetInfo, Records
from keras_resnet.errors import InputError, counted

LABELS = (".cls", ".json")
"""Endings of the files that have an image's label, in the order in which they are preferred."""


def load(pattern: str) -> Dataset:
    """Open WebDataset shards; images are read by number from the tar files, which are indexed once.

    The label is the integer in KEY.cls or under "label" in KEY.json. `classes.txt` next to the shards names the
    classes.

    Args:
        pattern: folder, file or pattern, as for `shards.by_split`; the files must not be compressed.

    Raises:
        ValueError: there are no shards, a shard is damaged, or an image has no label.
    """
    splits = shards.by_split("tar", pattern, (".tar",))
    indexes = {split: records.indexed("tar", paths, scan) for split, paths in splits.items()}
    labels = {split: np.concatenate([part["label"] for part in parts]) for split, parts in indexes.items()}
    count = 1 + max(int(values.max()) for values in labels.values())
    names = shards.class_names(next(iter(splits.values()))) or tuple(map(str, range(count)))
    if count > len(names):
        raise InputError(f"{shards.CLASSES} must name the {count} classes of {pattern!r}; it names {len(names)}.")

    def read(split: str) -> Records:
        def parse(contents: tf.Tensor, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return contents, tf.gather(tf.constant(labels[split]), numbers)

        numbers = np.arange(len(labels[split]))
        return Records(f"tar/{split}", records.extents(splits[split], indexes[split]), parse, numbers)

    return Dataset(DatasetInfo(f"tar:{pattern}", names, None, {k: len(v) for k, v in labels.items()}), read)


def scan(path: str) -> dict[str, np.ndarray]:
    """Return `offset` i64[N], `size` i64[N] and `label` i32[N] of the images in a tar file.

    Raises:
        ValueError: the file is not a whole tar file, is compressed, has no images, or an image has no label.
    """
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, dict[str, int]] = {}
    files = 0
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if not member.isreg():
                    continue
                files += 1
                key, ending = _key(member.name)
                if ending.endswith(folders.SUFFIXES):
                    images[key] = member.offset_data, member.size
                elif ending in LABELS and (content := archive.extractfile(member)):
                    labels.setdefault(key, {})[ending] = _label(content.read(), f"{key}{ending} of {path!r}")
    except (tarfile.TarError, EOFError) as error:
        raise InputError(f"{path!r} must be a whole tar file without compression: {error}.") from error
    if not images:
        raise InputError(f"{path!r} must have images; it has {counted(files, 'file')} and no image.")
    if missing := next((key for key in images if key not in labels), None):
        raise InputError(f"image {missing!r} of {path!r} must have a label, {missing}.cls or {missing}.json.")
    return {
        "offset": np.array([offset for offset, _ in images.values()], "int64"),
        "size": np.array([size for _, size in images.values()], "int64"),
        "label": np.array([next(labels[key][e] for e in LABELS if e in labels[key]) for key in images], "int32"),
    }


def _key(name: str) -> tuple[str, str]:
    """The key of a file, which is its path up to the first dot of its name, and its ending in lower case."""
    folder, file = posixpath.split(name)
    stem, dot, ending = file.partition(".")
    return posixpath.join(folder, stem), f"{dot}{ending}".lower()


def _label(content: bytes, name: str) -> int:
    """The label in a file."""
    try:
        value = json.loads(content)
    except ValueError:
        value = content[:40].decode(errors="replace")
    if isinstance(value, dict):
        value = value.get("label", value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InputError(f"{name} must have an integer label of 0 or more; it has {str(value)[:60]!r}.")
    return value
