"""Folders in the layout of ADE20K's scene parsing challenge: `images/training`, `annotations/training`, ...

The values of the masks are 0 for other objects, which are ignored, and 1 to 150 for the classes. Their names are those
of `objectInfo150.txt`, which comes with the images.
"""

from __future__ import annotations

import dataclasses
import pathlib

from keras_resnet.data.finder import read_text
from keras_resnet.errors import InputError
from keras_resnet.segmentation.data import folders
from keras_resnet.segmentation.data.examples import SegmentationDataset
from keras_resnet.segmentation.data.labels import LabelOptions, find_names

CLASSES = 150
NAMES = "objectInfo150.txt"
"""A table whose first column is the value of a class and whose last one its names, the usual one first."""


def open_folder(root: pathlib.Path, options: LabelOptions) -> SegmentationDataset:
    """Open a folder in the layout of ADE20K.

    Args:
        root: the folder.
        options: names of the classes, by default those of `objectInfo150.txt` or `classes.txt`; values by default
            from 1 on, with 0 ignored.

    Raises:
        ValueError: the folder has another layout, or the table of names is damaged.
    """
    names = options.class_names or _names(root / NAMES) or find_names(root)
    names = names or tuple(f"class {number}" for number in range(1, CLASSES + 1))
    if not options.label_values:
        options = dataclasses.replace(
            options,
            label_values=tuple(range(1, len(names) + 1)),
            ignore_labels=tuple(dict.fromkeys((0, *options.ignore_labels))),
        )
    dataset = folders.open_folder(root, dataclasses.replace(options, class_names=names))
    return dataclasses.replace(dataset, info=dataclasses.replace(dataset.info, name=f"ade20k:{root}"))


def _names(path: pathlib.Path) -> tuple[str, ...]:
    """The first name of each class in a table; none if there is no table."""
    if not path.is_file():
        return ()
    rows = [line.split("\t") for line in read_text(path).splitlines() if line.strip()][1:]
    for number, row in enumerate(rows, 1):
        if row[0].strip() != str(number):
            raise InputError(f"file {str(path)!r} must list the classes from 1 on, one a line; got {row[0]!r}.")
    names = [row[-1].split(",")[0].strip() for row in rows]
    # Some classes have the same usual name.
    return tuple(name if names.count(name) == 1 else f"{name} {number}" for number, name in enumerate(names, 1))
