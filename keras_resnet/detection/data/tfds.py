"""Detection data sets of tensorflow-datasets: those with the features `image` and `objects`."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from keras_resnet import files
from keras_resnet.data import sources
from keras_resnet.data.dataset import DatasetInfo
from keras_resnet.data.finder import image_size
from keras_resnet.detection.data import coco
from keras_resnet.detection.data.annotations import Annotation, AnnotationCollector, DetectionDataset


def open_prepared(
    name: str, data_dir: str | None = None, download: bool = False, exif: bool = False
) -> DetectionDataset:
    """Open a prepared data set; when a split is first read, its encoded images are written to files next to it.

    Args:
        name: name of the data set, such as "voc/2007".
        data_dir: folder of prepared data sets; by default ~/tensorflow_datasets.
        download: download and prepare the data set if it is missing.
        exif: whether images are rotated by their EXIF orientation.

    Raises:
        ValueError: the data set does not exist, is not prepared, or has no boxes.
    """
    allowed = "'folder:PATH' or a set of tensorflow-datasets with boxes like 'voc/2007'"
    builder = sources.open_builder(name, data_dir, download, allowed, ("image", "objects"))

    @functools.cache
    def read(split: str) -> list[Annotation]:
        collector = AnnotationCollector(f"{name}, split {split}", exif)
        for path, record in records(builder, split):
            _add(collector, path, record)
        return collector.finish()

    splits = {split: info.num_examples for split, info in builder.info.splits.items()}
    class_names = tuple(builder.info.features["objects"]["label"].names)
    categories = coco.CATEGORY_IDS if len(class_names) == len(coco.CATEGORY_IDS) else ()
    return DetectionDataset(DatasetInfo(name, class_names, None, splits), read, categories)


def records(builder: Any, split: str) -> Iterator[tuple[pathlib.Path, dict[str, Any]]]:
    """Yield the records of a split in NumPy's types, each with the file that its encoded image is written to once.

    Args:
        builder: the prepared data set, a `tfds.core.DatasetBuilder`.
        split: name of the split.
    """
    import tensorflow_datasets

    folder = pathlib.Path(builder.data_dir) / "keras_resnet_images" / split
    folder.mkdir(parents=True, exist_ok=True)
    contents = builder.as_dataset(split=split, decoders={"image": tensorflow_datasets.decode.SkipDecoding()})
    contents = tensorflow_datasets.as_numpy(contents)
    count = builder.info.splits[split].num_examples
    for number, record in enumerate(tqdm(contents, split, count, unit="image", disable=None)):
        path = folder / f"{number:07d}.jpg"
        if not path.exists():
            files.write(path, record["image"])
        yield path, record


def corners(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return boxes f32[n,4] in shares of the sides in pixels of an image, height and width: f64[n,4].

    Rounding restores the pixels, or their fractions, that were annotated, from shares in float32.
    """
    return np.round(np.asarray(boxes, "float64").reshape(-1, 4) * np.array([*size, *size], "float64"), 3)


def id_of(record: dict[str, Any], path: pathlib.Path) -> str | int:
    """Return the name or number of the image of a record; by default the name of its file."""
    id = record.get("image/id", record.get("image/filename", path.name))
    return id.decode() if isinstance(id, bytes) else id if isinstance(id, str) else int(id)


def _add(collector: AnnotationCollector, path: pathlib.Path, record: dict[str, Any]) -> None:
    objects = record["objects"]
    boxes = corners(objects["bbox"], image_size(path, collector.exif))
    no_flags = np.zeros(len(boxes), bool)
    areas = objects.get("area")
    collector.add(
        path,
        id_of(record, path),
        boxes,
        labels=np.asarray(objects["label"], "int32"),
        valid=(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]),
        difficult=np.asarray(objects.get("is_difficult", no_flags), bool),
        crowd=np.asarray(objects.get("is_crowd", no_flags), bool),
        areas=None if areas is None else np.asarray(areas, "float64"),
    )
