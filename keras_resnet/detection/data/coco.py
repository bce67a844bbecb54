"""Folders in the layout of COCO: `annotations/instances_SPLIT.json`, and images in `SPLIT/` or `images/SPLIT/`."""

from __future__ import annotations

import collections
import functools
import json
import pathlib
from typing import Any

import numpy as np

from keras_resnet.data.dataset import DatasetInfo
from keras_resnet.detection.data.annotations import Annotation, AnnotationCollector, DetectionDataset
from keras_resnet.errors import InputError

REQUIRED_KEYS = {
    "images": {"id", "file_name"},
    "annotations": {"image_id", "category_id", "bbox"},
    "categories": {"id", "name"},
}
"""List in an annotation file -> keys that each of its entries must have."""

CATEGORY_IDS = tuple(n for n in range(1, 91) if n not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
"""Ids of COCO's 80 classes; those of eleven classes that were never published are missing."""


def annotation_files(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Return the annotation file of each split of a folder; empty for a folder in another layout."""
    paths = sorted((root / "annotations").glob("instances_*.json"))
    return {path.stem.removeprefix("instances_"): path for path in paths}


def open_folder(root: pathlib.Path) -> DetectionDataset:
    """Open a folder in COCO's layout; its classes are in the order of their category ids.

    Raises:
        ValueError: an annotation file is not in COCO's format.
    """
    contents = {split: _read_file(path) for split, path in annotation_files(root).items()}
    names: dict[int, str] = {}
    for content in contents.values():
        names |= {category["id"]: category["name"] for category in content["categories"]}
    ids = tuple(sorted(names))

    @functools.cache
    def read(split: str) -> list[Annotation]:
        return _read_split(root, split, contents[split], ids)

    splits = {split: len(content["images"]) for split, content in contents.items()}
    info = DatasetInfo(f"folder:{root}", tuple(names[id] for id in ids), None, splits)
    return DetectionDataset(info, read, ids)


def _read_file(path: pathlib.Path) -> dict[str, list[dict[str, Any]]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
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
    for entry in content["annotations"]:
        if not isinstance(entry["bbox"], list) or len(entry["bbox"]) != 4:
            raise InputError(f"annotation file {str(path)!r} must have four numbers in each bbox; got {entry['bbox']}.")
    return content


def _read_split(
    root: pathlib.Path, split: str, content: dict[str, list[dict[str, Any]]], ids: tuple[int, ...]
) -> list[Annotation]:
    file = annotation_files(root)[split]
    label_of_id = {id: label for label, id in enumerate(ids)}
    objects_of_image = collections.defaultdict(list)
    for entry in content["annotations"]:
        if entry["category_id"] not in label_of_id:
            raise InputError(f"annotation file {str(file)!r} has the unknown category {entry['category_id']!r}.")
        objects_of_image[entry["image_id"]].append(entry)
    folder = root / split if (root / split).is_dir() else root / "images" / split
    collector = AnnotationCollector(str(file))
    for entry in content["images"]:
        path, objects = folder / entry["file_name"], objects_of_image[entry["id"]]
        if not path.is_file():
            raise InputError(f"annotation file {str(file)!r} names the missing image {str(path)!r}.")
        left, top, width, height = np.array([obj["bbox"] for obj in objects], "float32").reshape(-1, 4).T
        collector.add(
            path,
            entry["id"],
            corners=np.stack([top, left, top + height, left + width], -1),
            labels=np.array([label_of_id[obj["category_id"]] for obj in objects], "int32"),
            valid=(width > 0) & (height > 0),
            crowd=np.array([bool(obj.get("iscrowd", 0)) for obj in objects], bool),
            areas=np.array([obj.get("area", obj["bbox"][2] * obj["bbox"][3]) for obj in objects], "float32"),
            size=(entry["height"], entry["width"]) if {"height", "width"} <= set(entry) else None,
        )
    return collector.finish()
