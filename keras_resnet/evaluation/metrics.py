"""Exact errors of any function from images to scores, with what one needs to see where they come from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
from scipy.stats import binomtest

from keras_resnet.errors import InputError
from keras_resnet.evaluation import scores as scoring

CALIBRATION_BINS = 15


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """What became of each of N images, in the order of the split; every number of a report follows from it.

    Attributes:
        classes: number of classes K.
        label: i64[N].
        predicted: i64[N], the class with the highest score, the first one among equals; -1 where a score is not a
            number.
        rank: i64[N], how many classes are before the right one; K where a score is not a number.
        confidence: f64[N], probability of the predicted class.
        log_probability: f64[N], of the right class.
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
            ValueError: a label is not from 0 to K - 1.
        """
        count, classes = log_probabilities.shape
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            worst = labels.max() if labels.max() >= classes else labels.min()
            raise InputError(f"labels must be from 0 to {classes - 1}, one for each score; one is {worst}.")
        own = log_probabilities[np.arange(count), labels][:, None]
        finite = ~np.isnan(log_probabilities).any(1)
        # As argmax decides: among equal scores the lower class comes first.
        before = (log_probabilities > own) | ((log_probabilities == own) & (np.arange(classes) < labels[:, None]))
        predicted = np.where(finite, np.argmax(log_probabilities, 1), -1)
        return cls(
            classes,
            labels,
            predicted,
            np.where(finite, before.sum(1), classes),
            np.exp(log_probabilities[np.arange(count), predicted]),
            own[:, 0],
        )

    @classmethod
    def joined(cls, parts: Iterable[Outcomes]) -> Outcomes:
        """Put the outcomes of consecutive batches together.

        Raises:
            ValueError: there are none.
        """
        parts = list(parts)
        if not sum(len(part.label) for part in parts):
            raise InputError("batches must hold at least one image; got none.")
        names = [field.name for field in dataclasses.fields(cls)][1:]
        return cls(parts[0].classes, *(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclasses.dataclass(frozen=True)
class Result:
    """Numbers over a data set; errors are in percent, as the paper reports them.

    Attributes:
        count: images.
        top1_error: share of images whose best class is wrong.
        top1_interval: its 95 % interval (Wilson, 1927).
        top5_error: share of images whose five best classes are all wrong; 0 with five classes or fewer.
        top5_interval: its 95 % interval.
        loss: mean cross-entropy in nats.
        calibration_error: expected calibration error of 15 bins (Guo et al., 2017), in percent.
        kappa: Cohen's kappa (1960), agreement beyond chance: 1 for none wrong, 0 for guessing; not a number where all
            labels and predictions are one class.
        macro_f1: mean over classes, of those that occur, of the harmonic mean of precision and recall.
        not_a_number: images with a score that is not a number; they count as wrong.
        outcomes: what all this was computed from.
    """

    count: int
    top1_error: float
    top1_interval: tuple[float, float]
    top5_error: float
    top5_interval: tuple[float, float]
    loss: float
    calibration_error: float
    kappa: float
    macro_f1: float
    not_a_number: int
    outcomes: Outcomes = dataclasses.field(repr=False)

    @classmethod
    def of(cls, outcomes: Outcomes) -> Result:
        """Compute the numbers."""
        count = len(outcomes.label)
        top1, top5 = (int(np.sum(outcomes.rank >= place)) for place in (1, 5))
        bins = calibration(outcomes)
        gap = np.sum(bins.count * np.abs(bins.confidence - bins.accuracy)) / max(bins.count.sum(), 1)
        return cls(
            count,
            100 * top1 / count,
            interval(top1, count),
            100 * top5 / count,
            interval(top5, count),
            float(-np.mean(outcomes.log_probability)),
            float(100 * gap),
            *agreement(outcomes),
            int(np.sum(outcomes.predicted < 0)),
            outcomes,
        )

    def numbers(self) -> dict:
        """The numbers without the outcomes, in JSON's types: None for what is infinite or not a number."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del values["outcomes"]
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
        scores: f32[B,H,W,3] -> f32[B,K]; a Keras model, an exported one, or any other function.
        batches: of (f32[B,H,W,3], i32[B]), such as those of `keras_resnet.data.pipeline.evaluate`, or with several
            views of each image, f32[B,V,H,W,3].
        average: what is averaged over views, "probabilities" or "logits".
        from_logits: whether scores are logits or probabilities; None to see it from the first batch.

    Returns:
        A `Result`.

    Raises:
        ValueError: no images, labels outside the scores, or scores of another shape.
    """
    scored = scoring.score(scores, batches, average_by=average, from_logits=from_logits)
    return Result.of(Outcomes.joined(Outcomes.of(labels, values) for labels, values in scored))


def interval(wrong: int, count: int) -> tuple[float, float]:
    """The 95 % interval in percent of a share of `wrong` in `count` (Wilson, 1927)."""
    low, high = binomtest(wrong, count).proportion_ci(0.95, method="wilson")
    return 100 * float(low), 100 * float(high)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Images by confidence in bins of equal width: their count, mean confidence and accuracy, each [bins]."""

    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def calibration(outcomes: Outcomes, bins: int = CALIBRATION_BINS) -> Calibration:
    """How often a network is right by how sure it is (Guo et al., 2017); empty bins have NaN-free zeros."""
    known = outcomes.predicted >= 0
    confidence, right = outcomes.confidence[known], outcomes.rank[known] == 0
    # Bins (0, 1/n], (1/n, 2/n], ... as in the paper cited.
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count, total, hits = (np.bincount(place, weights, bins) for weights in (None, confidence, right))
    return Calibration(count, total / np.maximum(count, 1), hits / np.maximum(count, 1))


