"""Decode scores into class names, for ImageNet or any list of labels."""

from __future__ import annotations

import csv
import functools
import importlib.resources
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_resnet.errors import InputError


@functools.cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """Return (WordNet id, name) of the 1000 ImageNet classes in the order of the classifier's outputs."""
    text = importlib.resources.files("keras_resnet.models").joinpath("imagenet_classes.csv").read_text("utf-8")
    return tuple((row["wnid"], row["name"]) for row in csv.DictReader(text.splitlines()))


def decode_predictions(
    preds: Any, top: int = 5, labels: Sequence[str] | None = None
) -> list[list[tuple[str | int, str, float]]]:
    """Return the `top` classes of each image with the highest scores, in descending order.

    Args:
        preds: f32[B,K] scores.
        top: number of classes per image, from 1 to K.
        labels: names of the K classes; by default the 1000 ImageNet classes.

    Returns:
        A list of (class id, name, score) for each image, as in keras.applications. The class id is the WordNet id for
        ImageNet, and the index for other labels.

    Raises:
        ValueError: the shape of `preds` is not [B,K], or `top` is out of range.
    """
    scores = np.asarray(preds)
    classes: Sequence[tuple[str | int, str]] = imagenet_classes() if labels is None else tuple(enumerate(labels))
    if scores.ndim != 2 or scores.shape[1] != len(classes):
        raise InputError(
            f"preds must have shape [B,{len(classes)}], one column for each label; got {list(scores.shape)}."
        )
    if isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= len(classes):
        raise InputError(f"top must be an integer from 1 to {len(classes)}; got {top!r}.")
    # Integers cannot be negated: the smallest signed one overflows, and unsigned ones wrap around.
    best = np.argsort(-scores.astype("float64"), axis=1, kind="stable")[:, :top]
    return [[(*classes[i], float(row[i])) for i in order] for row, order in zip(scores, best, strict=True)]
