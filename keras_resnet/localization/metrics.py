"""The measures of ImageNet localization, by the rules of ILSVRC's devkit.

A prediction for an image is up to five pairs of a class and a box, best first. It is right if one of the pairs has the
true class and a box whose IoU with any true box is at least 0.5. Images of the devkit's blacklist are left out of
localization errors, but not of classification errors. An image without a prediction, or without a true box, is wrong.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_resnet.errors import InputError
from keras_resnet.evaluation.metrics import interval
from keras_resnet.evaluation.report import markdown_table

TOP = 5
"""Largest number of predicted pairs of an image."""

IOU_THRESH = 0.5
"""Smallest IoU of a right box."""


def devkit_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the IoU of pairs of boxes of whole pixels, of which the last ones belong to the box.

    A width is xmax - xmin + 1, as in the devkit: a box with xmin = xmax is one pixel wide.

    Args:
        first: f64[N,4], ymin, xmin, ymax, xmax.
        second: f64[M,4].

    Returns:
        f64[N,M]; 0 for boxes of which a width or height is not positive.
    """
    first, second = _rows(first)[:, None], _rows(second)[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2]) + 1
    shared = np.prod(np.maximum(sides, 0), -1)
    areas = [np.prod(np.maximum(boxes[..., 2:] - boxes[..., :2] + 1, 0), -1) for boxes in (first, second)]
    union = areas[0] + areas[1] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def pixel_boxes(boxes: np.ndarray) -> np.ndarray:
    """Return continuous boxes f64[N,4] as boxes of pixels, whose bottom and right are the last pixels: f64[N,4]."""
    return _rows(boxes) - np.array([0.0, 0.0, 1.0, 1.0])


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return `devkit_iou` of pairs of continuous boxes, top, left, bottom, right: f64[N,4], f64[M,4] -> f64[N,M].

    The pixel that the devkit adds to each side is the difference between the two kinds of coordinates.
    """
    return devkit_iou(pixel_boxes(first), pixel_boxes(second))


def center_box(size: tuple[int, int], share: float = 0.5) -> np.ndarray:
    """Return the box in the center of an image with some share of its area, a baseline: f64[1,4].

    Args:
        size: height and width in pixels.
        share: area of the box as a share of the image's; 1 for the whole image.
    """
    sides = np.array(size, "float64")
    margin = sides * (1 - math.sqrt(share)) / 2
    return np.concatenate([margin, sides - margin])[None]


def _rows(boxes: np.ndarray) -> np.ndarray:
    """Boxes in double precision, f64[N,4]."""
    return np.asarray(boxes, "float64").reshape(-1, 4)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of an image.

    Attributes:
        rank: place of the true class among the predicted ones, from 0; `TOP` if it is not one of them.
        place: place of the first right pair, from 0; `TOP` if none is right.
        iou: highest IoU of the box for the true class with a true box; None without such a box.
        blacklisted: whether the image is left out of localization errors.
        predicted: number of predicted pairs.
    """

    rank: int
    place: int
    iou: float | None
    blacklisted: bool
    predicted: int


def judge(
    label: int,
    gt_boxes: np.ndarray,
    pred_classes: Sequence[int] | np.ndarray,
    pred_boxes: np.ndarray,
    true_class_box: np.ndarray | None = None,
    blacklisted: bool = False,
    iou_thresh: float = IOU_THRESH,
) -> Outcome:
    """Compare the prediction for an image with the truth.

    Args:
        label: the true class.
        gt_boxes: f64[n,4], the boxes of this class, in continuous coordinates.
        pred_classes: i64[k], the predicted classes, best first; at most five.
        pred_boxes: f64[k,4], a box for each.
        true_class_box: f64[4], the box that is predicted when the true class is given.
        blacklisted: whether the image is on the blacklist.
        iou_thresh: smallest IoU of a right box.

    Raises:
        ValueError: there are more than five pairs, or not as many boxes as classes.
    """
    classes, boxes = np.asarray(pred_classes, "int64").reshape(-1), _rows(pred_boxes)
    if len(classes) > TOP or len(classes) != len(boxes):
        raise InputError(
            f"a prediction must be at most {TOP} classes with a box each; got {len(classes)} classes and {len(boxes)} "
            "boxes."
        )
    true = classes == label
    right = true & (iou(boxes, gt_boxes) >= iou_thresh).any(1)
    given = None if true_class_box is None else float(np.max(iou(true_class_box, gt_boxes), initial=0.0))
    return Outcome(_first(true), _first(right), given, bool(blacklisted), len(classes))


def _first(flags: np.ndarray) -> int:
    """The index of the first true flag; `TOP` without one."""
    return int(np.argmax(flags)) if flags.any() else TOP


