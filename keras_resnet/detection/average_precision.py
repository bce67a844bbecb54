"""Average precision by the rules of PASCAL VOC (Everingham et al., 2010), in plain NumPy."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from keras_resnet.ops import masks as object_masks
from keras_resnet.ops.masks import ObjectMask


class Detections(NamedTuple):
    """The detections in one image, best first.

    Attributes:
        boxes: f64[n,4], top, left, bottom, right in pixels of the image.
        scores: f32[n].
        labels: i32[n], from 0.
        masks: n masks, or None for a detector without masks.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: tuple[ObjectMask, ...] | None = None


class GroundTruth(NamedTuple):
    """The objects in one image.

    Attributes:
        boxes: f64[n,4] in pixels of the image.
        labels: i32[n], from 0.
        ignored: bool[n]: boxes such as VOC's difficult ones and crowds, whose detection counts neither as right nor as
            wrong.
        masks: n masks; None in place of the mask of an object that has none, and None if there is no mask.
    """

    boxes: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray
    masks: tuple[ObjectMask | None, ...] | None = None

    def with_all_masks(self, size: tuple[int, int]) -> GroundTruth:
        """Return the objects with masks: that of its box for an object without one, which is then ignored."""
        masks = self.masks or (None,) * len(self.labels)
        pairs = zip(masks, self.boxes, strict=True)
        return self._replace(
            masks=tuple(ObjectMask.of_box(box, size) if mask is None else mask for mask, box in pairs),
            ignored=self.ignored | np.array([mask is None for mask in masks], bool),
        )


@dataclasses.dataclass(frozen=True)
class Curve:
    """Precision over recall of one class.

    Attributes:
        recall: f64[n] after each detection, best first.
        precision: f64[n], likewise.
        scores: f64[n] of the detections.
        expected: number of ground-truth boxes.
    """

    recall: np.ndarray
    precision: np.ndarray
    scores: np.ndarray
    expected: int

    def average(self, points: int | None = None) -> float:
        """Return the average precision in [0, 1]; NaN if there is no ground-truth box.

        Args:
            points: 11 for the mean of the interpolated precision at recalls 0, 0.1 .. 1 (VOC 2007); None for the area
                under it (VOC 2010 and later). The recalls are the multiples of 0.1 in double precision, as in the
                devkit's ports to Python: 3 * 0.1 is above 3 / 10, so a recall of exactly 0.3, 0.6 or 0.7 is below its
                point.
        """
        if not self.expected:
            return float("nan")
        # The interpolated precision is the highest one at this recall or beyond.
        interpolated = np.maximum.accumulate(self.precision[::-1])[::-1]
        if points is None:
            return float(np.sum(np.diff(self.recall, prepend=0.0) * interpolated))
        place = np.searchsorted(self.recall, np.arange(points) * (1 / (points - 1)))
        return float(np.mean(np.append(interpolated, 0.0)[place]))


def curves(
    detections: Sequence[Detections],
    ground_truth: Sequence[GroundTruth],
    classes: int,
    iou_thresh: float = 0.5,
    masks: bool = False,
) -> list[Curve]:
    """Match detections to ground truth and return the curve of each class.

    The detections of a class in all images are taken best first. A detection is right if the IoU with the box that it
    overlaps most is at least `iou_thresh` and no better detection has taken that box; further detections of the box
    are wrong.

    Args:
        detections: the detections of each image.
        ground_truth: the ground truth of each image.
        classes: number of classes.
        iou_thresh: lowest intersection over union of a right detection.
        masks: whether the overlap is that of the masks, which all detections and objects must then have.
    """
    overlaps = _mask_overlaps if masks else _box_overlaps
    return [_curve(detections, ground_truth, label, iou_thresh, overlaps) for label in range(classes)]


Overlaps = Callable[[Detections, np.ndarray, GroundTruth, np.ndarray], np.ndarray]
"""Function of detections and objects, each with a choice of them bool[n], that returns their IoU f64[N,M]."""


def _box_overlaps(detections: Detections, detected: np.ndarray, truth: GroundTruth, expected: np.ndarray) -> np.ndarray:
    return pairwise_iou(detections.boxes[detected], truth.boxes[expected])


def _mask_overlaps(
    detections: Detections, detected: np.ndarray, truth: GroundTruth, expected: np.ndarray
) -> np.ndarray:
    assert detections.masks is not None
    assert truth.masks is not None
    found, objects = (
        [mask for mask in itertools.compress(masks, chosen) if mask is not None]
        for masks, chosen in ((detections.masks, detected), (truth.masks, expected))
    )
    return object_masks.pairwise_iou(found, objects)


def _curve(
    detections: Sequence[Detections],
    ground_truth: Sequence[GroundTruth],
    label: int,
    iou_thresh: float,
    overlaps: Overlaps,
) -> Curve:
    matches = [
        _match(detected, truth, label, iou_thresh, overlaps)
        for detected, truth in zip(detections, ground_truth, strict=True)
    ]
    scores, right, counted = (np.concatenate([np.zeros(0), *parts]) for parts in zip(*matches, strict=True))
    expected = sum(int(np.sum((truth.labels == label) & ~truth.ignored)) for truth in ground_truth)
    order = np.argsort(-scores, kind="stable")
    order = order[counted.astype(bool)[order]]
    hits = np.cumsum(right[order])
    return Curve(hits / max(expected, 1), hits / np.arange(1, len(order) + 1), scores[order], expected)


def _match(
    detections: Detections, truth: GroundTruth, label: int, iou_thresh: float, overlaps: Overlaps
) -> tuple[np.ndarray, list[bool], list[bool]]:
    """Scores of an image's detections of a class, best first, whether each is right, and whether it counts."""
    detected, expected = detections.labels == label, truth.labels == label
    ignored = truth.ignored[expected]
    ious = overlaps(detections, detected, truth, expected)
    scores = detections.scores[detected]
    order = np.argsort(-scores, kind="stable")
    taken = np.zeros(len(ignored), bool)
    right, counted = [], []
    for row in ious[order]:
        best = int(np.argmax(row)) if len(row) else -1
        hit = best >= 0 and row[best] >= iou_thresh
        counted.append(not (hit and ignored[best]))
        right.append(bool(hit and not taken[best]))
        if hit:
            taken[best] = True
    return scores[order], right, counted


def pairwise_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the intersection over union of pairs: f64[N,4], f64[M,4] -> f64[N,M]."""
    first, second = first.astype("float64")[:, None], second.astype("float64")[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = np.prod(np.maximum(sides, 0), -1)
    areas = [np.prod(boxes[..., 2:] - boxes[..., :2], -1) for boxes in (first, second)]
    return shared / np.maximum(areas[0] + areas[1] - shared, 1e-12)


def mean(averages: Sequence[float]) -> float:
    """Return the mean over the classes with ground truth; NaN if there is none."""
    known = [value for value in averages if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
