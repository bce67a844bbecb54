"""The measures of segmentation: one confusion matrix over a whole data set, IoU, and pixel and mean accuracy.

Pixels whose true label is the ignore label are left out, whatever is predicted there; predictions are never left out.
A class that occurs neither in the truth nor in the predictions has no IoU: it is NaN, and left out of the mean IoU. A
class that is predicted but does not occur in the truth has an IoU of 0, which counts, and no accuracy.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from keras_resnet.errors import InputError
from keras_resnet.evaluation.report import markdown_table
from keras_resnet.segmentation.choices import IGNORE_LABEL


def confusion_matrix(
    labels: np.ndarray, predictions: np.ndarray, classes: int, ignore_label: int = IGNORE_LABEL
) -> np.ndarray:
    """Count pixels by their true and their predicted class; the matrices of several images add up.

    Args:
        labels: true classes, integers of any shape.
        predictions: predicted classes, integers of the same shape, in [0, classes).
        classes: number of classes K.
        ignore_label: label of the pixels that are left out.

    Returns:
        i64[K,K], rows for the true and columns for the predicted class.

    Raises:
        ValueError: the shapes differ, or a class is not in [0, classes).
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape:
        raise InputError(
            f"predictions must have the shape of labels, {list(labels.shape)}; got {list(predictions.shape)}."
        )
    counted = labels != ignore_label
    truth, predicted = labels[counted].astype("int64"), predictions[counted].astype("int64")
    for name, values in (("labels", truth), ("predictions", predicted)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise InputError(f"{name} must be classes from 0 to {classes - 1}; got {values.min()} to {values.max()}.")
    return np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)


def iou(matrix: np.ndarray) -> np.ndarray:
    """Return the intersection over union of each class, f64[K] in [0, 1]; NaN for classes that do not occur at all.

    Args:
        matrix: i64[K,K], a `confusion_matrix`.
    """
    hits = np.diag(matrix)
    return _ratio(hits, matrix.sum(0) + matrix.sum(1) - hits)


def mean_iou(matrix: np.ndarray) -> float:
    """Return the mean of `iou` over the classes that occur in the truth or in the predictions, in [0, 1]."""
    return _mean(iou(matrix))


def class_accuracy(matrix: np.ndarray) -> np.ndarray:
    """Return the fraction of the pixels of each class that are classified as it, f64[K]; NaN for absent classes."""
    return _ratio(np.diag(matrix), matrix.sum(1))


def mean_accuracy(matrix: np.ndarray) -> float:
    """Return the mean of `class_accuracy` over the classes that occur in the truth, in [0, 1]."""
    return _mean(class_accuracy(matrix))


def pixel_accuracy(matrix: np.ndarray) -> float:
    """Return the fraction of all labeled pixels that are classified correctly, in [0, 1]; NaN without any."""
    total = int(matrix.sum())
    return int(np.trace(matrix)) / total if total else math.nan


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The quotient, NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)


def _mean(values: np.ndarray) -> float:
    """The mean of the values that are not NaN; NaN without any."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


@dataclasses.dataclass(frozen=True)
class Result:
    """The measures of a data set, in percent.

    Attributes:
        class_names: names of the K classes.
        confusion: i64[K,K], see `confusion_matrix`.
        images: number of images.
    """

    class_names: tuple[str, ...]
    confusion: np.ndarray
    images: int

    @property
    def iou(self) -> np.ndarray:
        """IoU of each class, f64[K]; NaN for classes that do not occur at all."""
        return 100 * iou(self.confusion)

    @property
    def mean_iou(self) -> float:
        """Mean IoU over the classes that occur in the truth or in the predictions."""
        return 100 * mean_iou(self.confusion)

    @property
    def class_accuracy(self) -> np.ndarray:
        """Accuracy of each class, f64[K]; NaN for classes that do not occur in the truth."""
        return 100 * class_accuracy(self.confusion)

    @property
    def mean_accuracy(self) -> float:
        """Mean accuracy over the classes that occur in the truth."""
        return 100 * mean_accuracy(self.confusion)

    @property
    def pixel_accuracy(self) -> float:
        """Accuracy over all labeled pixels."""
        return 100 * pixel_accuracy(self.confusion)

    def table(self) -> str:
        """Return a Markdown table of the classes: share of the labeled pixels, IoU and accuracy, and the means."""
        shares = 100 * self.confusion.sum(1) / max(int(self.confusion.sum()), 1)
        columns = zip(self.class_names, shares, self.iou, self.class_accuracy, strict=True)
        rows = [(name, f"{share:.2f}", *map(_cell, values)) for name, share, *values in columns]
        rows.append(("mean", f"{shares.sum():.2f}", _cell(self.mean_iou), _cell(self.mean_accuracy)))
        text = markdown_table(("class",), ("pixels %", "IoU %", "accuracy %"), rows)
        return f"{text}\n\nPixel accuracy {_cell(self.pixel_accuracy)} %."

    def to_dict(self) -> dict[str, Any]:
        """Return the measures and the confusion matrix for JSON, in which NaN is null."""
        return {
            "images": self.images,
            "mean_iou": _number(self.mean_iou),
            "pixel_accuracy": _number(self.pixel_accuracy),
            "mean_accuracy": _number(self.mean_accuracy),
            "iou": dict(zip(self.class_names, map(_number, self.iou), strict=True)),
            "accuracy": dict(zip(self.class_names, map(_number, self.class_accuracy), strict=True)),
            "confusion": self.confusion.tolist(),
        }


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
