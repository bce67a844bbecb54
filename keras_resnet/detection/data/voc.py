"""Folders in the layout of PASCAL VOC: `Annotations/*.xml`, `JPEGImages/` and `ImageSets/Main/SPLIT.txt`."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from keras_resnet.data.dataset import DatasetInfo, log_similar
from keras_resnet.data.finder import FileFinder, read_text
from keras_resnet.data.folders import SUFFIXES, is_hidden
from keras_resnet.detection.data.annotations import (
    Annotation,
    AnnotationCollector,
    DetectionDataset,
    logger,
    parse_flag,
    parse_size,
)
from keras_resnet.errors import InputError, counted, listed
from keras_resnet.ops.masks import ObjectMask

LISTS = "ImageSets/Main"
"""Folder of the lists of images, one for each split."""

SIDES = ("xmin", "ymin", "xmax", "ymax")
OBJECTS = "SegmentationObject"
"""Folder of the PNGs that number the objects of each image in the order of its annotation."""

VOID = 255
"""Number of the pixels between objects."""

NO_BOX: tuple[float, ...] = (float("nan"),) * 4
"""Sides of an object without a `bndbox`."""


class VocObject(NamedTuple):
    """An object of an annotation file: its class, box in pixels from 1 with the last included, and difficulty."""

    class_name: str
    left_top_right_bottom: tuple[float, ...]
    difficult: bool


class VocFile(NamedTuple):
    """An annotation file: its path, the height and width that it declares, if any, and its objects."""

    path: pathlib.Path
    declared_size: tuple[int, int] | None
    objects: list[VocObject]


@dataclasses.dataclass(frozen=True)
class _Folder:
    """A folder in VOC's layout, and what has been found in it."""

    root: pathlib.Path
    finder: FileFinder = dataclasses.field(default_factory=FileFinder)

    def annotation(self, name: str) -> pathlib.Path | None:
        """The annotation file of an image."""
        return self.finder.find(self.root / "Annotations" / f"{name}.xml")

    def name_of(self, line: str) -> str:
        """The name of an image in a line of a list, which may be that of its file, with or without folders."""
        name = line
        if self.annotation(name) is None:
            name = line.replace("\\", "/").rsplit("/", 1)[-1]
            stem, dot, suffix = name.rpartition(".")
            if dot + suffix.lower() in (*SUFFIXES, ".xml"):
                name = stem
        return name if self.annotation(name) else line

    def image_lists(self) -> dict[str, list[str]]:
        """Split -> names of its images."""
        folder = self.root / LISTS
        lists = {}
        for path in sorted(path for path in folder.iterdir() if path.suffix.lower() == ".txt"):
            if is_hidden(path.name):
                continue
            lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
            if lines and not self._is_class_list(lines):
                lists[path.stem] = [self.name_of(line) for line in lines]
        segmentation = self.root / "ImageSets/Segmentation"
        if (self.root / OBJECTS).is_dir() and segmentation.is_dir():
            for path in sorted(segmentation.glob("*.txt")):
                lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
                lists[f"segmentation_{path.stem}"] = [self.name_of(line) for line in lines]
        if not lists:
            raise InputError(f"{str(folder)!r} must hold lists of image names, one *.txt for each split; it has none.")
        return lists

    def _is_class_list(self, lines: Sequence[str]) -> bool:
        """Whether lines tell which images show a class, as in aeroplane_train.txt: they end in -1, 0 or 1.

        So may names with spaces, whose lines are names as a whole.
        """
        return all(re.search(r"\s(-1|0|1)$", line) for line in lines) and not any(map(self.annotation, lines))

    def read(self, name: str) -> VocFile:
        """Read the annotation file of an image.

        Raises:
            ValueError: the file is missing or not in VOC's format.
        """
        path = self.annotation(name)
        if path is None:
            missing = self.root / "Annotations" / f"{name}.xml"
            raise InputError(f"an image list names {name!r}, but there is no file {str(missing)!r}.")
        return read_file(path)


def open_folder(root: pathlib.Path, class_names: Sequence[str] = (), exif: bool = False) -> DetectionDataset:
    """Open a folder in VOC's layout; the objects have masks if it has `SegmentationObject/`.

    Args:
        root: the folder.
        class_names: classes in the order of their labels; by default all that occur, sorted.
        exif: whether images are rotated by their EXIF orientation.

    Raises:
        ValueError: there are no image lists, or an annotation cannot be read.
    """
    folder = _Folder(root)
    lists = folder.image_lists()
    if not class_names:
        names = sorted({name for names in lists.values() for name in names})
        class_names = sorted({obj.class_name for name in names for obj in folder.read(name).objects})
        if not class_names:
            raise InputError(f"no annotation under {str(root / 'Annotations')!r} has a box.")
    classes = tuple(class_names)
    log_similar(str(root), classes)

    @functools.cache
    def read(split: str) -> list[Annotation]:
        collector = AnnotationCollector(f"{root}, split {split}", exif)
        folder = _Folder(root)
        surplus: list[str] = []
        for name in lists[split]:
            _add(collector, folder, name, classes, surplus)
        if surplus:
            count = counted(len(surplus), "mask has", "masks have")
            logger.warning("%s: %s more objects than the XML: %s", collector.source, count, listed(surplus))
        return collector.finish()

    splits = {split: len(names) for split, names in lists.items()}
    return DetectionDataset(DatasetInfo(f"folder:{root}", classes, None, splits), read, layout=f"PASCAL VOC ({LISTS})")


