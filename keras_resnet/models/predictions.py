"""Decode scores into class names, for ImageNet or any list of labels."""

from __future__ import annotations

import csv
import functools
import importlib.resources
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_resnet.errors import InputError, integer


@functools.cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """Return (WordNet id, name) of the 1000 ImageNet classes in the order of the classifier's outputs."""
    text = importlib.resources.files("keras_resnet.models").joinpath("imagenet_classes.csv").read_text("utf-8")
    return tuple((row["wnid"], row["name"]) for row in csv.DictReader(text.splitlines()))


@functools.cache
def keras_classes() -> tuple[tuple[str, str], ...]:
    """Return `imagenet_classes` with the names of keras.applications, which have underscores instead of spaces."""
    return tuple((wnid, name.replace(" ", "_")) for wnid, name in imagenet_classes())


def decode_predictions(
    preds: Any, top: int = 5, labels: Sequence[str] | None = None
) -> list[list[tuple[str | int, str, float]]]:
    """Return the `top` classes of each image with the highest scores, in descending order.

    Args:
        preds: f32[B,K] scores, an array or a tensor of any backend.
        top: number of classes per image, at least 1; all classes if there are fewer.
        labels: names of the K classes; by default the 1000 ImageNet classes, spelled as in keras.applications.

    Returns:
        A list of (class id, name, score) for each image, as in keras.applications: ("n02504458", "African_elephant",
        0.9). The class id is the WordNet id for ImageNet, and the index for other labels.

    Raises:
        ValueError: the shape of `preds` is not [B,K], or `top` is not a positive integer.
    """
    scores = np.asarray(preds.detach().cpu() if hasattr(preds, "detach") else preds)
    classes: Sequence[tuple[str | int, str]] = keras_classes() if labels is None else tuple(enumerate(labels))
    if scores.ndim != 2 or scores.shape[1] != len(classes):
        raise InputError(
            f"preds must have shape [B,{len(classes)}], one column for each label; got {list(scores.shape)}."
        )
    top = integer("top", top, minimum=1)
    # Integers cannot be negated: the smallest signed one overflows, and unsigned ones wrap around.
    best = np.argsort(-scores.astype("float64"), axis=1, kind="stable")[:, :top]
    return [[(*classes[i], float(row[i])) for i in order] for row, order in zip(scores, best, strict=True)]
