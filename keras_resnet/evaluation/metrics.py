"""Exact errors of any function from images to scores, and the outcome of each image for their analysis."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from scipy.stats import binomtest

from keras_resnet.errors import InputError
from keras_resnet.evaluation import scores as scoring

CALIBRATION_BINS = 15
"""Bins of confidence of the expected calibration error."""


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """Per-image predictions, in the order of the split; every metric is computed from them.

    Attributes:
        classes: number of classes K.
        label: i64[N].
        predicted: i64[N], the class with the highest score, of equal ones the first; -1 if a score is NaN.
        rank: i64[N], number of classes that rank above the correct one; K if a score is NaN.
        confidence: f64[N], probability of the predicted class.
        log_probability: f64[N], log-probability of the correct class.
    """

    classes: int
    label: np.ndarray
    predicted: np.ndarray
    rank: np.ndarray
    confidence: np.ndarray
    log_probability: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, log_probabilities: np.ndarray) -> Outcomes:
        """Compare labels i64[N] with log-probabilities f64[N,K].

        Raises:
            ValueError: a label is outside 0 to K - 1.
        """
        count, classes = log_probabilities.shape
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            worst = labels.max() if labels.max() >= classes else labels.min()
            raise InputError(f"labels must be from 0 to {classes - 1}, one for each score; got {worst}.")
        correct = log_probabilities[np.arange(count), labels][:, None]
        valid = ~np.isnan(log_probabilities).any(1)
        # Equal scores rank as in argmax: the lower class first.
        ties = (log_probabilities == correct) & (np.arange(classes) < labels[:, None])
        above = (log_probabilities > correct) | ties
        predicted = np.where(valid, np.argmax(log_probabilities, 1), -1)
        return cls(
            classes,
            labels,
            predicted,
            np.where(valid, above.sum(1), classes),
            np.exp(log_probabilities[np.arange(count), predicted]),
            correct[:, 0],
        )

    @classmethod
    def joined(cls, parts: Iterable[Outcomes]) -> Outcomes:
        """Concatenate the outcomes of consecutive batches.

        Raises:
            ValueError: there are no images.
        """
        parts = list(parts)
        if not sum(len(part.label) for part in parts):
            raise InputError("batches must hold at least one image; got none.")
        names = [field.name for field in dataclasses.fields(cls)][1:]
        return cls(parts[0].classes, *(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclasses.dataclass(frozen=True)
class Result:
    """Metrics over a data set; errors are in percent, as in the paper.

    Attributes:
        count: number of images.
        top1_error: percentage of images whose best class is wrong.
        top1_interval: its 95 % confidence interval (Wilson, 1927).
        top5_error: percentage of images whose five best classes are all wrong; None for five classes or fewer, as the
            five best are then all classes.
        top5_interval: its 95 % confidence interval.
        loss: mean cross-entropy in nats.
        calibration_error: expected calibration error of 15 bins (Guo et al., 2017), in percent.
        kappa: Cohen's kappa (1960), agreement beyond chance: 1 without errors, 0 for guessing; NaN if all labels and
            predictions are of one class.
        macro_f1: mean of F1, the harmonic mean of precision and recall, over the classes that occur.
        not_a_number: number of images with a NaN score; they count as wrong.
        outcomes: the per-image predictions.
    """

    count: int
    top1_error: float
    top1_interval: tuple[float, float]
    top5_error: float | None
    top5_interval: tuple[float, float] | None
    loss: float
    calibration_error: float
    kappa: float
    macro_f1: float
    not_a_number: int
    outcomes: Outcomes = dataclasses.field(repr=False)

    @classmethod
    def of(cls, outcomes: Outcomes) -> Result:
        """Compute the metrics."""
        count = len(outcomes.label)
        top1, top5 = (int(np.sum(outcomes.rank >= place)) for place in (1, 5))
        bins = calibration(outcomes)
        has_top5 = outcomes.classes > 5
        gap = np.sum(bins.count * np.abs(bins.confidence - bins.accuracy)) / max(bins.count.sum(), 1)
        return cls(
            count,
            100 * top1 / count,
            interval(top1, count),
            100 * top5 / count if has_top5 else None,
            interval(top5, count) if has_top5 else None,
            float(-np.mean(outcomes.log_probability)),
            float(100 * gap),
            *agreement(outcomes),
            int(np.sum(outcomes.predicted < 0)),
            outcomes,
        )

    def numbers(self) -> dict[str, Any]:
        """Return the metrics without the outcomes, in JSON's types; None replaces NaN and infinite values.

        The top-5 error is left out where there is none.
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values = {name: value for name, value in values.items() if name != "outcomes" and value is not None}
        for name in ("loss", "kappa"):
            values[name] = values[name] if np.isfinite(values[name]) else None
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def evaluate(
    scores: Callable,
    batches: Iterable,
    *,
    average: str = "probabilities",
    from_logits: bool | None = None,
) -> Result:
    """Evaluate a function over batches.

    Args:
        scores: f32[B,H,W,3] -> f32[B,K]; a Keras model, an exported one or any other function.
        batches: batches (f32[B,H,W,3], i32[B]), such as those of `keras_resnet.data.pipeline.evaluate`, or with V views
            of each image, f32[B,V,H,W,3].
        average: what is averaged over views: "probabilities" or "logits".
        from_logits: whether scores are logits or probabilities; None to infer it from the first batch.

    Returns:
        The metrics.

    Raises:
        ValueError: there are no images, a label is outside the classes, or scores have another shape.
    """
    scored = scoring.score(scores, batches, average_by=average, from_logits=from_logits)
    return Result.of(Outcomes.joined(Outcomes.of(labels, values) for labels, values in scored))


