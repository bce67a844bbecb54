"""Segmentation data sets of tensorflow-datasets: `oxford_iiit_pet`, `cityscapes`, `scene_parse150`."""

from __future__ import annotations

import functools
import pathlib
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from keras_resnet import files
from keras_resnet.data import sources
from keras_resnet.errors import InputError, did_you_mean
from keras_resnet.segmentation.data import ade20k, cityscapes, colors
from keras_resnet.segmentation.data.examples import Example, SegmentationDataset, SegmentationInfo
from keras_resnet.segmentation.data.labels import LabelOptions


class Features(NamedTuple):
    """The features of a data set that hold images and masks, its classes, and what masks are by default.

    Attributes:
        image: feature of the image.
        mask: feature of the mask.
        class_names: names of the classes.
        values: value of each class in masks.
        ignored: values to ignore.
    """

    image: str
    mask: str
    class_names: tuple[str, ...]
    values: tuple[int, ...]
    ignored: tuple[int, ...] = ()


KNOWN = {
    "oxford_iiit_pet": Features("image", "segmentation_mask", ("pet", "background", "border"), (1, 2, 3)),
    "cityscapes": Features(
        "image_left",
        "segmentation_label",
        tuple(cityscapes.CLASSES),
        cityscapes.IDS,
        tuple(id for id in range(cityscapes.LARGEST_ID + 1) if id not in cityscapes.IDS),
    ),
    "scene_parse150": Features(
        "image",
        "annotation",
        tuple(f"class {number}" for number in range(1, ade20k.CLASSES + 1)),
        tuple(range(1, ade20k.CLASSES + 1)),
        (0,),
    ),
}
"""Name of a data set -> its features."""

ALLOWED = (
    "'folder:PATH', 'voc:PATH', 'cityscapes:PATH', 'ade20k:PATH', 'coco:PATH', or one of tensorflow-datasets' "
    f"{', '.join(map(repr, KNOWN))}"
)


def open_prepared(name: str, data_dir: str | None, download: bool, options: LabelOptions) -> SegmentationDataset:
    """Open a prepared data set; when a split is first read, its encoded images and masks are written to files.

    Args:
        name: name of the data set, such as "oxford_iiit_pet" or "oxford_iiit_pet:4.0.0".
        data_dir: folder of prepared data sets; by default ~/tensorflow_datasets.
        download: download and prepare the data set if it is missing.
        options: classes and values of the masks; by default those of `KNOWN`.

    Raises:
        ValueError: the data set is unknown or not prepared.
    """
    known = KNOWN.get(name.split(":")[0].split("/")[0])
    if known is None:
        kind, colon, _ = name.partition(":")
        hint = did_you_mean(kind, files.PATH_KINDS if colon else KNOWN)
        raise InputError(f"dataset must be {ALLOWED}; got {name!r}{hint}.")
    builder = sources.open_builder(name, data_dir, download, ALLOWED, (known.image, known.mask))
    names = options.class_names or known.class_names
    format = options.format(len(names), known.values, known.ignored)

    @functools.cache
    def read(split: str) -> list[Example]:
        folder = pathlib.Path(builder.data_dir) / "keras_resnet_images" / split
        return [
            Example(str(image), image.stem, functools.partial(format.read, str(mask)), str(mask))
            for image, mask in _written(builder, split, known, folder)
        ]

    counts = {split: info.num_examples for split, info in builder.info.splits.items()}
    palette = np.array([color for _, color in cityscapes.CLASSES.values()], "uint8")
    if names != tuple(cityscapes.CLASSES):
        palette = colors.palette(names)
    info = SegmentationInfo(name, names, None, counts, colors=colors.to_hex(palette))
    return SegmentationDataset(info, read)


def _written(
    builder: Any, split: str, known: Features, folder: pathlib.Path
) -> list[tuple[pathlib.Path, pathlib.Path]]:
    """Write the encoded images and masks of a split to files that do not exist yet; return the pairs."""
    import tensorflow_datasets as tfds

    folder.mkdir(parents=True, exist_ok=True)
    count = builder.info.splits[split].num_examples
    pairs = [(folder / f"{number:07d}.jpg", folder / f"{number:07d}_mask.png") for number in range(count)]
    if all(path.exists() for pair in pairs for path in pair):
        return pairs
    skip = {feature: tfds.decode.SkipDecoding() for feature in (known.image, known.mask)}
    records = tfds.as_numpy(builder.as_dataset(split=split, decoders=skip))
    for pair, record in zip(tqdm(pairs, split, unit="image", disable=None), records, strict=True):
        for path, feature in zip(pair, (known.image, known.mask), strict=True):
            if not path.exists():
                files.write(path, record[feature])
    return pairs