def confusion(outcomes: Outcomes) -> np.ndarray:
    """Count images by label and predicted class, i64[K,K]; images with a score that is not a number are left out."""
    known = outcomes.predicted >= 0
    pairs = outcomes.label[known] * outcomes.classes + outcomes.predicted[known]
    return np.bincount(pairs, minlength=outcomes.classes**2).reshape(outcomes.classes, outcomes.classes)


def agreement(outcomes: Outcomes) -> tuple[float, float]:
    """Return Cohen's kappa and the macro-averaged F1 score, as `Result` has them."""
    count, classes = len(outcomes.label), outcomes.classes
    right = np.bincount(outcomes.label[outcomes.rank == 0], minlength=classes)
    labels = np.bincount(outcomes.label, minlength=classes)
    predictions = np.bincount(outcomes.predicted[outcomes.predicted >= 0], minlength=classes)
    chance = labels @ predictions / count**2
    kappa = (right.sum() / count - chance) / (1 - chance) if chance < 1 else np.nan
    occurring = labels + predictions
    return float(kappa), float(np.mean(2 * right[occurring > 0] / occurring[occurring > 0]))


def frequent_confusions(outcomes: Outcomes, most: int) -> list[tuple[int, int, int]]:
    """Return (label, predicted class, images) of the most frequent confusions, at most `most`."""
    counts = confusion(outcomes)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:most]
    pairs = zip(*np.unravel_index(order, counts.shape), strict=True)
    return [(int(label), int(other), int(counts[label, other])) for label, other in pairs if counts[label, other]]


def class_errors(outcomes: Outcomes) -> tuple[np.ndarray, np.ndarray]:
    """Top-1 error of each class in percent, f64[K], NaN for a class without images, and its images, i64[K]."""
    count = np.bincount(outcomes.label, minlength=outcomes.classes)
    wrong = np.bincount(outcomes.label[outcomes.rank >= 1], minlength=outcomes.classes)
    with np.errstate(invalid="ignore"):
        return 100 * wrong / count, count


def confident_mistakes(outcomes: Outcomes, most: int) -> np.ndarray:
    """Indices of the wrong images that the network was surest of, surest first, at most `most`."""
    wrong = np.flatnonzero((outcomes.rank >= 1) & (outcomes.predicted >= 0))
    return wrong[np.argsort(-outcomes.confidence[wrong], kind="stable")][:most]
