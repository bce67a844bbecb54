"""Average precision by the rules of PASCAL VOC (Everingham et al., 2010), in plain NumPy."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Detections(NamedTuple):
    """What a detector found in one image, best first.

    Attributes:
        boxes: f32[n,4], top, left, bottom, right in pixels of the image.
        scores: f32[n].
        labels: i32[n], from 0.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


class GroundTruth(NamedTuple):
    """What is in one image: boxes f32[n,4] in the same coordinates, labels i32[n], and ignored bool[n].

    Ignored boxes (VOC's difficult ones, crowds) are not expected to be found, nor is it wrong to find them.
    """

    boxes: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray


@dataclasses.dataclass(frozen=True)
class Curve:
    """Precision over recall of one class.

    Attributes:
        recall: f64[n] after each detection, best first.
        precision: f64[n], likewise.
        scores: f64[n] of the detections.
        expected: number of boxes to find.
    """

    recall: np.ndarray
    precision: np.ndarray
    scores: np.ndarray
    expected: int

    def average(self, points: int | None = None) -> float:
        """Return the average precision in [0, 1]; not a number where there is nothing to find.

        Args:
            points: 11 for the mean of the interpolated precision at recalls 0, 0.1 .. 1 (VOC 2007); None for the area
                under it (VOC 2010 and later).
        """
        if not self.expected:
            return float("nan")
        # The interpolated precision is the highest one at this recall or beyond.
        best = np.maximum.accumulate(self.precision[::-1])[::-1]
        if points is None:
            return float(np.sum(np.diff(self.recall, prepend=0.0) * best))
        place = np.searchsorted(self.recall, np.linspace(0, 1, points) - 1e-12)
        return float(np.mean(np.append(best, 0.0)[place]))


def curves(
    found: Sequence[Detections], truth: Sequence[GroundTruth], classes: int, overlap: float = 0.5
) -> list[Curve]:
    """Match detections to ground truth and return each class's curve.

    Of one class, the detections of all images are taken best first. One is right where the box that it overlaps most
    does so by at least `overlap` and no better detection took it; further detections of that box are wrong.

    Args:
        found: what was found, image by image.
        truth: what is there, image by image.
        classes: number of classes.
        overlap: intersection over union.
    """
    return [_curve(found, truth, label, overlap) for label in range(classes)]


def _curve(found, truth, label: int, overlap: float) -> Curve:
    scores, right, counted, expected = [], [], [], 0
    for one, there in zip(found, truth, strict=True):
        own = there.labels == label
        boxes, ignored = there.boxes[own], there.ignored[own]
        expected += int(np.sum(~ignored))
        mine = one.labels == label
        overlaps = pairwise_iou(one.boxes[mine], boxes)
        taken = np.zeros(len(boxes), bool)
        order = np.argsort(-one.scores[mine], kind="stable")
        scores.append(one.scores[mine][order])
        for row in overlaps[order]:
            best = int(np.argmax(row)) if len(row) else -1
            hit = best >= 0 and row[best] >= overlap
            counted.append(not (hit and ignored[best]))
            right.append(bool(hit and not taken[best]))
            if hit:
                taken[best] = True
    scores = np.concatenate([*scores, np.zeros(0)])
    counted, right = np.array(counted, bool), np.array(right, bool)
    order = np.argsort(-scores, kind="stable")
    order = order[counted[order]]
    hits = np.cumsum(right[order])
    precision = hits / np.arange(1, len(order) + 1)
    recall = hits / max(expected, 1)
    return Curve(recall, precision, scores[order], expected)


def pairwise_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of pairs: f32[N,4], f32[M,4] -> f64[N,M]."""
    first, second = first.astype("float64")[:, None], second.astype("float64")[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = np.prod(np.maximum(sides, 0), -1)
    areas = [np.prod(boxes[..., 2:] - boxes[..., :2], -1) for boxes in (first, second)]
    return shared / np.maximum(areas[0] + areas[1] - shared, 1e-12)


def mean(averages: Sequence[float]) -> float:
    """Return the mean over the classes that have something to find; not a number where none has."""
    known = [value for value in averages if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
