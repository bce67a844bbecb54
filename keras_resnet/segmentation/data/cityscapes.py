"""Folders in the layout of Cityscapes: `leftImg8bit/SPLIT/CITY/*.png` and `gtFine/SPLIT/CITY/*.png`.

The masks are `*_gtFine_labelTrainIds.png`, which Cityscapes' scripts make, or else the published
`*_gtFine_labelIds.png`, whose ids of 34 classes are mapped to the 19 that are evaluated; all others are ignored.
"""

from __future__ import annotations

import functools
import pathlib

import numpy as np

from keras_resnet.data import folders
from keras_resnet.data.finder import FileFinder
from keras_resnet.errors import InputError
from keras_resnet.segmentation.choices import IGNORE_LABEL
from keras_resnet.segmentation.data import colors
from keras_resnet.segmentation.data.examples import Example, SegmentationDataset, SegmentationInfo
from keras_resnet.segmentation.data.labels import LabelOptions
from keras_resnet.segmentation.data.masks import MaskFormat

IMAGES, MASKS = "leftImg8bit", "gtFine"

CLASSES = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
"""Class -> (id in labelIds, color), in the order of the train ids, as in Cityscapes' `labels.py`."""

IDS = tuple(id for id, _ in CLASSES.values())
"""Value of each class in labelIds."""

LARGEST_ID = 33


def open_folder(root: pathlib.Path, options: LabelOptions) -> SegmentationDataset:
    """Open a folder in the layout of Cityscapes.

    Args:
        root: the folder.
        options: nothing but the names of the classes: the layout determines them and their values.

    Raises:
        ValueError: there are no images, or `options` are given.
    """
    if options not in (LabelOptions(), LabelOptions(tuple(CLASSES))):
        raise InputError(
            "class_names, label_values, ignore_labels and label_colors cannot be combined with Cityscapes' layout."
        )
    splits = {name: root / IMAGES / name for name in folders.visible(root / IMAGES)[0]}
    images = {split: folders.Listing.of(folders.walk(path)).images for split, path in splits.items()}
    images = {split: paths for split, paths in images.items() if paths}
    if not images:
        raise InputError(f"dataset folder {str(root)!r} must have images {IMAGES}/SPLIT/CITY/*.png; it has none.")
    train_ids, label_ids = formats()

    @functools.cache
    def read(split: str) -> list[Example]:
        finder = FileFinder()
        examples = []
        for image in images[split]:
            path = pathlib.Path(image)
            name = path.stem.removesuffix(f"_{IMAGES}")
            stem = root / MASKS / path.parent.relative_to(root / IMAGES) / f"{name}_{MASKS}"
            candidates = ((f"{stem}_labelTrainIds.png", train_ids), (f"{stem}_labelIds.png", label_ids))
            found = ((finder.find(pathlib.Path(file)), format) for file, format in candidates)
            mask, format = next(((file, format) for file, format in found if file), (None, train_ids))
            if mask is None:
                raise InputError(
                    f"image {image!r} has no mask; there is neither {' nor '.join(f for f, _ in candidates)}."
                )
            examples.append(Example(image, name, functools.partial(format.read, str(mask)), str(mask)))
        return examples

    counts = {split: len(paths) for split, paths in images.items()}
    return SegmentationDataset(info(f"cityscapes:{root}", counts), read)


def info(name: str, counts: dict[str, int]) -> SegmentationInfo:
    """Return the metadata of the data set under some name, with the number of images in each split."""
    palette = np.array([color for _, color in CLASSES.values()], "uint8")
    return SegmentationInfo(name, tuple(CLASSES), None, counts, colors=colors.to_hex(palette))


def formats() -> tuple[MaskFormat, MaskFormat]:
    """Return the formats of masks in train ids, and in the ids of all classes."""
    train_ids = MaskFormat(len(CLASSES))
    others = tuple(id for id in range(LARGEST_ID + 1) if id not in IDS)
    return train_ids, MaskFormat(len(CLASSES), IDS, (*others, IGNORE_LABEL))
