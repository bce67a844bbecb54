"""Localization data sets by name."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from keras_resnet import files
from keras_resnet.detection.data import sources as detection
from keras_resnet.errors import InputError
from keras_resnet.localization.data import ilsvrc, main_class, synthetic, tfds
from keras_resnet.localization.data.examples import LocalizationDataset


def load(
    name: str,
    data_dir: str | None = None,
    download: bool = False,
    class_names: Sequence[str] = (),
    exif: bool = False,
    seed: int = 0,
) -> LocalizationDataset:
    """Open a localization data set by name.

    Args:
        name: one of
            * "folder:/path" for a folder with `ILSVRC/Data/CLS-LOC`, see `ilsvrc`, or in a layout of detection data
              sets, such as PASCAL VOC's, in which the class of an image is that of its largest box;
            * "synthetic:96x96x5" for drawn images of this height, width and number of classes;
            * a data set of tensorflow-datasets with boxes, such as "stanford_dogs".
        data_dir: folder of prepared tensorflow-datasets; by default ~/tensorflow_datasets.
        download: download and prepare a data set of tensorflow-datasets if it is missing.
        class_names: classes of a folder in the order of their labels; by default all.
        exif: whether images are rotated by their EXIF orientation; boxes are those of the rotated images.
        seed: seed of the splits that are made of detection data without any.

    Raises:
        ValueError: the data set does not exist, or the folder has another layout.
    """
    kind, _, folder = name.partition(":")
    if kind == "synthetic":
        return synthetic.load(name)
    if kind != "folder":
        return tfds.open_prepared(name, data_dir, download, exif)
    root = pathlib.Path(files.absolute_dataset(name).partition(":")[2])
    if folder and root.is_dir() and ilsvrc.base_of(root):
        return ilsvrc.open_folder(root, class_names)
    if folder and (root / "train").is_dir() and detection.layout(root) is None:
        raise InputError(
            f"dataset folder {str(root)!r} must have boxes: {ilsvrc.IMAGES} and {ilsvrc.ANNOTATIONS} as ILSVRC, or "
            "annotations as PASCAL VOC, COCO or YOLO; it has folders of images only."
        )
    return main_class.dataset_of(detection.load(name, data_dir, download, class_names, exif, seed))
