"""WebDataset's tar shards: KEY.jpg and KEY.cls, or KEY.json with a "label", for each image."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_resnet.data import records, sequential, shards
from keras_resnet.data.dataset import Dataset, DatasetInfo, Records, Stream
from keras_resnet.data.folders import SUFFIXES
from keras_resnet.errors import InputError, counted

ENDINGS = (".tar", ".tar.gz", ".tgz")
"""Endings of shards."""


def load(pattern: str, in_order: bool = False) -> Dataset:
    """Open WebDataset shards.

    Images of local files are read by number, after each file was indexed once; those of compressed files and of other
    file systems are read in their order. The label is the integer in KEY.cls or under "label" in KEY.json.
    `classes.txt` next to the shards names the classes.

    Args:
        pattern: folder, file or pattern, as for `shards.by_split`.
        in_order: also read local files in their order.

    Raises:
        ValueError: there are no shards, a shard is damaged, or an image has no label.
    """
    splits = shards.by_split("tar", pattern, ENDINGS)
    names = shards.class_names(next(iter(splits.values())))
    necessary = any(map(sequential.is_necessary, splits.values()))
    kind, scan_shard = ("tar in order", sequential.scan_tar) if necessary else ("tar", scan)
    if necessary and names:
        known = {split: shards.lengths(paths) or [] for split, paths in splits.items()}
        if all(known.values()):
            return _dataset(pattern, names, {split: _stream(split, splits[split], known[split]) for split in splits})
    indexes = {split: records.indexed(kind, paths, scan_shard) for split, paths in splits.items()}
    labels = {split: np.concatenate([part["label"] for part in parts]) for split, parts in indexes.items()}
    if empty := next((split for split in splits if not len(labels[split])), None):
        raise InputError(f"split {empty!r} must have images; {splits[empty][0]!r} has none.")
    count = 1 + max(int(values.max()) for values in labels.values())
    names = names or tuple(map(str, range(count)))
    if count > len(names):
        raise InputError(f"{shards.CLASSES} must name the {count} classes of {pattern!r}; it names {len(names)}.")
    if necessary or in_order:
        lengths = {split: [len(part["label"]) for part in parts] for split, parts in indexes.items()}
        return _dataset(
            pattern, names, {split: _stream(split, paths, lengths[split]) for split, paths in splits.items()}
        )
    return _dataset(pattern, names, {split: _records(split, splits[split], indexes[split]) for split in splits})


def _dataset(pattern: str, names: Sequence[str], examples: dict[str, Records] | dict[str, Stream]) -> Dataset:
    counts = {split: part.count for split, part in examples.items()}
    return Dataset(DatasetInfo(f"tar:{pattern}", tuple(names), None, counts), examples.__getitem__)


def _stream(split: str, paths: Sequence[str], lengths: Sequence[int]) -> Stream:
    """The images of a split in their order."""
    return sequential.stream(f"tar/{split}", paths, lengths, sequential.tar_images)


def _records(split: str, paths: Sequence[str], indexes: Sequence[dict[str, np.ndarray]]) -> Records:
    """The images of a split by their number."""
    labels = np.concatenate([part["label"] for part in indexes])

    def parse(contents: tf.Tensor, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return contents, tf.gather(tf.constant(labels), numbers)

    return Records(f"tar/{split}", records.Extents.of(paths, indexes), parse, np.arange(len(labels)))


def scan(path: str) -> dict[str, np.ndarray]:
    """Return `offset` i64[N], `size` i64[N] and `label` i32[N] of the images in a tar file.

    Raises:
        ValueError: the file is not a whole tar file, is compressed, has files but no images, or an image has no label
            or a sample several images.
    """
    samples: dict[str, sequential.Sample] = {}
    files = end = 0
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                end = member.offset_data + (member.size if member.isreg() else 0)
                if not member.isreg():
                    continue
                files += 1
                key, ending = sequential.split_key(member.name)
                sample = samples.setdefault(key, sequential.Sample(key, path))
                if ending.endswith(SUFFIXES):
                    sample.add(ending, (member.offset_data, member.size))
                elif ending in sequential.LABELS and (content := archive.extractfile(member)):
                    sample.add(ending, content.read())
    except (tarfile.TarError, EOFError) as error:
        raise InputError(f"{path!r} must be a whole tar file without compression: {error}.") from error
    if os.path.getsize(path) < end + tarfile.BLOCKSIZE:
        raise InputError(f"{path!r} must be a whole tar file; its end is missing.")
    found = [sample for sample in samples.values() if sample.images]
    if files and not found:
        raise InputError(f"{path!r} must have images; it has {counted(files, 'file')} and no image.")
    extents = [sample.image() for sample in found]
    return {
        "offset": np.array([offset for offset, _ in extents], "int64"),
        "size": np.array([size for _, size in extents], "int64"),
        "label": np.array([sample.label() for sample in found], "int32"),
    }