def read_file(path: pathlib.Path) -> VocFile:
    """Read an annotation file in VOC's format.

    Raises:
        ValueError: the file is not XML, or has a size or an object that is none.
    """
    try:
        root = ElementTree.fromstring(path.read_bytes().lstrip())
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"annotation {str(path)!r} is not XML: {error}.") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]  # without the namespace
    height, width = root.findtext("size/height"), root.findtext("size/width")
    try:
        declared_size = parse_size(height, width)
    except ValueError:
        raise InputError(f"annotation {str(path)!r} has a size without two numbers: {height}, {width}.") from None
    return VocFile(path, declared_size, [_object(element, path) for element in root.iter("object")])


def _object(element: ElementTree.Element, path: pathlib.Path) -> VocObject:
    """Read an <object>; one without a <bndbox>, such as a rotated box, has `NO_BOX`."""
    name = (element.findtext("name") or "").strip()
    if not name:
        raise InputError(f"annotation {str(path)!r} has an object without a name.")
    box = element.find("bndbox")
    sides: tuple[float, ...] = NO_BOX
    if box is not None:
        texts = {side: box.findtext(side) or "" for side in SIDES}
        try:
            sides = tuple(map(float, texts.values()))
        except ValueError:
            raise InputError(
                f"annotation {str(path)!r} has an object without four numbers in its bndbox: "
                f"{', '.join(f'{side} {text.strip()!r}' for side, text in texts.items())}."
            ) from None
    difficult = element.findtext("difficult")
    try:
        return VocObject(name, sides, parse_flag(difficult))
    except ValueError:
        raise InputError(
            f"annotation {str(path)!r} has an object whose difficult is {difficult!r}; allowed are 0 and 1."
        ) from None


def _numbers(colors: np.ndarray, path: pathlib.Path) -> np.ndarray:
    """The numbers of colors u8[H,W,3] in VOC's palette, as tools write them that have no palettes."""
    codes = colors.astype("int64") @ (1 << 16, 1 << 8, 1)
    palette = _palette()
    order = np.argsort(palette)
    numbers = order[np.searchsorted(palette, codes, sorter=order).clip(max=len(palette) - 1)]
    if (wrong := palette[numbers] != codes).any():
        color = tuple(colors[wrong][0].tolist())
        raise InputError(
            f"mask {str(path)!r} must have a number, or its color in VOC's palette, in each pixel; got {color}."
        )
    return numbers


def _palette() -> np.ndarray:
    """VOC's colors as 65536 red + 256 green + blue, i64[256]."""
    numbers = np.arange(256)
    palette = np.zeros(256, "int64")
    for bit in range(8):  # the bits of a number are the highest ones of red, green and blue in turn
        palette |= ((numbers >> bit) & 1) << (23 - 8 * (bit % 3) - bit // 3)
    return palette


def _masks(path: pathlib.Path, count: int, surplus: list[str]) -> list[ObjectMask | None]:
    """The masks of an image's objects, from a PNG of their numbers, from 1, or of VOC's colors of them; 255 is void."""
    if not path.is_file():
        return [None] * count
    try:
        with Image.open(path) as image:
            if image.mode in ("RGB", "RGBA"):
                numbers = _numbers(np.asarray(image.convert("RGB")), path)
            elif image.mode in ("P", "L"):
                numbers = np.asarray(image)
            else:
                raise InputError(f"mask {str(path)!r} must have a number in each pixel; its mode is {image.mode}.")
    except OSError as error:
        raise InputError(f"mask {str(path)!r} cannot be read: {error}.") from error
    if numbers.max(initial=0, where=numbers != VOID) > count:
        surplus.append(path.name)
    found = (numbers == number for number in range(1, count + 1))
    return [ObjectMask.of_pixels(mask) if mask.any() else None for mask in found]


def _add(
    collector: AnnotationCollector, folder: _Folder, name: str, class_names: tuple[str, ...], surplus: list[str]
) -> None:
    file = folder.read(name)
    images = folder.root / "JPEGImages"
    path = folder.finder.find_image(images, name)
    if path is None:
        raise InputError(f"an image list names {name!r}, but {str(images)!r} has no such image.")
    objects = folder.root / OBJECTS
    masks = _masks(objects / f"{name}.png", len(file.objects), surplus) if objects.is_dir() else None
    add(collector, file, path, name, class_names, masks)


def add(
    collector: AnnotationCollector,
    file: VocFile,
    path: pathlib.Path,
    id: str,
    class_names: tuple[str, ...],
    masks: Sequence[ObjectMask | None] | None = None,
) -> None:
    """Add an image with the objects of its annotation file.

    Args:
        collector: where to add it.
        file: the annotation file.
        path: the image.
        id: name of the image.
        class_names: names of the classes.
        masks: those of the objects; see `Annotation`.

    Raises:
        ValueError: an object has another class, or as for `AnnotationCollector.add`.
    """
    for obj in file.objects:
        if obj.class_name not in class_names:
            raise InputError(
                f"annotation {str(file.path)!r} has class {obj.class_name!r}; allowed are {', '.join(class_names)}."
            )
    sides = np.array([obj.left_top_right_bottom for obj in file.objects], "float64").reshape(-1, 4)
    left, top, right, bottom = sides.T
    collector.add(
        path,
        id,
        # Pixels are counted from 1, the last one included.
        corners=np.stack([top - 1, left - 1, bottom, right], -1),
        labels=np.array([class_names.index(obj.class_name) for obj in file.objects], "int32"),
        valid=(right > left) & (bottom > top),
        difficult=np.array([obj.difficult for obj in file.objects], bool),
        masks=masks,
        declared_size=file.declared_size,
    )
