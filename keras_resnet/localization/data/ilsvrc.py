"""ImageNet's CLS-LOC data: the folders of ILSVRC, boxes in XML or in the CSV files of Kaggle's edition, the blacklist.

ILSVRC/Data/CLS-LOC/train/WNID/*.JPEG, val/*.JPEG             the images, also val/WNID/*.JPEG
ILSVRC/Annotations/CLS-LOC/train/WNID/*.xml, val/*.xml        boxes in PASCAL VOC's format, named by WordNet id
LOC_train_solution.csv, LOC_val_solution.csv                  the same boxes (Kaggle), which are read in seconds
ILSVRC/devkit/data/ILSVRC2015_clsloc_validation_blacklist.txt numbers of validation images
"""

from __future__ import annotations

import csv
import functools
import io
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from keras_resnet.data import folders
from keras_resnet.data.dataset import DatasetInfo
from keras_resnet.data.finder import FileFinder, read_text
from keras_resnet.detection.data import voc
from keras_resnet.errors import InputError
from keras_resnet.localization.data.examples import Example, LocalizationDataset, logger
from keras_resnet.models.predictions import imagenet_classes

IMAGES = "Data/CLS-LOC"
ANNOTATIONS = "Annotations/CLS-LOC"
SPLITS = ("train", "val")
CSV = {split: f"LOC_{split}_solution.csv" for split in SPLITS}
"""Split -> file of Kaggle's edition with its boxes."""

SYNSETS = "LOC_synset_mapping.txt"
"""File of Kaggle's edition with a class in each line: its WordNet id and its names."""

BLACKLISTS = tuple(
    f"{folder}*clsloc_validation_blacklist.txt" for folder in ("", "data/", "*devkit*/data/", "*devkit*/*/data/")
)
"""Where the list of validation images that the devkit leaves out may be."""


class _Entry(NamedTuple):
    """An image with boxes: its name without ending, its folder in train, and its boxes: text of Kaggle, or a file."""

    name: str
    folder: str
    boxes: str | pathlib.Path


class _Boxes(NamedTuple):
    """The annotation of an image: size if declared, WordNet id and box (xmin, ymin, xmax, ymax) of each object."""

    size: tuple[int, int] | None
    classes: list[str]
    sides: list[tuple[float, ...]]


def base_of(root: pathlib.Path) -> pathlib.Path | None:
    """Return the folder that holds `Data/CLS-LOC`: a folder itself or its subfolder ILSVRC; None for others."""
    return next((folder for folder in (root, root / "ILSVRC") if (folder / IMAGES).is_dir()), None)


def open_folder(root: pathlib.Path, class_names: Sequence[str] = ()) -> LocalizationDataset:
    """Open a folder in the layout of ILSVRC, with the splits "train" and "val".

    Boxes are those of Kaggle's CSV file if there is one, else those of the XML files. Training images without boxes are
    not part of "train".

    Args:
        root: the folder `ILSVRC`, or the one that holds it.
        class_names: WordNet ids of the classes to use, in the order of the labels; by default those of the folders of
            training images, sorted, without which those of `LOC_synset_mapping.txt`, or ImageNet's 1000.

    Raises:
        ValueError: there are no images or no boxes, or a CSV file or the blacklist is not in its format.
    """
    base = base_of(root)
    if base is None:
        raise InputError(f"dataset folder {str(root)!r} must have {IMAGES} or ILSVRC/{IMAGES}; it has neither.")
    places = dict.fromkeys((root, base, base.parent))
    entries = {split: _entries(base, places, split) for split in SPLITS}
    entries = {split: found for split, found in entries.items() if found}
    if not entries:
        raise InputError(
            f"dataset folder {str(root)!r} must have {ANNOTATIONS}/SPLIT/*.xml or {CSV['train']} and {CSV['val']}; "
            "it has none of them."
        )
    classes = tuple(class_names) or _class_names(base, places)
    labels = {name: label for label, name in enumerate(classes)}
    blacklist = _blacklist(places) if "val" in entries else frozenset()

    @functools.cache
    def read(split: str) -> list[Example | None]:
        images = _Images(base / IMAGES / split)
        numbers = blacklist if split == "val" else frozenset()
        return [_example(entry, images, labels, numbers) for entry in entries[split]]

    splits = {split: len(found) for split, found in entries.items()}
    info = DatasetInfo(f"folder:{root}", classes, None, splits)
    return LocalizationDataset(info, read, f"of other classes than the {len(classes)}, or without a box")


def _entries(base: pathlib.Path, places: Iterable[pathlib.Path], split: str) -> list[_Entry]:
    """The images of a split that have boxes, sorted; empty if there are no annotations or no images of it."""
    if not (base / IMAGES / split).is_dir():
        return []
    table = next((place / CSV[split] for place in places if (place / CSV[split]).is_file()), None)
    if table is not None:
        return sorted(_rows(table))
    root = base / ANNOTATIONS / split
    paths = [pathlib.Path(path) for path in folders.walk(root) if path.endswith(".xml")] if root.is_dir() else []
    return sorted(_Entry(path.stem, "" if path.parent == root else path.parent.name, path) for path in paths)


