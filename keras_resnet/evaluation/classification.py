"""Exact top-1 and top-5 error of any function from images to scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np


class Errors(NamedTuple):
    """Errors in percent, as the paper reports them, and how many images they are over."""

    top1_error: float
    top5_error: float
    count: int


def evaluate(scores: Callable, batches: Iterable) -> Errors:
    """Count the errors over batches.

    Args:
        scores: f32[B,H,W,3] -> f32[B,K]; a Keras model or any other function.
        batches: of (f32[B,H,W,3], i32[B]).

    Returns:
        `Errors`; with fewer than five classes the top-5 error is 0.
    """
    first = fifth = count = 0
    for images, labels in batches:
        values = np.asarray(scores(images), "float32")
        labels = np.asarray(labels)
        own = np.take_along_axis(values, labels[:, None], axis=1)
        # Classes scored above the right one; a score that is not a number counts as wrong.
        rank = np.sum(~(values <= own), axis=1)
        first += int(np.sum(rank >= 1))
        fifth += int(np.sum(rank >= 5))
        count += len(labels)
    if not count:
        raise ValueError("batches must hold at least one image; got none.")
    return Errors(100 * first / count, 100 * fifth / count, count)
