"""Segmentation data sets by name."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

from keras_resnet import files
from keras_resnet.errors import InputError
from keras_resnet.segmentation.data import ade20k, cityscapes, coco, folders, tfds, voc
from keras_resnet.segmentation.data.examples import SegmentationDataset
from keras_resnet.segmentation.data.labels import LabelOptions

LAYOUTS: dict[str, Callable[[pathlib.Path, LabelOptions], SegmentationDataset]] = {
    "voc": voc.open_folder,
    "cityscapes": cityscapes.open_folder,
    "ade20k": ade20k.open_folder,
    "coco": coco.open_folder,
}
"""What stands before the path in the name of a data set -> function that opens it."""


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
        return LAYOUTS[kind](root, options)
    if kind != "folder":
        raise InputError(f"dataset must be of folder, {', '.join(LAYOUTS)} or tensorflow-datasets; got {name!r}.")
    return _open_by_content(root, options)


def _open_by_content(root: pathlib.Path, options: LabelOptions) -> SegmentationDataset:
    """Open a folder in the layout that its subfolders and files tell.

    Raises:
        ValueError: it has none of the layouts.
    """
    if (root / voc.LISTS).is_dir():
        return voc.open_folder(root, options)
    if (root / cityscapes.IMAGES).is_dir():
        return cityscapes.open_folder(root, options)
    if coco.annotation_files(root):
        return coco.open_folder(root, options)
    if (root / ade20k.NAMES).is_file():
        return ade20k.open_folder(root, options)
    if folders.split_folders(root):
        return folders.open_folder(root, options)
    raise InputError(
        f"dataset folder {str(root)!r} must have images/SPLIT and masks/SPLIT (or annotations, labels), "
        f"{voc.LISTS} as PASCAL VOC, {cityscapes.IMAGES} as Cityscapes or annotations/instances_*.json as COCO; it has "
        "none of them."
    )