@dataclasses.dataclass(frozen=True)
class Result:
    """The errors of a split, in percent.

    Errors are NaN if there is nothing to count; those of predicted classes also if no image has a prediction.

    Attributes:
        outcomes: the outcome of each image.
        iou_thresh: smallest IoU of a right box.
    """

    outcomes: tuple[Outcome, ...]
    iou_thresh: float = IOU_THRESH

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.outcomes)

    @property
    def blacklisted(self) -> int:
        """Number of images that are left out of localization errors."""
        return sum(outcome.blacklisted for outcome in self.outcomes)

    @property
    def true_class_error(self) -> float:
        """Share of the images whose box for the true class is wrong or missing; NaN if all of these are missing."""
        ious = [outcome.iou for outcome in self._counted()]
        if all(iou is None for iou in ious):
            return math.nan
        return self._error([iou is None or iou < self.iou_thresh for iou in ious])

    @property
    def mean_iou(self) -> float:
        """Mean IoU of the boxes for the true class, 0 where one is missing; NaN if all of these are missing.

        It changes with each box, so that it compares networks on fewer images than an error.
        """
        ious = [outcome.iou for outcome in self._counted()]
        if all(iou is None for iou in ious):
            return math.nan
        return float(np.mean([iou or 0.0 for iou in ious]))

    @property
    def localization_error(self) -> float:
        """Share of the images of which no pair of the best five is right: the error of the challenge."""
        return self._predicted_error([outcome.place >= TOP for outcome in self._counted()])

    @property
    def top1_localization_error(self) -> float:
        """Share of the images whose best pair is wrong."""
        return self._predicted_error([outcome.place >= 1 for outcome in self._counted()])

    @property
    def classification_error(self) -> float:
        """Share of all images of which none of the best five classes is true."""
        return self._predicted_error([outcome.rank >= TOP for outcome in self.outcomes])

    @property
    def top1_classification_error(self) -> float:
        """Share of all images whose best class is wrong."""
        return self._predicted_error([outcome.rank >= 1 for outcome in self.outcomes])

    def errors(self) -> dict[str, tuple[float, int]]:
        """Return the name of each error, its value, and the number of images that it is a share of."""
        counted = len(self._counted())
        return {
            "true_class_error": (self.true_class_error, counted),
            "localization_error": (self.localization_error, counted),
            "top1_localization_error": (self.top1_localization_error, counted),
            "classification_error": (self.classification_error, self.images),
            "top1_classification_error": (self.top1_classification_error, self.images),
        }

    def table(self) -> str:
        """Return a Markdown table of the errors with their 95 % confidence intervals (Wilson, 1927)."""
        rows = []
        for name, (error, count) in self.errors().items():
            if not math.isnan(error):
                low, high = interval(round(error * count / 100), count)
                rows.append((name.replace("_", " "), f"{error:.2f}", f"{low:.1f} - {high:.1f}", str(count)))
        return markdown_table(("error",), ("%", "95 % interval", "images"), rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the measures for JSON, in which NaN is null."""
        numbers = {"mean_iou": self.mean_iou, **{name: error for name, (error, _) in self.errors().items()}}
        measures = {name: None if math.isnan(number) else number for name, number in numbers.items()}
        return {"images": self.images, "blacklisted": self.blacklisted, "iou_thresh": self.iou_thresh, **measures}

    def _counted(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if not outcome.blacklisted]

    def _predicted_error(self, wrong: Sequence[bool]) -> float:
        return self._error(wrong) if any(outcome.predicted for outcome in self.outcomes) else math.nan

    def _error(self, wrong: Sequence[bool]) -> float:
        return 100 * sum(wrong) / len(wrong) if wrong else math.nan


class LocalizationError:
    """Collect the outcomes of images one by one: the errors do not depend on batches, nor on the order of replicas.

    Args:
        iou_thresh: smallest IoU of a right box.
    """

    def __init__(self, iou_thresh: float = IOU_THRESH):
        self.iou_thresh = iou_thresh
        self.outcomes: dict[int, Outcome] = {}

    def update(
        self,
        label: int,
        gt_boxes: np.ndarray,
        pred_classes: Sequence[int] | np.ndarray,
        pred_boxes: np.ndarray,
        true_class_box: np.ndarray | None = None,
        blacklisted: bool = False,
        index: int | None = None,
    ) -> Outcome:
        """Add an image and return its outcome.

        Args:
            label: the true class.
            gt_boxes: f64[n,4], the boxes of this class.
            pred_classes: i64[k], the predicted classes, best first; at most five.
            pred_boxes: f64[k,4], a box for each.
            true_class_box: f64[4], the box that is predicted when the true class is given.
            blacklisted: whether the image is on the blacklist.
            index: number of the image in its split, so that an image that fills up a batch is counted once; by default
                that of the next image.

        Raises:
            ValueError: as for `judge`.
        """
        index = len(self.outcomes) if index is None else index
        outcome = judge(label, gt_boxes, pred_classes, pred_boxes, true_class_box, blacklisted, self.iou_thresh)
        self.outcomes[index] = outcome
        return outcome

    def merge(self, others: Iterable[LocalizationError]) -> None:
        """Add the images of other replicas, which have numbers of their own."""
        for other in others:
            self.outcomes.update(other.outcomes)

    def result(self) -> Result:
        """Return the errors over all images, in the order of the split.

        Raises:
            ValueError: there are no images.
        """
        if not self.outcomes:
            raise InputError("the split must have at least one image; it has none.")
        return Result(tuple(self.outcomes[index] for index in sorted(self.outcomes)), self.iou_thresh)
