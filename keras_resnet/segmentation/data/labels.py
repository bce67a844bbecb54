"""What a user says of the classes of a data set: their names, their values or colors in masks, what to ignore."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from keras_resnet.data.finder import read_text
from keras_resnet.errors import InputError, did_you_mean
from keras_resnet.segmentation.data import colors, masks
from keras_resnet.segmentation.data.masks import MaskFormat

NAMES_FILES = ("classes.txt", "class_names.txt", "labels.txt", "codes.txt")
"""Files that name the classes in the order of their labels, one a line; the first one that a folder has is read."""

ROBOFLOW = "_classes.csv"
"""Table of Roboflow's exports in the folder of each split: the value and the name of each class."""


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

    def table_of(self, root: pathlib.Path) -> pathlib.Path | None:
        """Return the table of the colors of masks: the one given, or else that of a folder; None without any."""
        if self.label_colors:
            return pathlib.Path(self.label_colors)
        return next((root / name for name in colors.TABLES if (root / name).is_file()), None)

    def of_table(
        self, path: pathlib.Path, class_names: tuple[str, ...] = (), mask_files: Sequence[str] = ()
    ) -> tuple[tuple[str, ...], MaskFormat, np.ndarray]:
        """Return classes, the format of masks and a palette u8[K,3] from a table of colors.

        Args:
            path: the file; see `colors.read_table`.
            class_names: names of some of its classes, in the order of their labels; pixels of the others are ignored.
            mask_files: the masks. If their values are the numbers of the lines instead of colors, only names and
                palette of the table are used.

        Raises:
            ValueError: the table cannot be read, lacks a class, or values are given too.
        """
        if self.label_values or self.ignore_labels:
            given = "label_values" if self.label_values else "ignore_labels"
            raise InputError(f"{given} cannot be combined with the table of colors {str(path)!r}.")
        table = colors.read_table(path)
        for name in class_names:
            if name not in table.names:
                raise InputError(
                    f"label_colors file {str(path)!r} must have the color of each class; it has none of {name!r}"
                    f"{did_you_mean(name, table.names)}."
                )
        rows = [table.names.index(name) for name in class_names] or list(range(len(table.names)))
        others = [row for row in range(len(table.colors)) if row not in rows]
        names, palette, ignored = tuple(table.names[row] for row in rows), table.colors[rows], table.colors[others]
        if masks.are_indices(mask_files, table.colors):
            values, ignored_values = (tuple(table.values[row] for row in part) for part in (rows, others))
            return names, MaskFormat(len(names), values, ignored_values), palette
        return names, MaskFormat(len(names), colors=palette, ignored_colors=ignored), palette


def find_names(root: pathlib.Path) -> tuple[str, ...]:
    """Return the names of the classes that a folder's files tell, none without such files.

    Raises:
        ValueError: a file is damaged, or a name occurs twice.
    """
    for name in NAMES_FILES:
        if names := read_names(root / name):
            return names
    tables = sorted((*root.glob(ROBOFLOW), *root.glob(f"*/{ROBOFLOW}")), key=lambda path: (path.parent != root, path))
    return _read_roboflow(tables[0]) if tables else ()


def _read_roboflow(path: pathlib.Path) -> tuple[str, ...]:
    rows = [line.split(",", 1) for line in read_text(path).splitlines() if line.strip()][1:]
    values = [row[0].strip() for row in rows]
    if not rows or values != list(map(str, range(len(rows)))) or min(map(len, rows)) < 2:
        raise InputError(
            f"file {str(path)!r} must have a header and the lines 0, NAME and 1, NAME and so on; it has {rows}."
        )
    return _checked(path, tuple(row[1].strip() for row in rows))


def read_names(path: pathlib.Path) -> tuple[str, ...]:
    """Return the lines of a file of class names; none if there is no such file.

    Raises:
        ValueError: a name occurs twice.
    """
    if not path.is_file():
        return ()
    names = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    names = names[1:] if names[:1] == ("__ignore__",) else names  # labelme's value -1
    return _checked(path, names)


def _checked(path: pathlib.Path, names: tuple[str, ...]) -> tuple[str, ...]:
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"file {str(path)!r} must name each class once; it names {twice!r} twice.")
    return names
