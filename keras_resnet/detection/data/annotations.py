"""Annotated images: what a detection data set knows of each image, and the data set itself."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable

import numpy as np
from PIL import Image

from keras_resnet.data.dataset import DatasetInfo, split_range
from keras_resnet.errors import InputError

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Annotation:
    """An image file and the objects in the image.

    Attributes:
        path: the image file.
        id: name or number of the image in the data set.
        size: height and width in pixels.
        boxes: f32[n,4], top, left, bottom, right in [0, 1].
        labels: i32[n], from 0.
        difficult: bool[n]: objects that PASCAL VOC's evaluation neither expects nor counts as wrong.
        crowd: bool[n]: boxes of groups, which COCO's evaluation treats in the same way.
        areas: f32[n] in px^2: of the object if the data set has it, else of the box.
    """

    path: str
    id: str | int
    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray

    @property
    def is_portrait(self) -> bool:
        """Whether the image is higher than wide."""
        return self.size[0] > self.size[1]


@dataclasses.dataclass(frozen=True)
class DetectionDataset:
    """A detection data set.

    Attributes:
        info: classes and splits.
        read: split -> its annotations.
        categories: COCO's category id of each class; empty if the data set has no such ids.
    """

    info: DatasetInfo
    read: Callable[[str], list[Annotation]]
    categories: tuple[int, ...] = ()

    def annotations(self, split: str) -> list[Annotation]:
        """Return the annotations of a split, of a part such as "train[:90%]", or of several joined by "+".

        Raises:
            ValueError: the split does not exist, the part is empty, or an annotation cannot be read.
        """
        annotations = []
        for part in split.split("+"):
            name, start, stop = split_range(part, self.info.splits)
            annotations += self.read(name)[start:stop]
        return annotations


class AnnotationCollector:
    """Build the annotations of a split; boxes without an area inside their image are dropped and counted.

    Args:
        source: the split in words, for errors and warnings.
    """

    def __init__(self, source: str):
        self.source = source
        self.annotations: list[Annotation] = []
        self.dropped = 0

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
        size: tuple[int, int] | None = None,
    ) -> None:
        """Add an image.

        Args:
            path: the image file.
            id: name or number of the image.
            corners: f32[n,4], top, left, bottom, right in pixels; clipped to the image.
            labels: i32[n], from 0.
            valid: bool[n]; boxes that are not are dropped.
            difficult: bool[n]; by default none is.
            crowd: bool[n]; by default none is.
            areas: f32[n] of the objects in px^2; by default those of the clipped boxes.
            size: height and width in pixels; by default read from the file.

        Raises:
            ValueError: the image cannot be read.
        """
        size = size or image_size(path)
        scale = np.array([*size, *size], "float32")
        clipped = np.clip(corners, 0, scale)
        kept = valid & (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
        self.dropped += int(np.sum(~kept))
        no_flags = np.zeros(len(labels), bool)
        if areas is None:
            areas = np.prod(clipped[:, 2:] - clipped[:, :2], -1)
        self.annotations.append(
            Annotation(
                str(path),
                id,
                size,
                boxes=(clipped / scale)[kept],
                labels=labels[kept],
                difficult=(no_flags if difficult is None else difficult)[kept],
                crowd=(no_flags if crowd is None else crowd)[kept],
                areas=areas[kept].astype("float32"),
            )
        )

    def finish(self) -> list[Annotation]:
        """Return the annotations; log how many boxes were dropped.

        Raises:
            ValueError: no image has a box.
        """
        if not any(len(annotation.labels) for annotation in self.annotations):
            raise InputError(
                f"{self.source} must have at least one box; none of its {len(self.annotations)} images has."
            )
        if self.dropped:
            logger.warning("%s: dropped %d boxes that are empty or outside their image", self.source, self.dropped)
        return self.annotations


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """Read the height and width of an image in pixels from its header.

    Raises:
        ValueError: the image cannot be read.
    """
    try:
        with Image.open(path) as file:
            return file.height, file.width
    except OSError as error:
        raise InputError(f"image {os.fspath(path)!r} cannot be read: {error}.") from error
