"""Images with one class and the boxes of its objects, and the data set that they belong to."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence

import numpy as np

from keras_resnet.data import finder
from keras_resnet.data.dataset import DatasetInfo, split_range
from keras_resnet.errors import InputError, counted

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Example:
    """An image file, its class, and the boxes of the objects of this class.

    Attributes:
        path: the image file.
        id: name or number of the image in the data set.
        size: height and width in pixels as the annotation has them; None if it does not have them.
        label: the class, from 0.
        boxes: f64[n,4], top, left, bottom, right in continuous pixel coordinates, as annotated: they may extend beyond
            the image. A box of pixels with the last one included has right = xmax + 1.
        blacklisted: whether the image is left out of localization errors.
    """

    path: str
    id: str | int
    size: tuple[int, int] | None
    label: int
    boxes: np.ndarray
    blacklisted: bool = False

    def image_size(self, exif: bool = False) -> tuple[int, int]:
        """Return height and width, from the image's header if the annotation does not have them.

        Raises:
            ValueError: the image cannot be read.
        """
        return self.size or finder.image_size(self.path, exif)


@dataclasses.dataclass(frozen=True)
class LocalizationDataset:
    """A data set of images with one class each.

    Attributes:
        info: classes and splits, with the number of images that are annotated.
        read: split -> its examples, with None for images that are left out.
        left_out: why these images are left out, for the log.
    """

    info: DatasetInfo
    read: Callable[[str], Sequence[Example | None]]
    left_out: str = "without a box"

    def examples(self, split: str, argument: str = "split") -> list[Example]:
        """Return the examples of a split, of a part such as "train[:90%]", or of several joined by "+".

        Args:
            split: the split.
            argument: name of the caller's argument, for error messages.

        Raises:
            ValueError: the split does not exist, the part is empty, or an annotation cannot be read.
        """
        found: list[Example | None] = []
        for part in split.split("+"):
            name, start, stop = split_range(part, self.info.splits, argument)
            found += self.read(name)[start:stop]
        examples = [example for example in found if example is not None]
        if not examples:
            raise InputError(f"{argument} {split!r} must have images to use; all {len(found)} are {self.left_out}.")
        if len(examples) < len(found):
            left_out = counted(len(found) - len(examples), "image")
            logger.warning("%s, split %s: left out %s %s", self.info.name, split, left_out, self.left_out)
        return examples


def padded_boxes(examples: Sequence[Example], most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes of all examples in a row, and where those of each begin.

    Args:
        examples: the examples.
        most: boxes of an example that are kept; of more, the largest.

    Returns:
        (f32[total,4], i64[N + 1]): those of example i are between entries i and i + 1.
    """
    kept = [largest(example.boxes, most) for example in examples]
    starts = np.cumsum([0, *map(len, kept)])
    return np.concatenate([np.zeros((0, 4)), *kept]).astype("float32"), starts


def areas(boxes: np.ndarray) -> np.ndarray:
    """Return the areas of boxes f64[n,4] in px^2: f64[n]."""
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), -1)


def largest(boxes: np.ndarray, most: int) -> np.ndarray:
    """Return at most `most` of some boxes f64[n,4]: the largest ones, in their order."""
    if len(boxes) <= most:
        return boxes
    return boxes[np.sort(np.argsort(-areas(boxes), kind="stable")[:most])]