def _rows(table: pathlib.Path) -> list[_Entry]:
    """The rows of a CSV file of Kaggle's edition: ImageId,PredictionString."""
    rows = csv.DictReader(io.StringIO(read_text(table)))
    columns = ("ImageId", "PredictionString")
    if not set(columns) <= set(rows.fieldnames or ()):
        raise InputError(f"{str(table)!r} must have the columns {' and '.join(columns)}; it has {rows.fieldnames}.")
    return [_Entry(row["ImageId"].strip(), row["ImageId"].strip().split("_")[0], row[columns[1]] or "") for row in rows]


def _class_names(base: pathlib.Path, places: Iterable[pathlib.Path]) -> tuple[str, ...]:
    """The classes in the order of the labels."""
    train = base / IMAGES / "train"
    names = folders.visible(train)[0] if train.is_dir() else []
    if names:
        return tuple(names)
    table = next((place / SYNSETS for place in places if (place / SYNSETS).is_file()), None)
    if table is not None:
        return tuple(line.split()[0] for line in read_text(table).splitlines() if line.strip())
    return tuple(wnid for wnid, _ in imagenet_classes())


def _blacklist(places: Iterable[pathlib.Path]) -> frozenset[int]:
    """The numbers of the validation images that are left out of localization errors.

    Raises:
        ValueError: the file has a line that is not a number.
    """
    found = [path for place in places for pattern in BLACKLISTS for path in sorted(place.glob(pattern))]
    if not found:
        logger.warning("found no *_clsloc_validation_blacklist.txt of the devkit: all validation images are counted")
        return frozenset()
    lines = [line.strip() for line in read_text(found[-1]).splitlines() if line.strip()]
    wrong = next((line for line in lines if not re.fullmatch(r"\d+", line)), None)
    if wrong is not None:
        raise InputError(f"blacklist {str(found[-1])!r} must have the number of an image in each line; got {wrong!r}.")
    return frozenset(map(int, lines))


class _Images:
    """The images of a split, which are in one folder or in one for each class.

    Args:
        root: the folder of the split.
    """

    def __init__(self, root: pathlib.Path):
        self.root = root
        self.finder = FileFinder()

    def find(self, name: str, folders: Iterable[str]) -> pathlib.Path | None:
        """Return the file of an image; None if there is none.

        Args:
            name: name of the image, without ending.
            folders: subfolders in which it may be.
        """
        places = [self.root / folder for folder in folders]
        usual = (place / f"{name}.JPEG" for place in places)
        path = next((path for path in usual if path.is_file()), None)
        return path or next(filter(None, (self.finder.find_image(place, name) for place in places)), None)


def _example(entry: _Entry, images: _Images, labels: Mapping[str, int], blacklist: frozenset[int]) -> Example | None:
    """Read the boxes of an image; None if it has none or is of another class."""
    boxes = _kaggle(entry) if isinstance(entry.boxes, str) else _xml(entry.boxes)
    classes = set(boxes.classes)
    if len(classes) > 1:
        raise InputError(f"image {entry.name!r} must have boxes of one class; it has {', '.join(sorted(classes))}.")
    if not classes & labels.keys():
        return None
    (name,) = classes
    path = images.find(entry.name, dict.fromkeys((entry.folder, "", name)))
    if path is None:
        raise InputError(f"image {entry.name!r} has boxes, but {str(images.root)!r} has no such image.")
    left, top, right, bottom = np.array(boxes.sides, "float64").T
    valid = (right >= left) & (bottom >= top)
    # Pixels are counted from 0, the last one included.
    corners = np.stack([top, left, bottom + 1, right + 1], -1)[valid]
    number = re.search(r"(\d+)$", entry.name)
    is_blacklisted = number is not None and int(number[1]) in blacklist
    return Example(str(path), entry.name, boxes.size, labels[name], corners, is_blacklisted)


def _xml(path: pathlib.Path) -> _Boxes:
    file = voc.read_file(path)
    return _Boxes(
        file.declared_size,
        [obj.class_name for obj in file.objects],
        [obj.left_top_right_bottom for obj in file.objects],
    )


def _kaggle(entry: _Entry) -> _Boxes:
    """Read "WNID xmin ymin xmax ymax WNID ...".

    Raises:
        ValueError: the text is something else.
    """
    words = str(entry.boxes).split()
    groups = [words[start : start + 5] for start in range(0, len(words), 5)]
    try:
        sides = [tuple(map(float, group[1:])) for group in groups]
    except ValueError:
        sides = [()]
    if any(len(box) != 4 for box in sides):
        raise InputError(
            f"image {entry.name!r} must have 'WNID xmin ymin xmax ymax' for each object; got {entry.boxes!r}."
        )
    return _Boxes(None, [group[0] for group in groups], sides)
