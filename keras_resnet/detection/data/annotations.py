"""Annotated images: what a detection data set knows of each image, and the data set itself."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import os
from collections.abc import Callable, Sequence

import numpy as np

from keras_resnet.data.dataset import DatasetInfo, split_range
from keras_resnet.data.finder import image_size
from keras_resnet.errors import InputError, counted, listed
from keras_resnet.ops.masks import ObjectMask

logger = logging.getLogger(__name__)

FLAGS = dict.fromkeys(("1", "true", "t", "yes", "y"), True) | dict.fromkeys(
    ("", "0", "false", "f", "no", "n", "none", "null", "unspecified", "unknown"), False
)
"""Values of flags such as VOC's `difficult`, in lower case; other numbers than 0 are true too."""

BEYOND = 0.1
"""Fraction of the image by which boxes may end beyond it, and of the boxes that may, without a warning."""


@dataclasses.dataclass(frozen=True)
class Annotation:
    """An image file and the objects in the image.

    Attributes:
        path: the image file.
        id: name or number of the image in the data set.
        size: height and width in pixels.
        boxes: f64[n,4], top, left, bottom, right in pixels, as annotated: they may extend beyond the image.
        labels: i32[n], from 0.
        difficult: bool[n]: objects that PASCAL VOC's evaluation neither expects nor counts as wrong.
        crowd: bool[n]: boxes of groups, which COCO's evaluation treats in the same way.
        areas: f64[n] in px^2: of the object if the data set has it, else of the box.
        extents: f64[n,2], height and width as annotated, from which those of `boxes` may differ by rounding; None for
            those of `boxes`.
        masks: n masks of the image's size; None in place of the mask of an object that has none, and None for data
            without masks.
    """

    path: str
    id: str | int
    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    extents: np.ndarray | None = None
    masks: tuple[ObjectMask | None, ...] | None = None

    @property
    def is_portrait(self) -> bool:
        """Whether the image is higher than wide."""
        return self.size[0] > self.size[1]

    def clipped_boxes(self) -> np.ndarray:
        """Return the parts of the boxes inside the image, f64[n,4] in pixels."""
        return clip(self.boxes, self.size)


