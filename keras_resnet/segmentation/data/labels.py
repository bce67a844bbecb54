"""What a user says of the classes of a data set: their names, their values or colors in masks, what to ignore."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

from keras_resnet.data.finder import read_text
from keras_resnet.errors import InputError, did_you_mean
from keras_resnet.segmentation.data import colors
from keras_resnet.segmentation.data.masks import MaskFormat


@dataclasses.dataclass(frozen=True)
class LabelOptions:
    """Classes and what they are in masks; defaults stand for what the data set says.

    Attributes:
        class_names: names of the classes in the order of their labels.
        label_values: value of each class in masks.
        ignore_labels: values of masks to ignore, in addition to 255.
        label_colors: file with a table of the colors of masks.
    """

    class_names: tuple[str, ...] = ()
    label_values: tuple[int, ...] = ()
    ignore_labels: tuple[int, ...] = ()
    label_colors: str = ""

    def format(self, classes: int, values: tuple[int, ...] = (), ignored: tuple[int, ...] = ()) -> MaskFormat:
        """Return the format of masks without colors.

        Args:
            classes: number of classes.
            values: value of each class that the layout prescribes.
            ignored: values that the layout ignores.

        Raises:
            ValueError: the values are not those of the classes.
        """
        if self.label_values:
            values, ignored = self.label_values, ()
        return MaskFormat(classes, values, tuple(dict.fromkeys((*ignored, *self.ignore_labels))))

    def of_table(
        self, table: pathlib.Path, class_names: tuple[str, ...] = ()
    ) -> tuple[tuple[str, ...], MaskFormat, np.ndarray]:
        """Return classes, the format of masks and a palette u8[K,3] from a table of colors.

        Args:
            table: the file; see `colors.read_table`.
            class_names: names of some of its classes, in the order of their labels; colors of the others are ignored.

        Raises:
            ValueError: the table cannot be read, lacks a class, or values are given too.
        """
        if self.label_values or self.ignore_labels:
            given = "label_values" if self.label_values else "ignore_labels"
            raise InputError(f"{given} cannot be combined with the table of colors {str(table)!r}.")
        names, palette, ignored = colors.read_table(table)
        for name in class_names:
            if name not in names:
                raise InputError(
                    f"label_colors file {str(table)!r} must have the color of each class; it has none of {name!r}"
                    f"{did_you_mean(name, names)}."
                )
        if class_names:
            chosen = [names.index(name) for name in class_names]
            others = [index for index in range(len(names)) if index not in chosen]
            names, palette, ignored = class_names, palette[chosen], np.concatenate([palette[others], ignored])
        return names, MaskFormat(len(names), colors=palette, ignored_colors=ignored), palette


def read_names(path: pathlib.Path) -> tuple[str, ...]:
    """Return the lines of a file of class names; none if there is no such file.

    Raises:
        ValueError: a name occurs twice.
    """
    if not path.is_file():
        return ()
    names = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"file {str(path)!r} must name each class once; it names {twice!r} twice.")
    return names