def interval(wrong: int, count: int) -> tuple[float, float]:
    """Return the 95 % confidence interval, in percent, of the error of `wrong` among `count` (Wilson, 1927)."""
    low, high = binomtest(wrong, count).proportion_ci(0.95, method="wilson")
    return 100 * float(low), 100 * float(high)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Images by confidence in bins of equal width: their count, mean confidence and accuracy, each [bins]."""

    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def calibration(outcomes: Outcomes, bins: int = CALIBRATION_BINS) -> Calibration:
    """Compute accuracy over confidence (Guo et al., 2017); the values of empty bins are 0."""
    known = outcomes.predicted >= 0
    confidence, correct = outcomes.confidence[known], outcomes.rank[known] == 0
    # Bins (0, 1/n], (1/n, 2/n], ... as in the cited paper.
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count, total, hits = (np.bincount(place, weights, bins) for weights in (None, confidence, correct))
    return Calibration(count, total / np.maximum(count, 1), hits / np.maximum(count, 1))


def confusion(outcomes: Outcomes) -> np.ndarray:
    """Count images by label and predicted class, i64[K,K]; images with a NaN score are left out."""
    known = outcomes.predicted >= 0
    pairs = outcomes.label[known] * outcomes.classes + outcomes.predicted[known]
    return np.bincount(pairs, minlength=outcomes.classes**2).reshape(outcomes.classes, outcomes.classes)


def agreement(outcomes: Outcomes) -> tuple[float, float]:
    """Return Cohen's kappa and the macro-averaged F1 score, as defined in `Result`."""
    count, classes = len(outcomes.label), outcomes.classes
    correct = np.bincount(outcomes.label[outcomes.rank == 0], minlength=classes)
    labels = np.bincount(outcomes.label, minlength=classes)
    predictions = np.bincount(outcomes.predicted[outcomes.predicted >= 0], minlength=classes)
    chance = labels @ predictions / count**2
    kappa = (correct.sum() / count - chance) / (1 - chance) if chance < 1 else np.nan
    occurring = labels + predictions
    return float(kappa), float(np.mean(2 * correct[occurring > 0] / occurring[occurring > 0]))


def frequent_confusions(outcomes: Outcomes, most: int) -> list[tuple[int, int, int]]:
    """Return (label, predicted class, number of images) of the `most` most frequent confusions."""
    counts = confusion(outcomes)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:most]
    pairs = zip(*np.unravel_index(order, counts.shape), strict=True)
    return [(int(label), int(other), int(counts[label, other])) for label, other in pairs if counts[label, other]]


def class_errors(outcomes: Outcomes) -> tuple[np.ndarray, np.ndarray]:
    """Return the top-1 error of each class in percent f64[K], NaN without images, and its number of images i64[K]."""
    count = np.bincount(outcomes.label, minlength=outcomes.classes)
    wrong = np.bincount(outcomes.label[outcomes.rank >= 1], minlength=outcomes.classes)
    with np.errstate(invalid="ignore"):
        return 100 * wrong / count, count


def confident_mistakes(outcomes: Outcomes, most: int) -> np.ndarray:
    """Return the indices of the `most` misclassified images with the highest confidence, in falling order."""
    wrong = np.flatnonzero((outcomes.rank >= 1) & (outcomes.predicted >= 0))
    return wrong[np.argsort(-outcomes.confidence[wrong], kind="stable")][:most]