def clip(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the parts of boxes f64[n,4] in pixels inside an image of some height and width."""
    return np.clip(boxes, 0, np.array([*size, *size], "float64"))


@dataclasses.dataclass(frozen=True)
class DetectionDataset:
    """A detection data set.

    Attributes:
        info: classes and splits.
        read: split -> its annotations.
        categories: COCO's category id of each class; empty if the data set has no such ids.
        layout: the layout of a folder in words.
        notes: what was decided when the data set was opened, in words.
    """

    info: DatasetInfo
    read: Callable[[str], list[Annotation]]
    categories: tuple[int, ...] = ()
    layout: str = ""
    notes: tuple[str, ...] = ()

    def annotations(self, split: str, argument: str = "split") -> list[Annotation]:
        """Return the annotations of a split, of a part such as "train[:90%]", or of several joined by "+".

        Args:
            split: the split.
            argument: name of the caller's argument, for error messages.

        Raises:
            ValueError: the split does not exist, the part is empty, or an annotation cannot be read.
        """
        annotations = []
        for part in split.split("+"):
            name, start, stop = split_range(part, self.info.splits, argument)
            annotations += self.read(name)[start:stop]
        return annotations


class AnnotationCollector:
    """Build the annotations of a split; boxes without an area inside their image are dropped, counted and named.

    Args:
        source: the split in words, for errors and warnings.
        exif: whether images are rotated by their EXIF orientation.
    """

    def __init__(self, source: str, exif: bool = False):
        self.source = source
        self.exif = exif
        self.annotations: list[Annotation] = []
        self.dropped = 0
        self.dropped_from: dict[str, None] = {}

    def add(
        self,
        path: str | os.PathLike,
        id: str | int,
        corners: np.ndarray,
        labels: np.ndarray,
        valid: np.ndarray,
        *,
        difficult: np.ndarray | None = None,
        crowd: np.ndarray | None = None,
        areas: np.ndarray | None = None,
        extents: np.ndarray | None = None,
        masks: Sequence[ObjectMask | None] | None = None,
        declared_size: tuple[int, int] | None = None,
    ) -> None:
        """Add an image.

        Args:
            path: the image file.
            id: name or number of the image.
            corners: f64[n,4], top, left, bottom, right in pixels.
            labels: i32[n], from 0.
            valid: bool[n]; boxes that are not, or not finite, are dropped.
            difficult: bool[n]; by default none is.
            crowd: bool[n]; by default none is.
            areas: f64[n] of the objects in px^2; by default those of the boxes inside the image.
            extents: see `Annotation`.
            masks: see `Annotation`.
            declared_size: height and width in pixels according to the annotation, to be checked against the file.

        Raises:
            ValueError: the image has another size than declared or than a mask, or cannot be read and none is declared.
        """
        size = self._size(path, declared_size)
        for mask in masks or ():
            if mask is not None and tuple(mask.size) != size:
                raise InputError(
                    f"image {os.fspath(path)!r} has {size[0]}x{size[1]} pixels (height x width), but a mask of "
                    f"{self.source} has {mask.size[0]}x{mask.size[1]}."
                )
        clipped = clip(corners, size)
        finite = np.isfinite(corners).all(-1)
        kept = valid & finite & (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
        self.dropped += int(np.sum(~kept))
        if not kept.all():
            self.dropped_from[os.path.basename(path)] = None
        no_flags = np.zeros(len(labels), bool)
        if areas is None:
            areas = np.prod(clipped[:, 2:] - clipped[:, :2], -1)
        self.annotations.append(
            Annotation(
                str(path),
                id,
                size,
                boxes=corners[kept].astype("float64"),
                labels=labels[kept],
                difficult=(no_flags if difficult is None else difficult)[kept],
                crowd=(no_flags if crowd is None else crowd)[kept],
                areas=areas[kept].astype("float64"),
                extents=None if extents is None else extents[kept].astype("float64"),
                masks=None if masks is None else tuple(itertools.compress(masks, kept)),
            )
        )

    def _size(self, path: str | os.PathLike, declared: tuple[int, int] | None) -> tuple[int, int]:
        """The size of an image, which must be the declared one."""
        try:
            size = image_size(path, self.exif)
        except InputError:
            if declared is None:
                raise
            return declared  # the pipeline counts the file as broken, or refuses it
        if declared in (None, size):
            return size
        hint = ""
        if image_size(path, not self.exif) == declared:
            hint = "; its EXIF orientation swaps them: " + ("leave out --exif" if self.exif else "give --exif")
        raise InputError(
            f"image {os.fspath(path)!r} has {size[0]}x{size[1]} pixels (height x width), but {self.source} says "
            f"{declared[0]}x{declared[1]}{hint}."
        )

    def finish(self) -> list[Annotation]:
        """Return the annotations; log how many boxes were dropped, and of which images.

        Raises:
            ValueError: no image has a box.
        """
        if self.dropped:
            logger.warning(
                "%s: dropped %s without an area inside the image, of %s",
                self.source,
                counted(self.dropped, "box", "boxes"),
                listed(self.dropped_from),
            )
        if not any(len(annotation.labels) for annotation in self.annotations):
            count = len(self.annotations)
            images = "its only image has none" if count == 1 else f"none of its {count} images has"
            raise InputError(f"{self.source} must have at least one box; {images}.")
        self._check_units()
        return self.annotations

    def _check_units(self) -> None:
        """Refuse fractions in place of pixels, and warn of corners in place of widths and heights."""
        ends = np.concatenate([annotation.boxes[:, 2:] for annotation in self.annotations])
        if ends.max() <= 1:
            raise InputError(
                f"{self.source} must have boxes in pixels; all of them end within the first pixel, as fractions of the "
                "image do."
            )
        limits = np.concatenate([np.tile(each.size, (len(each.labels), 1)) for each in self.annotations])
        beyond = int(np.sum((ends > (1 + BEYOND) * limits).any(-1)))
        if beyond > BEYOND * len(ends):
            logger.warning(
                "%s: %s of %s end far beyond the right or bottom side of the image; COCO's bbox must be left, top, "
                "width and height, VOC's bndbox the corners",
                self.source,
                f"{beyond:,}",
                counted(len(ends), "box", "boxes"),
            )


def parse_flag(value: object) -> bool:
    """Return the truth of a flag of an annotation, such as True, 1, "0 ", "Unspecified" or "".

    Raises:
        ValueError: the value is neither true nor false.
    """
    text = "" if value is None else str(value).strip().lower()
    if text in FLAGS:
        return FLAGS[text]
    number = float(text)
    if math.isnan(number):
        raise ValueError(f"could not convert {text!r} to a flag")
    return number != 0


def parse_size(height: object, width: object) -> tuple[int, int] | None:
    """Return the height and width that an annotation declares; None if it declares none, or 0 as some tools do.

    Raises:
        ValueError: the values are no numbers.
    """
    sides = [float(str(value).strip() or 0) if value is not None else 0.0 for value in (height, width)]
    return (round(sides[0]), round(sides[1])) if min(sides) > 0 else None
