"""Images with a label for each pixel, and the data set that they belong to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from keras_resnet.data.dataset import DatasetInfo, split_range
from keras_resnet.errors import InputError
from keras_resnet.segmentation.choices import IGNORE_LABEL

MAX_CLASSES = IGNORE_LABEL
"""Largest number of classes: labels are bytes."""


@dataclasses.dataclass(frozen=True)
class Example:
    """An image and the labels of its pixels.

    Attributes:
        path: the image file.
        name: name of the image in the data set, without an ending, unique in its split.
        read_label: returns the class of each pixel from 0 on, or `IGNORE_LABEL`: u8[H,W].
        mask: the file that holds the labels, for error messages.
    """

    path: str
    name: str
    read_label: Callable[[], np.ndarray]
    mask: str


@dataclasses.dataclass(frozen=True)
class SegmentationInfo(DatasetInfo):
    """Metadata of a data set whose pixels have classes.

    Attributes:
        colors: color of each class in pictures, such as "#804080".
    """

    colors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < len(self.class_names) <= MAX_CLASSES:
            raise InputError(
                f"dataset must have from 1 to {MAX_CLASSES} classes; {self.name!r} has {len(self.class_names)}."
            )

    @property
    def palette(self) -> np.ndarray:
        """The colors as u8[K,3]."""
        return np.array([list(bytes.fromhex(color[1:])) for color in self.colors], "uint8")


@dataclasses.dataclass(frozen=True)
class SegmentationDataset:
    """A data set of images whose pixels have classes.

    Attributes:
        info: classes, their colors and splits.
        read: split -> its examples.
        is_drawn: whether labels are drawn from annotations, which takes longer than reading masks.
    """

    info: SegmentationInfo
    read: Callable[[str], Sequence[Example]]
    is_drawn: bool = False

    def examples(self, split: str, argument: str = "split") -> list[Example]:
        """Return the examples of a split, of a part such as "train[:90%]", or of several joined by "+".

        Args:
            split: the split.
            argument: name of the caller's argument, for error messages.

        Raises:
            ValueError: the split does not exist, or the part is empty.
        """
        examples: list[Example] = []
        for part in split.split("+"):
            name, start, stop = split_range(part, self.info.splits, argument)
            examples += self.read(name)[start:stop]
        return examples
