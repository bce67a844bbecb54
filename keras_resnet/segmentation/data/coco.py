"""Folders in the layout of COCO: `annotations/instances_SPLIT.json`, images in `SPLIT/` or `images/SPLIT/`.

The labels are drawn from the polygons and the run-length encoded masks of the objects: class 0 is the background, the
others follow in the order of their category ids. Pixels of objects of several classes are ignored, as in torchvision's
reference.
"""

from __future__ import annotations

import collections
import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_resnet.data.finder import FileFinder, image_size, read_text
from keras_resnet.errors import InputError, did_you_mean
from keras_resnet.ops.masks import ObjectMask
from keras_resnet.segmentation.choices import IGNORE_LABEL
from keras_resnet.segmentation.data import colors
from keras_resnet.segmentation.data.examples import Example, SegmentationDataset, SegmentationInfo
from keras_resnet.segmentation.data.labels import LabelOptions

REQUIRED_KEYS = {
    "images": {"id", "file_name"},
    "annotations": {"image_id", "category_id", "segmentation"},
    "categories": {"id", "name"},
}
"""List in an annotation file -> keys that each of its entries must have."""

BACKGROUND = "background"


def annotation_files(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Return the annotation file of each split of a folder; empty for a folder in another layout."""
    paths = sorted((root / "annotations").glob("instances_*.json"))
    return {path.stem.removeprefix("instances_"): path for path in paths}


def open_folder(root: pathlib.Path, options: LabelOptions) -> SegmentationDataset:
    """Open a folder in the layout of COCO.

    Args:
        root: the folder.
        options: `class_names`, with the background first, selects and orders the classes; objects of others are
            background. Nothing else may be given.

    Raises:
        ValueError: an annotation file is not in COCO's format, or files have different categories.
    """
    if options.label_values or options.ignore_labels or options.label_colors:
        raise InputError(
            "label_values, ignore_labels and label_colors are for mask files, which COCO's layout has not."
        )
    paths = annotation_files(root)
    if not paths:
        raise InputError(f"dataset folder {str(root)!r} must have annotations/instances_*.json; it has none.")
    contents = {split: _read_file(path) for split, path in paths.items()}
    categories = {split: _categories(content) for split, content in contents.items()}
    first = min(categories, key=lambda split: (-len(categories[split]), not split.startswith("train"), split))
    all_names = tuple(categories[first].values())
    names = options.class_names or (BACKGROUND, *all_names)
    for name in names[1:]:
        if name not in all_names:
            raise InputError(
                f"class_names must be the background and categories of {str(paths[first])!r}; got {name!r}"
                f"{did_you_mean(name, all_names)}."
            )
    for split, found in categories.items():
        if strange := [name for name in found.values() if name not in all_names]:
            raise InputError(
                f"annotation file {str(paths[split])!r} has the category {strange[0]!r}, which "
                f"{str(paths[first])!r} has not."
            )

    @functools.cache
    def read(split: str) -> list[Example]:
        labels = {id: names.index(name) if name in names[1:] else 0 for id, name in categories[split].items()}
        return _examples(root, split, paths[split], contents[split], labels)

    counts = {split: len(content["images"]) for split, content in contents.items()}
    palette = colors.to_hex(colors.palette(names))
    info = SegmentationInfo(f"coco:{root}", names, None, counts, colors=palette)
    return SegmentationDataset(info, read, is_drawn=True)


def _read_file(path: pathlib.Path) -> dict[str, list[dict[str, Any]]]:
    try:
        content = json.loads(read_text(path))
        content = {key: content[key] for key in REQUIRED_KEYS}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise InputError(f"annotation file {str(path)!r} is not in COCO's format: {reason}.") from error
    for key, required in REQUIRED_KEYS.items():
        for entry in content[key]:
            if not isinstance(entry, dict) or not required <= entry.keys():
                raise InputError(
                    f"annotation file {str(path)!r} must have {', '.join(sorted(required))} in each entry of {key}; "
                    f"got {str(entry)[:100]}."
                )
    return content


def _categories(content: Mapping[str, list[dict[str, Any]]]) -> dict[Any, str]:
    """Id -> name of the categories, in the order of the ids."""
    names = {category["id"]: str(category["name"]).strip() for category in content["categories"]}
    return {id: names[id] for id in sorted(names, key=lambda id: (isinstance(id, str), id))}


def _examples(
    root: pathlib.Path,
    split: str,
    file: pathlib.Path,
    content: Mapping[str, list[dict[str, Any]]],
    labels: Mapping[Any, int],
) -> list[Example]:
    objects = collections.defaultdict(list)
    for entry in content["annotations"]:
        if entry["category_id"] not in labels:
            raise InputError(f"annotation file {str(file)!r} has the unknown category {entry['category_id']!r}.")
        objects[entry["image_id"]].append((labels[entry["category_id"]], entry["segmentation"]))
    folders = (root / split, root / "images" / split, root / "images", root)
    finder, examples = FileFinder(), []
    for entry in content["images"]:
        path = finder.find_named(folders, str(entry["file_name"]))
        if path is None:
            missing = next((folder for folder in folders if folder.is_dir()), root) / str(entry["file_name"])
            raise InputError(f"annotation file {str(file)!r} names the missing image {str(missing)!r}.")
        read = functools.partial(_draw, str(path), objects[entry["id"]], str(file))
        examples.append(
            Example(str(path), pathlib.PurePath(entry["file_name"]).with_suffix("").as_posix(), read, str(file))
        )
    return examples


def _draw(path: str, objects: Sequence[tuple[int, Any]], file: str) -> np.ndarray:
    """Draw the labels of an image, u8[H,W]."""
    size = image_size(path)
    label = np.zeros(size, "uint8")
    for value, segmentation in objects:
        if not value:
            continue
        mask = _mask(segmentation, size, path, file)
        label = np.where(mask, np.where((label == 0) | (label == value), value, IGNORE_LABEL), label).astype("uint8")
    return label


def _mask(segmentation: Any, size: tuple[int, int], path: str, file: str) -> np.ndarray:
    """The mask of an object, bool[H,W]."""
    try:
        mask = ObjectMask.of_coco(segmentation, size)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"annotation file {file!r} has a segmentation for image {path!r} that is neither polygons nor "
            f"runs: {error}."
        ) from error
    return np.zeros(size, bool) if mask is None else mask.draw()
