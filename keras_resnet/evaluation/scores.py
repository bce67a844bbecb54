"""Scores of a network averaged to one log-probability for each image and class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from scipy.special import log_softmax, logsumexp

from keras_resnet.errors import InputError, check_choice
from keras_resnet.evaluation.choices import AVERAGES


def are_probabilities(scores: np.ndarray) -> bool:
    """Return whether all rows of scores [...,K] are distributions: not negative, with a sum of 1 within 1e-3."""
    return bool(np.all(scores >= 0) and np.all(np.abs(scores.sum(-1) - 1) <= 1e-3))


def log_probabilities(scores: np.ndarray, from_logits: bool) -> np.ndarray:
    """Convert logits or probabilities [...,K] to log-probabilities f64[...,K].

    Raises:
        ValueError: a probability is negative or above 1.
    """
    scores = np.asarray(scores, "float64")
    if from_logits:
        return log_softmax(scores, axis=-1)
    if np.any(scores < 0) or np.any(scores > 1.001):
        raise InputError(f"scores must be from 0 to 1 for probabilities; they reach {scores.min()} and {scores.max()}.")
    with np.errstate(divide="ignore"):
        return np.log(scores)


def average(log_probabilities: np.ndarray, axis: int | tuple[int, ...], how: str = "probabilities") -> np.ndarray:
    """Average over views, positions or networks.

    Averaging log-probabilities and normalizing again equals averaging logits, which differ from them by the same number
    for all classes.

    Args:
        log_probabilities: f64[...,K]; the last axis is that of the classes.
        axis: the axis or axes to average over.
        how: one of `AVERAGES`.

    Returns:
        Log-probabilities f64 without these axes.

    Raises:
        ValueError: unknown `how`.
    """
    check_choice("average", how, AVERAGES)
    if how == "logits":
        return log_softmax(log_probabilities.mean(axis), axis=-1)
    axes = (axis,) if isinstance(axis, int) else axis
    return logsumexp(log_probabilities, axis) - np.log(np.prod([log_probabilities.shape[number] for number in axes]))


class RunningAverage:
    """The average of several passes over a data set; it takes the memory of one pass, f32[N,K].

    Args:
        how: one of `AVERAGES`.
    """

    def __init__(self, how: str = "probabilities"):
        check_choice("average", how, AVERAGES)
        self.how, self.passes = how, 0
        self.total: np.ndarray | None = None

    def add(self, log_probabilities: np.ndarray) -> None:
        """Add the log-probabilities f[N,K] of a pass."""
        values = log_probabilities.astype("float32")
        if self.total is None:
            self.total = values
        elif self.how == "logits":
            self.total += values
        else:
            np.logaddexp(self.total, values, out=self.total)
        self.passes += 1

    def result(self) -> np.ndarray:
        """Return the average log-probabilities f64[N,K]."""
        assert self.total is not None, "no pass was added"
        total = self.total.astype("float64")
        return log_softmax(total / self.passes, axis=-1) if self.how == "logits" else total - np.log(self.passes)


def score(
    scores: Callable, batches: Iterable, *, average_by: str = "probabilities", from_logits: bool | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Score batches of images, averaged over views and positions.

    Args:
        scores: f32[B,H,W,3] -> f32[B,K], or f32[B,...,K] with scores for each position; a Keras model or any function.
        batches: batches (f32[B,H,W,3], i32[B]), or (f32[B,V,H,W,3], i32[B]) with V views of each image.
        average_by: what is averaged over views and positions, one of `AVERAGES`.
        from_logits: whether the scores are logits or probabilities; None to treat them as probabilities if all of the
            first batch are distributions.

    Yields:
        Labels i64[B] and log-probabilities f64[B,K] of each batch.

    Raises:
        ValueError: labels or scores have another shape, or probabilities are outside [0, 1].
    """
    for images, labels in batches:
        labels = np.asarray(labels, "int64")
        if labels.ndim != 1:
            raise InputError(f"labels must be a class for each image, of shape [B]; got {list(labels.shape)}.")
        views = images.shape[1] if len(images.shape) == 5 else 1
        if len(images.shape) == 5:
            images = np.reshape(np.asarray(images), (-1, *np.shape(images)[2:]))
        values = np.asarray(scores(images))
        if values.ndim < 2 or len(values) != views * len(labels):
            raise InputError(f"scores must have shape [{views * len(labels)},K]; got {list(values.shape)}.")
        if from_logits is None:
            from_logits = not are_probabilities(values)
        values = log_probabilities(values.astype("float64"), from_logits)
        values = values.reshape(len(labels), views, *values.shape[1:])
        yield labels, average(values, tuple(range(1, values.ndim - 1)), average_by)
