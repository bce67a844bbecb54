"""Sets of tensorflow-datasets with boxes: one class and boxes for each image, or objects with classes of their own."""

from __future__ import annotations

import functools
from typing import Any

from keras_resnet.data import sources
from keras_resnet.data.dataset import DatasetInfo
from keras_resnet.data.finder import image_size
from keras_resnet.detection.data import tfds
from keras_resnet.errors import InputError
from keras_resnet.localization.data import main_class
from keras_resnet.localization.data.examples import Example, LocalizationDataset, areas

ALLOWED = "'folder:PATH', 'synthetic:HxWxCLASSES' or a set of tensorflow-datasets with boxes like 'stanford_dogs'"
"""The names of data sets, for messages."""


def open_prepared(
    name: str, data_dir: str | None = None, download: bool = False, exif: bool = False
) -> LocalizationDataset:
    """Open a prepared data set; when a split is first read, its encoded images are written to files next to it.

    A data set with a `label` for each image has the boxes in `bbox` or `objects/bbox`, and they are of this class. The
    class of an image of other data sets is that of its largest object.

    Args:
        name: name of the data set, such as "stanford_dogs", "cars196" or "voc/2007".
        data_dir: folder of prepared data sets; by default ~/tensorflow_datasets.
        download: download and prepare the data set if it is missing.
        exif: whether images are rotated by their EXIF orientation.

    Raises:
        ValueError: the data set does not exist, is not prepared, or has no boxes.
    """
    builder = sources.open_builder(name, data_dir, download, ALLOWED, ("image",))
    features = builder.info.features
    if "label" not in features:
        return main_class.dataset_of(tfds.open_prepared(name, data_dir, download, exif))
    if "bbox" not in features and not ("objects" in features and "bbox" in features["objects"]):
        raise InputError(f"dataset must have boxes, in bbox or objects; {name!r} has {sorted(features)}.")

    @functools.cache
    def read(split: str) -> list[Example | None]:
        return [_example(path, record, exif) for path, record in tfds.records(builder, split)]

    splits = {split: info.num_examples for split, info in builder.info.splits.items()}
    return LocalizationDataset(DatasetInfo(name, tuple(features["label"].names), None, splits), read)


def _example(path: Any, record: dict[str, Any], exif: bool) -> Example | None:
    """The example of a record; None if it has no box."""
    size = image_size(path, exif)
    boxes = tfds.corners(record["bbox"] if "bbox" in record else record["objects"]["bbox"], size)
    boxes = boxes[areas(boxes) > 0]
    if not len(boxes):
        return None
    return Example(str(path), tfds.id_of(record, path), size, int(record["label"]), boxes)
