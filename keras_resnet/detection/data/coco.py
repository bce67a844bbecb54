"""Folders in the layout of COCO: `annotations/instances_SPLIT.json`, and images in `SPLIT/` or `images/SPLIT/`.

Roboflow's exports have `SPLIT/_annotations.coco.json` next to the images instead, and other tools one file for all.
"""

from __future__ import annotations

import collections
import functools
import json
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_resnet.data import folders as data_folders
from keras_resnet.data.dataset import SPLIT_NAMES, DatasetInfo, log_similar, usual_split
from keras_resnet.data.finder import FileFinder, image_size, read_text
from keras_resnet.data.folders import is_hidden
from keras_resnet.detection.data.annotations import (
    Annotation,
    AnnotationCollector,
    DetectionDataset,
    logger,
    parse_flag,
    parse_size,
)
from keras_resnet.errors import InputError, counted, did_you_mean
from keras_resnet.ops.masks import ObjectMask

REQUIRED_KEYS = {
    "images": {"id", "file_name"},
    "annotations": {"image_id", "category_id", "bbox"},
    "categories": {"id", "name"},
}
"""List in an annotation file -> keys that each of its entries must have."""

CATEGORY_IDS = tuple(n for n in range(1, 91) if n not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
"""Ids of COCO's 80 classes; those of eleven classes that were never published are missing."""

ROBOFLOW_FILE = "_annotations.coco.json"
"""Annotation file that Roboflow writes into the folder of each split."""

WHOLE_FILES = (ROBOFLOW_FILE, "annotations.json", "labels.json", "result.json", "annotations/annotations.json")
"""Names of a single annotation file for all images."""

MOST_FILES = 50
"""Most JSON files of a folder that are searched for annotations."""

WHOLE = "all"
"""Split of a single annotation file."""

NO_BOX = (float("nan"),) * 4
"""The box of an entry whose bbox is empty or null."""


def annotation_files(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Return the annotation file of each split of a folder; empty for a folder in another layout.

    Raises:
        ValueError: two files are of one split.
    """
    if paths := usual_files(root):
        return paths
    found: dict[str, pathlib.Path] = {}
    for path in _files_of_other_names(root):
        words = re.split("[^a-z]+", path.relative_to(root).with_suffix("").as_posix().lower())
        split = next((usual_split(word) for word in reversed(words) if usual_split(word) in SPLIT_NAMES), WHOLE)
        other = found.setdefault(split, path)
        if other != path:
            raise InputError(
                f"dataset folder {str(root)!r} must have one annotation file for each split; {str(other)!r} and "
                f"{str(path)!r} are of the same one."
            )
    return found


def is_layout(root: pathlib.Path) -> bool:
    """Return whether a folder has annotation files with any names."""
    return bool(usual_files(root) or _files_of_other_names(root))


def usual_files(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Return the annotation files of a folder that have one of the usual names, by their splits."""
    if paths := sorted((root / "annotations").glob("instances_*.json")):
        return {path.stem.removeprefix("instances_"): path for path in paths}
    if paths := sorted(root.glob(f"*/{ROBOFLOW_FILE}")):
        return {path.parent.name: path for path in paths}
    paths = [root / name for name in WHOLE_FILES if (root / name).is_file() and _has_categories(root / name)]
    return {WHOLE: paths[0]} if paths else {}


def _has_categories(path: pathlib.Path) -> bool:
    """Whether a JSON file may be in COCO's format; others of the same name are not."""
    return _has_keys(path, ["categories"])


def _has_keys(path: pathlib.Path, keys: Iterable[str]) -> bool:
    content = path.read_bytes().replace(b"\0", b"")
    return all(f'"{key}"'.encode() in content for key in keys)


def _files_of_other_names(root: pathlib.Path) -> list[pathlib.Path]:
    """Annotation files with any names, in which or in that of their folder a split may be named: val_coco.json."""
    paths = sorted(path for pattern in ("*.json", "*/*.json") for path in root.glob(pattern))
    if len(paths) > MOST_FILES:  # one for each image, as labelme writes them
        return []
    paths = [path for path in paths if path.is_file() and not any(map(is_hidden, path.relative_to(root).parts))]
    return [path for path in paths if _has_keys(path, REQUIRED_KEYS)]


def open_folder(root: pathlib.Path, class_names: Sequence[str] = (), exif: bool = False) -> DetectionDataset:
    """Open a folder in COCO's layout.

    Files that number the classes differently are matched by the names of the classes.

    Args:
        root: the folder.
        class_names: classes in the order of their labels; by default those of the file that lists most of them, in the
            order of their category ids. The other files may leave some of them out.
        exif: whether images are rotated by their EXIF orientation.

    Raises:
        ValueError: an annotation file is not in COCO's format, or lists a class that is not allowed.
    """
    files = annotation_files(root)
    contents = {split: _read_file(path) for split, path in files.items()}
    categories = {split: _categories(files[split], content) for split, content in contents.items()}
    group = "" if class_names else _group_without_boxes(contents, categories)
    categories = {split: {id: name for id, name in each.items() if name != group} for split, each in categories.items()}
    # Of files with equally many classes, that of training decides.
    reference = min(categories, key=lambda split: (-len(categories[split]), not split.startswith("train"), split))
    names = tuple(class_names or categories[reference].values())
    log_similar(str(root), names)
    for split in categories:
        _check_names(files[split], categories[split].values(), names, "" if class_names else str(files[reference]))

    @functools.cache
    def read(split: str) -> list[Annotation]:
        return _read_split(root, split, contents[split], categories[split], names, exif)

    splits = {split: len(content["images"]) for split, content in contents.items()}
    info = DatasetInfo(f"folder:{root}", names, None, splits)
    notes = (f"left out {group!r}: it has no box, and all other classes belong to it",) if group else ()
    layout = f"COCO ({', '.join(str(path.relative_to(root)) for path in files.values())})"
    return DetectionDataset(info, read, _common_ids(categories.values(), names), layout, notes)


def _group_without_boxes(
    contents: Mapping[str, Mapping[str, list[dict[str, Any]]]], categories: Mapping[str, Mapping[Any, str]]
) -> str:
    """The class to which all others belong if it has no box, such as Roboflow's category 0; "" if there is none."""
    used = {
        categories[split].get(_key(entry["category_id"]))
        for split, content in contents.items()
        for entry in content["annotations"]
    }
    entries = [entry for content in contents.values() for entry in content["categories"]]
    groups = {str(entry.get("supercategory") or "").strip() for entry in entries}
    for name in groups - used - {""}:
        others = [entry for entry in entries if str(entry["name"]).strip() != name]
        is_class = len(others) < len(entries)
        if is_class and others and all(str(entry.get("supercategory")).strip() == name for entry in others):
            return name
    return ""


def _key(id: Any) -> Any:
    """An id by which entries refer to others: 7, 7.0 and "7" are the same."""
    try:
        return int(id) if float(id) == int(id) else id
    except (TypeError, ValueError, OverflowError):
        return str(id)


def _categories(path: pathlib.Path, content: Mapping[str, list[dict[str, Any]]]) -> dict[Any, str]:
    """Id -> name of the classes of a file, in the order of the ids."""
    names: dict[Any, str] = {}
    for category in content["categories"]:
        id, name = _key(category["id"]), str(category["name"]).strip()
        if names.setdefault(id, name) != name:
            raise InputError(f"annotation file {str(path)!r} has two classes of id {id}: {names[id]!r} and {name!r}.")
    for id, name in names.items():
        other = next(other for other in names if names[other] == name)
        if other != id:
            raise InputError(f"annotation file {str(path)!r} lists the class {name!r} twice, as {other} and {id}.")
    return {id: names[id] for id in sorted(names, key=lambda id: (isinstance(id, str), id))}


def _check_names(path: pathlib.Path, names: Iterable[str], allowed: Sequence[str], reference: str) -> None:
    """Refuse a file with a class that is not allowed, by --class_names or by the file that lists most classes."""
    unknown = [name for name in names if name not in allowed]
    if not unknown:
        return
    hint = did_you_mean(unknown[0], allowed)
    if reference:
        raise InputError(
            f"annotation files must list the same classes, or parts of those of one file; {str(path)!r} has "
            f"{unknown[0]!r}{hint}, {reference!r} has only {', '.join(allowed)}. --class_names sets the classes."
        )
    raise InputError(
        f"annotation file {str(path)!r} has the class {unknown[0]!r}{hint}; allowed are {', '.join(allowed)}."
    )


def _common_ids(categories: Iterable[Mapping[Any, str]], names: Sequence[str]) -> tuple[int, ...]:
    """The category id of each class, if all files have the same ones, else ()."""
    ids: dict[str, Any] = {}
    for id, name in (item for mapping in categories for item in mapping.items()):
        if ids.setdefault(name, id) != id:
            return ()
    return tuple(ids[name] for name in names) if set(names) <= set(ids) else ()


def _read_file(path: pathlib.Path) -> dict[str, list[dict[str, Any]]]:
    try:
        content = json.loads(read_text(path))
        if not isinstance(content, dict):
            raise TypeError("it is no object with images, annotations and categories")
        content = {key: content[key] for key in REQUIRED_KEYS}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise InputError(f"annotation file {str(path)!r} is not in COCO's format: {reason}.") from error
    for key, required in REQUIRED_KEYS.items():
        if not isinstance(content[key], list):
            raise InputError(f"annotation file {str(path)!r} is not in COCO's format: its {key} are no list.")
        for entry in content[key]:
            has_mask = isinstance(entry, dict) and entry.get("segmentation")
            if not isinstance(entry, dict) or not required <= entry.keys() | ({"bbox"} if has_mask else set()):
                raise InputError(
                    f"annotation file {str(path)!r} must have {', '.join(sorted(required))} in each entry of {key}; "
                    f"got {str(entry)[:100]}."
                )
    return content


def _parsed(path: pathlib.Path, obj: Mapping[str, Any]) -> tuple[tuple[float, ...], bool, float]:
    """The left, top, width and height of an entry, whether it is a crowd, and its area."""
    bbox = obj.get("bbox")
    try:
        if isinstance(bbox, (str, Mapping)):
            raise ValueError
        box = tuple(map(float, bbox)) if bbox else NO_BOX
        if len(box) != 4:
            raise ValueError
    except (TypeError, ValueError):
        raise InputError(f"annotation file {str(path)!r} must have four numbers in each bbox; got {bbox}.") from None
    try:
        crowd = parse_flag(obj.get("iscrowd"))
    except ValueError:
        raise InputError(
            f"annotation file {str(path)!r} must have 0 or 1 in each iscrowd; got {obj['iscrowd']!r}."
        ) from None
    area = obj.get("area")
    try:
        return box, crowd, box[2] * box[3] if area is None else float(area)
    except (TypeError, ValueError):
        raise InputError(f"annotation file {str(path)!r} must have a number in each area; got {area!r}.") from None


def _read_split(
    root: pathlib.Path,
    split: str,
    content: Mapping[str, list[dict[str, Any]]],
    categories: Mapping[Any, str],
    class_names: Sequence[str],
    exif: bool,
) -> list[Annotation]:
    file = annotation_files(root)[split]
    label_of_id = {id: class_names.index(name) for id, name in categories.items()}
    objects_of_image = collections.defaultdict(list)
    for entry in content["annotations"]:
        if _key(entry["category_id"]) not in label_of_id:
            raise InputError(f"annotation file {str(file)!r} has the unknown category {entry['category_id']!r}.")
        objects_of_image[_key(entry["image_id"])].append(entry)
    paths = _image_paths(root, split, file, content["images"])
    if strays := sum(len(objects) for id, objects in objects_of_image.items() if id not in paths):
        logger.warning("%s: left out %s of images that it does not list", file, counted(strays, "box", "boxes"))
    collector = AnnotationCollector(str(file), exif)
    has_masks = any(entry.get("segmentation") for entry in content["annotations"])
    unreadable: list[str] = []
    for entry in content["images"]:
        objects = objects_of_image[_key(entry["id"])]
        try:
            declared_size = parse_size(entry.get("height"), entry.get("width"))
        except ValueError:
            sides = f"{entry['height']!r}, {entry['width']!r}"
            raise InputError(
                f"annotation file {str(file)!r} must have numbers as height and width of an image; got {sides}."
            ) from None
        path = paths[_key(entry["id"])]
        size = declared_size or image_size(path, exif)
        masks = [_mask(obj, size, unreadable) for obj in objects]
        parsed = [_parsed(file, _with_box(obj, mask)) for obj, mask in zip(objects, masks, strict=True)]
        left, top, width, height = np.array([box for box, _, _ in parsed], "float64").reshape(-1, 4).T
        collector.add(
            path,
            entry["id"],
            corners=np.stack([top, left, top + height, left + width], -1),
            labels=np.array([label_of_id[_key(obj["category_id"])] for obj in objects], "int32"),
            valid=(width > 0) & (height > 0),
            crowd=np.array([crowd for _, crowd, _ in parsed], bool),
            areas=np.array([area for _, _, area in parsed], "float64"),
            extents=np.stack([height, width], -1),
            masks=masks if has_masks else None,
            declared_size=declared_size,
        )
    if unreadable:
        count = counted(len(unreadable), "segmentation")
        logger.warning("%s: left out %s that cannot be read; of the first one, %s", file, count, unreadable[0])
    return collector.finish()


def _mask(obj: Mapping[str, Any], size: tuple[int, int], unreadable: list[str]) -> ObjectMask | None:
    """The mask of an entry, or None; what is wrong with a segmentation is added to `unreadable`.

    A detector without masks can be trained on the boxes of such a file, so it is no error.
    """
    try:
        return ObjectMask.of_coco(obj.get("segmentation"), size)
    except (TypeError, ValueError) as error:
        unreadable.append(str(error))
        return None


def _with_box(obj: Mapping[str, Any], mask: ObjectMask | None) -> Mapping[str, Any]:
    """An entry; one that has a mask, and a box that is missing or all zeros, gets the box of the mask."""
    bbox = obj.get("bbox")
    if mask is None or (bbox and (not isinstance(bbox, Sequence) or any(bbox))):
        return obj
    top, left, bottom, right = mask.box()
    return {**obj, "bbox": [left, top, right - left, bottom - top]}


def _elsewhere(root: pathlib.Path, split: str) -> dict[str, pathlib.Path | None]:
    """Name -> the file of a folder in no other split's folders; None for a name of several files."""
    found: dict[str, pathlib.Path | None] = {}
    for path in map(pathlib.Path, data_folders.walk(root)):
        splits = {usual_split(part) for part in path.relative_to(root).parts[:-1]} & SPLIT_NAMES.keys()
        if splits <= {usual_split(split)}:
            found[path.name] = None if path.name in found else path
    return found


def _image_paths(
    root: pathlib.Path, split: str, file: pathlib.Path, images: Sequence[Mapping[str, Any]]
) -> dict[Any, pathlib.Path]:
    """Id -> file of each image.

    Raises:
        ValueError: an image is missing, or two images have one id or one file.
    """
    folders = (root / split, root / "images" / split, root / "images", root / "data", file.parent, root)
    finder = FileFinder()
    elsewhere: dict[str, pathlib.Path | None] | None = None
    paths: dict[Any, pathlib.Path] = {}
    names: dict[pathlib.Path, str] = {}
    for entry in images:
        id, name = _key(entry["id"]), str(entry["file_name"])
        path = finder.find_named(folders, name)
        if path is None:
            elsewhere = _elsewhere(root, split) if elsewhere is None else elsewhere
            path = elsewhere.get(re.split(r"[/\\]", name)[-1])
        if path is None:
            missing = next((folder for folder in folders if folder.is_dir()), root) / name
            raise InputError(f"annotation file {str(file)!r} names the missing image {str(missing)!r}.")
        if id in paths:
            raise InputError(f"annotation file {str(file)!r} has two images of id {id}.")
        if names.setdefault(path, name) != name:
            raise InputError(
                f"annotation file {str(file)!r} names {names[path]!r} and {name!r}, for which there is only one image, "
                f"{str(path)!r}."
            )
        paths[id] = path
    return paths
