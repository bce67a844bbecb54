"""From scores to names: the top classes of each image, for ImageNet or any own list of labels."""

from __future__ import annotations

import csv
import functools
import importlib.resources
from collections.abc import Sequence

import numpy as np

from keras_resnet.errors import InputError


@functools.cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """Return (WordNet id, name) of ImageNet's 1000 classes in the order of the classifier's outputs."""
    source = importlib.resources.files("keras_resnet.models").joinpath("imagenet_classes.csv")
    with source.open(encoding="utf-8", newline="") as file:
        return tuple((row["wnid"], row["name"]) for row in csv.DictReader(file))


def decode_predictions(
    preds, top: int = 5, labels: Sequence[str] | None = None
) -> list[list[tuple[str | int, str, float]]]:
    """Name the `top` best classes of each image, best first; needs no network.

    Args:
        preds: f32[B,K] scores.
        top: how many classes, from 1 to K.
        labels: names of the K classes; by default ImageNet's 1000.

    Returns:
        For each image a list of (class id, name, score), as keras.applications' functions of this name; the id is the
        WordNet id for ImageNet, and the index for own labels.

    Raises:
        ValueError: `preds` is not [B,K] with as many columns as labels, or `top` is out of range.
    """
    scores = np.asarray(preds)
    classes = imagenet_classes() if labels is None else tuple(enumerate(labels))
    if scores.ndim != 2 or scores.shape[1] != len(classes):
        raise InputError(
            f"preds must have shape [B,{len(classes)}], a column for each label; got {list(scores.shape)}."
        )
    if isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= len(classes):
        raise InputError(f"top must be an integer from 1 to {len(classes)}; got {top!r}.")
    # As floats, since of integers the smallest one has no opposite, and unsigned ones have none at all.
    best = np.argsort(-scores.astype("float64"), axis=1, kind="stable")[:, :top]
    return [[(*classes[i], float(row[i])) for i in order] for row, order in zip(scores, best, strict=True)]
