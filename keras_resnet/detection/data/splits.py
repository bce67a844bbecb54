"""Make the splits that a folder does not have, at random from a seed."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from keras_resnet.data.dataset import SPLIT_NAMES, usual_split
from keras_resnet.detection.data.annotations import Annotation, DetectionDataset, logger
from keras_resnet.errors import counted

HELD_OUT = 0.15
"""Fraction of the images of each split that is made; at least one image."""


def completed(dataset: DetectionDataset, seed: int = 0) -> DetectionDataset:
    """Return a data set that has images to evaluate on during training.

    A single split is divided into train, val and test; of train and test, val is taken from train. A data set with a
    split for validation, or with too few images, is returned as it is. The division is a function of the seed.

    Args:
        dataset: the data set.
        seed: the seed.
    """
    splits = dataset.info.splits
    usual = {usual_split(name): name for name in splits}
    made = ("val", "test") if len(splits) == 1 else ("val",)
    source = next(iter(splits)) if len(splits) == 1 else usual.get("train", "")
    if "val" in usual or not source or splits[source] <= len(made):
        return dataset
    count = max(1, round(HELD_OUT * splits[source]))
    order = np.random.default_rng(seed).permutation(splits[source])
    parts = {name: np.sort(order[number * count : (number + 1) * count]) for number, name in enumerate(made)}
    parts["train"] = np.sort(order[len(made) * count :])
    counts = {name: len(parts[name]) for name in SPLIT_NAMES if name in parts}

    @functools.cache
    def read(split: str) -> list[Annotation]:
        if split not in parts:
            return dataset.read(split)
        annotations = dataset.read(source)
        return [annotations[index] for index in parts[split]]

    rest = {name: number for name, number in splits.items() if name not in ("train", source)}
    info = dataclasses.replace(dataset.info, splits=counts | rest)
    sizes = ", ".join(f"{name} {counted(number, 'image')}" for name, number in counts.items())
    what = "no splits" if len(splits) == 1 else "no split for validation"
    note = f"the folder has {what}; made at random with seed {seed}: {sizes}"
    logger.warning("%s: %s", dataset.info.name, note)
    return dataclasses.replace(dataset, info=info, read=read, notes=(*dataset.notes, note))
