"""Detection data sets by name."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Sequence

from keras_resnet import files
from keras_resnet.data.dataset import SPLIT_NAMES, usual_split
from keras_resnet.data.folders import visible
from keras_resnet.detection.data import coco, splits, tfds, voc, voc_folders, yolo
from keras_resnet.detection.data.annotations import DetectionDataset
from keras_resnet.errors import InputError, listed

Opener = Callable[[pathlib.Path, Sequence[str], bool], DetectionDataset]
"""A function of a folder, the names of the classes, and whether images are rotated by their EXIF orientation."""

LAYOUTS = (
    "VOC's XML files next to the images, in a second folder, or with ImageSets/Main; COCO's "
    "annotations/instances_*.json or SPLIT/_annotations.coco.json; or YOLO's labels/*.txt with data.yaml or classes.txt"
)
"""The layouts of folders, for messages."""


def load(
    name: str,
    data_dir: str | None = None,
    download: bool = False,
    class_names: Sequence[str] = (),
    exif: bool = False,
    seed: int = 0,
) -> DetectionDataset:
    """Open a detection data set by name.

    Args:
        name: "folder:/path" for a folder, whose layout is found by its content: VOC's (`voc`, `voc_folders`), COCO's or
            Roboflow's (`coco`) or YOLO's (`yolo`); or a data set of tensorflow-datasets such as "voc/2007".
        data_dir: folder of prepared tensorflow-datasets; by default ~/tensorflow_datasets.
        download: download and prepare a data set of tensorflow-datasets if it is missing.
        class_names: classes of a folder in the order of their labels; by default those that its files list, or all
            that occur, sorted.
        exif: whether images are rotated by their EXIF orientation; boxes are those of the rotated images.
        seed: seed of the splits that a folder does not have; see `splits.completed`.

    Raises:
        ValueError: the data set does not exist, or the folder has none of the layouts.
    """
    kind, _, folder = name.partition(":")
    if kind != "folder":
        return tfds.open_prepared(name, data_dir, download, exif)
    root = pathlib.Path(folder).expanduser()
    if not folder or not root.is_dir():
        raise InputError(
            f"dataset must name an existing folder after 'folder:', for which --data=PATH is short; got {folder!r}"
            f"{files.no_folder(folder)}."
        )
    opener = layout(root)
    if opener is None:
        raise InputError(f"dataset folder {str(root)!r} must have {LAYOUTS}; it has {_content(root)}{_hint(root)}")
    dataset = opener(root, class_names, exif)
    if has_lists(root):
        return dataset
    return splits.completed(dataset, seed)


def layout(root: pathlib.Path) -> Opener | None:
    """Return the function that opens a folder, by what is in it; None if it has none of the layouts."""
    if (root / voc.LISTS).is_dir():
        return voc.open_folder
    if coco.usual_files(root):
        return coco.open_folder
    if yolo.is_layout(root):
        return yolo.open_folder
    if voc_folders.annotation_files(root):
        return voc_folders.open_folder
    return coco.open_folder if coco.is_layout(root) else None


def _hint(root: pathlib.Path) -> str:
    """The end of the message: how to give a folder in another layout: its subfolder, or converted."""
    names, _ = visible(root)
    if found := next((root / name for name in names if layout(root / name)), None):
        return f"; did you mean {str(found)!r}?"
    suffixes = {path.suffix.lower() for pattern in ("*", "*/*") for path in root.glob(pattern)}
    if suffixes & {".csv", ".json"}:
        return "; convert CSV files, and the JSON of VIA, labelme or CreateML, to COCO's format first."
    return "."


def has_lists(root: pathlib.Path) -> bool:
    """Whether the splits of a folder are lists that someone made, to which none is added."""
    named = [usual_split(re.sub(r"\d+$", "", split)) in SPLIT_NAMES for split in coco.annotation_files(root)]
    return (root / voc.LISTS).is_dir() or (any(named) and any((root / "annotations").glob("instances_*.json")))


def _content(root: pathlib.Path) -> str:
    """What a folder in no layout has, in words."""
    folders, names = visible(root)
    if not folders and not names:
        return "nothing"
    return listed([f"{name}/" for name in folders] + names)
