"""What a folder of segmentation data holds, for `keras-resnet inspect`."""

from __future__ import annotations

import pathlib

import numpy as np

from keras_resnet.data.finder import image_size
from keras_resnet.errors import InputError, counted
from keras_resnet.evaluation import inspection
from keras_resnet.evaluation.inspection import Inspection
from keras_resnet.ops import codecs
from keras_resnet.segmentation import pictures as drawing
from keras_resnet.segmentation.choices import IGNORE_LABEL
from keras_resnet.segmentation.data import sources
from keras_resnet.segmentation.data.examples import Example, SegmentationDataset

SHOWN = 3
"""Masks that are wrong of which the faults are printed."""


def recognizes(root: str) -> int:
    """Return how surely a folder is one of segmentation data: 0, or 2 if it has masks or annotations to draw them."""
    return 2 if sources.layout(pathlib.Path(root)) else 0


def inspect(root: str, pictures: int = 12, seed: int = 0, exif: bool = False) -> Inspection:
    """Read all masks of a folder and decode its images.

    Args:
        root: the folder.
        pictures: most images of the contact sheet.
        seed: unused: the splits are those of the folder.
        exif: whether images are rotated by their EXIF orientation.

    Raises:
        ValueError: the folder cannot be read.
    """
    faults: list[str] = []
    with inspection.warnings() as messages:
        dataset = sources.load(f"folder:{root}")
        splits = {split: list(dataset.read(split)) for split in dataset.info.splits}
    usable: list[tuple[str, Example, np.ndarray]] = []
    wrong: list[str] = []
    names = dataset.info.class_names
    totals = {split: np.zeros(IGNORE_LABEL + 1, "int64") for split in splits}
    for split, examples in splits.items():
        for example in examples:
            try:
                label = example.read_label()
                size = image_size(example.path, exif)
                if label.shape != size:
                    raise InputError(f"mask {example.mask!r} has {label.shape} pixels, but its image has {size}.")
            except InputError as error:
                wrong.append(str(error))
                continue
            totals[split] += np.bincount(label.ravel(), minlength=IGNORE_LABEL + 1)
            usable.append((split, example, np.array(label.shape)))
    faults += wrong[:SHOWN]
    if len(wrong) > SHOWN:
        faults.append(f"{counted(len(wrong) - SHOWN, 'more mask')} like these")
    broken = inspection.undecodable([example.path for _, example, _ in usable], root, faults)
    usable = [each for each in usable if each[1].path not in broken]
    counts = {name: [int(total[label]) for total in totals.values()] for label, name in enumerate(names)}
    faults += [f"class {name!r} has no pixel" for name, numbers in counts.items() if not any(numbers)]
    ignored = sum(int(total[IGNORE_LABEL]) for total in totals.values())
    pixels = sum(int(total.sum()) for total in totals.values())
    facts = {"splits": "; ".join(f"{split} {counted(len(each), 'image')}" for split, each in splits.items())}
    if usable:
        facts["images"] = inspection.sizes([(int(size[0]), int(size[1])) for _, _, size in usable])
        facts["ignored pixels"] = f"{100 * ignored / pixels:.1f} %"
        facts["counts below"] = "pixels of each class"
    chosen = [usable[index] for index in inspection.chosen(len(usable), pictures)]
    layout = f"{sources.layout(pathlib.Path(root))} (images with masks)"
    sheet = [_picture(split, example, dataset, exif) for split, example, _ in chosen]
    return Inspection(layout, (), facts, counts, list(splits), [*messages, *faults], sheet)


def _picture(split: str, example: Example, dataset: SegmentationDataset, exif: bool) -> tuple[str, np.ndarray]:
    """Caption and picture of an image: the classes painted over it."""
    pixels = codecs.read(example.path, codecs.decode_upright if exif else codecs.decode).numpy()
    painted = drawing.overlay(pixels, example.read_label(), dataset.info.palette, 0.5)
    return f"{split}: {example.name}", np.asarray(inspection.thumbnail(painted))
