"""Lists that name the images of each split, such as `train.txt` and `val.txt`, in folders that do not separate them."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from keras_resnet.data.dataset import SPLIT_NAMES
from keras_resnet.data.finder import read_text, spelling
from keras_resnet.errors import listed
from keras_resnet.segmentation.data.pairing import Pair, order

FOLDERS = ("", "splits", "lists", "ImageSets", "annotations")
"""Folders in which lists are found; the first one with a list is used."""

NAMES = (*(name for names in SPLIT_NAMES.values() for name in names), "trainval")
"""Names of lists."""


def find(root: pathlib.Path, pairs: Sequence[Pair]) -> tuple[dict[str, list[Pair]], str]:
    """Divide pairs by the lists of a folder.

    A line is the name or the path of an image, with or without ending; what follows it is not read. Images that no list
    names are those of training if there is no list of training.

    Args:
        root: the folder.
        pairs: all pairs of the folder.

    Returns:
        Split -> its pairs, empty without lists; and what the lists name in vain, in words.
    """
    by_name: dict[str, Pair] = {}
    for pair in pairs:
        path = pathlib.PurePath(pair.image)
        for name in (pair.name, path.stem, path.name, path.relative_to(root).as_posix()):
            by_name.setdefault(spelling(name), pair)
    splits: dict[str, list[Pair]] = {}
    missing: list[str] = []
    for path in _files(root):
        lines = [line.strip() for line in read_text(path).splitlines() if line.strip() and not line.startswith("#")]
        named = {line: by_name.get(spelling(line)) or by_name.get(spelling(line.split()[0])) for line in lines}
        if found := list(dict.fromkeys(pair for pair in named.values() if pair)):
            splits[path.stem.lower()] = found
            missing += [f"{line.split()[0]!r} of {path.name}" for line, pair in named.items() if not pair]
    if splits and not {"train", "training", "trainval"} & splits.keys():
        others = {pair for found in splits.values() for pair in found}
        splits = {"train": [pair for pair in pairs if pair not in others], **splits}
    return {split: splits[split] for split in sorted(splits, key=order) if splits[split]}, listed(missing, 3)


def _files(root: pathlib.Path) -> list[pathlib.Path]:
    for folder in FOLDERS:
        paths = sorted((root / folder).glob("*.txt")) if (root / folder).is_dir() else []
        if found := [path for path in paths if path.stem.lower() in NAMES]:
            return found
    return []
