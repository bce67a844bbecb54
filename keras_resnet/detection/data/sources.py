"""Detection data sets by name."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from keras_resnet import files
from keras_resnet.detection.data import coco, tfds, voc
from keras_resnet.detection.data.annotations import DetectionDataset
from keras_resnet.errors import InputError


def load(
    name: str,
    data_dir: str | None = None,
    download: bool = False,
    class_names: Sequence[str] = (),
    exif: bool = False,
) -> DetectionDataset:
    """Open a detection data set by name.

    Args:
        name: "folder:/path" for a folder in VOC's layout (`Annotations`, `JPEGImages`, `ImageSets/Main`) or in COCO's
            (`annotations/instances_SPLIT.json`, images in `SPLIT/`), or a data set of tensorflow-datasets such as
            "voc/2007".
        data_dir: folder of prepared tensorflow-datasets; by default ~/tensorflow_datasets.
        download: download and prepare a data set of tensorflow-datasets if it is missing.
        class_names: classes of a folder in the order of their labels; by default all that occur, sorted, or in COCO's
            layout those of the annotation files.
        exif: whether images are rotated by their EXIF orientation; boxes are those of the rotated images.

    Raises:
        ValueError: the data set does not exist, or the folder has neither layout.
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
    if (root / "ImageSets/Main").is_dir():
        return voc.open_folder(root, class_names, exif)
    if coco.annotation_files(root):
        return coco.open_folder(root, class_names, exif)
    raise InputError(
        f"dataset folder {str(root)!r} must have ImageSets/Main as PASCAL VOC has, or annotations/instances_*.json as "
        "COCO has; it has neither."
    )
