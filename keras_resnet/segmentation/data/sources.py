"""Segmentation data sets by name."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

from keras_resnet import files
from keras_resnet.data.folders import visible
from keras_resnet.errors import InputError
from keras_resnet.segmentation.data import ade20k, cityscapes, coco, folders, pairing, tfds, voc
from keras_resnet.segmentation.data.examples import SegmentationDataset
from keras_resnet.segmentation.data.labels import LabelOptions

LAYOUTS: dict[str, Callable[[pathlib.Path, LabelOptions], SegmentationDataset]] = {
    "voc": voc.open_folder,
    "cityscapes": cityscapes.open_folder,
    "coco": coco.open_folder,
    "ade20k": ade20k.open_folder,
}
"""What stands before the path in the name of a data set -> function that opens it."""

SIGNS: dict[str, Callable[[pathlib.Path], bool]] = {
    "voc": lambda root: (root / voc.LISTS).is_dir(),
    "cityscapes": lambda root: (root / cityscapes.IMAGES).is_dir(),
    "coco": lambda root: bool(coco.annotation_files(root)),
    "ade20k": lambda root: (root / ade20k.NAMES).is_file(),
}
"""Layout -> whether a folder has it."""

DEPTH = 2
"""Levels of folders in which a layout is looked for, because archives often hold one folder, such as VOCdevkit."""


def load(
    name: str, data_dir: str | None = None, download: bool = False, options: LabelOptions | None = None
) -> SegmentationDataset:
    """Open a segmentation data set by name.

    Args:
        name: "folder:/path" for a folder whose layout is found by its content, "voc:/path", "cityscapes:/path",
            "ade20k:/path" or "coco:/path" for a folder in this layout, or a data set of tensorflow-datasets:
            "oxford_iiit_pet", "cityscapes" or "scene_parse150".
        data_dir: folder of prepared tensorflow-datasets; by default ~/tensorflow_datasets.
        download: download and prepare a data set of tensorflow-datasets if it is missing.
        options: classes and what they are in masks; by default as the data set says.

    Raises:
        ValueError: the data set does not exist, or the folder has another layout.
    """
    options = options or LabelOptions()
    kind, path = files.path_kind(name)
    if not kind:
        return tfds.open_prepared(name, data_dir, download, options)
    root = pathlib.Path(files.absolute_dataset(name).partition(":")[2])
    if not path or not root.is_dir():
        short = ", for which --data=PATH is short" if kind == "folder" else ""
        raise InputError(f"dataset must name an existing folder after '{kind}:'{short}; got {path!r}.")
    if kind in LAYOUTS:
        return LAYOUTS[kind](_place(root, kind) or root, options)
    if kind != "folder":
        raise InputError(f"dataset must be of folder, {', '.join(LAYOUTS)} or tensorflow-datasets; got {name!r}.")
    return _open_by_content(root, options)


def _open_by_content(root: pathlib.Path, options: LabelOptions) -> SegmentationDataset:
    """Open a folder in the layout that its subfolders and files tell.

    Raises:
        ValueError: it has none of the layouts.
    """
    below = not any(pairing.tells(name) for name in visible(root)[0])
    for kind, open_folder in LAYOUTS.items():
        if place := _place(root, kind, DEPTH if below else 0):
            return open_folder(place, options)
    return folders.open_folder(root, options)


def layout(root: pathlib.Path) -> str:
    """Return the layout that a folder's subfolders and files tell: one of `LAYOUTS`, "folders", or "" for none.

    Raises:
        ValueError: as for `pairing.find`.
    """
    depth = 0 if any(pairing.tells(name) for name in visible(root)[0]) else DEPTH
    kind = next((kind for kind in LAYOUTS if _place(root, kind, depth)), "")
    return kind or ("folders" if pairing.find(root).splits else "")


def _place(root: pathlib.Path, kind: str, depth: int = DEPTH) -> pathlib.Path | None:
    """The folder in a layout: a folder or else the only one below it; None if there is none or several."""
    level = [root]
    for _ in range(depth + 1):
        if found := [folder for folder in level if SIGNS[kind](folder)]:
            return found[0] if len(found) == 1 else None
        level = [folder / name for folder in level for name in visible(folder)[0]]
    return None
