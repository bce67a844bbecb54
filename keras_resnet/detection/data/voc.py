"""Folders in the layout of PASCAL VOC: `Annotations/*.xml`, `JPEGImages/` and `ImageSets/Main/SPLIT.txt`."""

from __future__ import annotations

import functools
import pathlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_resnet.data.dataset import DatasetInfo
from keras_resnet.detection.data.annotations import Annotation, AnnotationCollector, DetectionDataset
from keras_resnet.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".bmp", ".webp")
"""Endings of image files, in the order in which they are tried."""


class VocObject(NamedTuple):
    """An object of an annotation file: its class, box in pixels from 1 with the last included, and difficulty."""

    class_name: str
    left_top_right_bottom: tuple[float, ...]
    difficult: bool


def open_folder(root: pathlib.Path, class_names: Sequence[str] = ()) -> DetectionDataset:
    """Open a folder in VOC's layout.

    Args:
        root: the folder.
        class_names: classes in the order of their labels; by default all that occur, sorted.

    Raises:
        ValueError: there are no image lists, or an annotation cannot be read.
    """
    lists = _image_lists(root / "ImageSets/Main")
    if not class_names:
        names = sorted({name for names in lists.values() for name in names})
        class_names = sorted({obj.class_name for name in names for obj in _read_objects(root, name)})
        if not class_names:
            raise InputError(f"no annotation under {str(root / 'Annotations')!r} has a box.")
    classes = tuple(class_names)

    @functools.cache
    def read(split: str) -> list[Annotation]:
        collector = AnnotationCollector(f"{root}, split {split}")
        for name in lists[split]:
            _add(collector, root, name, classes)
        return collector.finish()

    splits = {split: len(names) for split, names in lists.items()}
    return DetectionDataset(DatasetInfo(f"folder:{root}", classes, None, splits), read)


def _image_lists(folder: pathlib.Path) -> dict[str, list[str]]:
    """Split -> names of its images."""
    lists = {}
    for path in sorted(folder.glob("*.txt")):
        # Lists of a single class, such as aeroplane_train.txt, have two columns; they are not splits.
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        if lines and all(len(line) == 1 for line in lines):
            lists[path.stem] = [line[0] for line in lines]
    if not lists:
        raise InputError(f"{str(folder)!r} must hold lists of image names, one *.txt for each split; it has none.")
    return lists


def _read_objects(root: pathlib.Path, name: str) -> list[VocObject]:
    path = root / "Annotations" / f"{name}.xml"
    if not path.is_file():
        raise InputError(f"an image list names {name!r}, but there is no file {str(path)!r}.")
    try:
        tree = ElementTree.parse(path)
    except ElementTree.ParseError as error:
        raise InputError(f"annotation {str(path)!r} is not XML: {error}.") from error
    objects = []
    for element in tree.getroot().iter("object"):
        try:
            sides = tuple(float(element.findtext(f"bndbox/{side}") or "") for side in ("xmin", "ymin", "xmax", "ymax"))
            difficult = bool(int(element.findtext("difficult") or 0))
        except ValueError:
            raise InputError(f"annotation {str(path)!r} has an object without four numbers in its bndbox.") from None
        objects.append(VocObject((element.findtext("name") or "").strip(), sides, difficult))
    return objects


def _add(collector: AnnotationCollector, root: pathlib.Path, name: str, class_names: tuple[str, ...]) -> None:
    objects = _read_objects(root, name)
    images = (root / "JPEGImages" / f"{name}{suffix}" for suffix in SUFFIXES)
    path = next((path for path in images if path.is_file()), None)
    if path is None:
        raise InputError(f"an image list names {name!r}, but {str(root / 'JPEGImages')!r} has no such image.")
    for obj in objects:
        if obj.class_name not in class_names:
            file = root / "Annotations" / f"{name}.xml"
            raise InputError(
                f"annotation {str(file)!r} has class {obj.class_name!r}; allowed are {', '.join(class_names)}."
            )
    sides = np.array([obj.left_top_right_bottom for obj in objects], "float32").reshape(-1, 4)
    left, top, right, bottom = sides.T
    collector.add(
        path,
        name,
        # Pixels are counted from 1, the last one included.
        corners=np.stack([top - 1, left - 1, bottom, right], -1),
        labels=np.array([class_names.index(obj.class_name) for obj in objects], "int32"),
        valid=(right > left) & (bottom > top),
        difficult=np.array([obj.difficult for obj in objects], bool),
    )
