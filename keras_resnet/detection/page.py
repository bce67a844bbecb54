"""The web page of an evaluation of detectors: average precision, and the images with the most errors."""

from __future__ import annotations

import collections
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import ImageDraw

from keras_resnet.detection import evaluate
from keras_resnet.detection.average_precision import Detections, pairwise_iou
from keras_resnet.detection.data.annotations import Annotation
from keras_resnet.detection.data.transforms import DetectionTransform
from keras_resnet.detection.evaluate import VocResult
from keras_resnet.errors import counted
from keras_resnet.evaluation import page
from keras_resnet.evaluation.page import Gallery, Picture, Plot, Section, Table
from keras_resnet.ops import codecs

PICTURES = 24
"""Most images on the page."""

SIDE = 640
"""Longer side of an image on the page in pixels."""

SCORE_THRESH = 0.5
"""Lowest probability of the detections that count as found and are drawn."""

IOU_THRESH = 0.5
"""Lowest IoU of a detection with an object that it finds."""


@dataclasses.dataclass(frozen=True)
class Errors:
    """The errors in an image.

    Attributes:
        missed: numbers of the objects that no detection finds.
        false: numbers of the detections that find no object, or one that a better one finds.
    """

    missed: tuple[int, ...]
    false: tuple[int, ...]


def errors(detections: Detections, annotation: Annotation) -> Errors:
    """Find the errors of detections of at least `SCORE_THRESH`; difficult objects and crowds count neither way."""
    ignored = annotation.difficult | annotation.crowd
    overlaps = pairwise_iou(detections.boxes, annotation.boxes)
    open_objects, false = set(np.flatnonzero(~ignored).tolist()), []
    for number in np.argsort(-detections.scores, kind="stable").tolist():
        if detections.scores[number] < SCORE_THRESH:
            break
        same = annotation.labels == detections.labels[number]
        matches = np.flatnonzero(same & (overlaps[number] >= IOU_THRESH))
        found = max((int(n) for n in matches if n in open_objects), key=lambda n: overlaps[number, n], default=None)
        if found is not None:
            open_objects.remove(found)
        elif not ignored[matches].any():
            false.append(number)
    return Errors(tuple(sorted(open_objects)), tuple(false))


def write(
    folder: pathlib.Path,
    title: str,
    result: VocResult,
    of_masks: VocResult | None,
    detections: Sequence[Detections],
    annotations: Sequence[Annotation],
    transform: DetectionTransform,
    details: Mapping[str, Any],
) -> None:
    """Write `index.html`.

    Args:
        folder: folder of the report, with `curves.png` and, of masks, `mask_curves.png`.
        title: title of the page.
        result: the average precision of boxes.
        of_masks: that of masks; None without masks.
        detections: the detections in each image.
        annotations: the images.
        transform: the transform that decodes the images.
        details: what the page states about the evaluation.
    """
    found = [errors(*pair) for pair in zip(detections, annotations, strict=True)]
    order = sorted(range(len(found)), key=lambda n: (-len(found[n].missed) - len(found[n].false), n))[:PICTURES]
    pictures = [_picture(n, detections[n], annotations[n], found[n], result.class_names, transform) for n in order]
    sections: list[Section] = [_averages("Average precision", result), Plot.read("Curves", folder / "curves.png")]
    if of_masks:
        sections += [
            _averages("Average precision of masks", of_masks),
            Plot.read("Curves of masks", folder / "mask_curves.png"),
        ]
    note = (
        f"Detections of at least {SCORE_THRESH} probability in the colors of their classes, missed objects in white. "
        "Difficult objects and groups count neither way."
    )
    sections.append(Gallery("Images with the most errors", tuple(range(len(pictures))), 22, note))
    page.write(folder / "index.html", title, details, sections, pictures)


def _averages(title: str, result: VocResult) -> Table:
    columns = zip(result.class_names, result.curves, result.averages(), result.averages(11), strict=True)
    rows = [(name, curve.expected, *map(page.number, values)) for name, curve, *values in columns]
    rows.append(
        ("mean", sum(curve.expected for curve in result.curves), *map(page.number, (result.mean(), result.mean(11))))
    )
    note = "At an IoU of 0.5: the area under the interpolated curve (VOC 2010), and the mean of 11 points (VOC 2007)."
    return Table(title, ("class", "objects", "AP, area (%)", "AP, 11 points (%)"), rows, (0, 0, 2, 2), note)


def _picture(
    number: int,
    detections: Detections,
    annotation: Annotation,
    found: Errors,
    class_names: Sequence[str],
    transform: DetectionTransform,
) -> Picture:
    pixels = codecs.read(annotation.path, transform.decode).numpy()
    image = evaluate.draw(pixels, detections, class_names, SCORE_THRESH)
    canvas, width = ImageDraw.Draw(image), max(2, round(max(image.size) / 250))
    for missed in found.missed:
        top, left, bottom, right = (round(float(side)) for side in annotation.clipped_boxes()[missed])
        corners = (left, top, max(left, right - 1), max(top, bottom - 1))
        canvas.rectangle(corners, outline="black", width=width + 1)
        canvas.rectangle(corners, outline="white", width=width)
    caption = f"{pathlib.Path(annotation.path).name}: {counted(len(annotation.labels), 'object')}"
    lines = _lines(detections, annotation, found, class_names)
    return Picture.of(image, SIDE, f"{caption} (image {number})", lines)


def _lines(detections: Detections, annotation: Annotation, found: Errors, class_names: Sequence[str]) -> list[str]:
    """Return a line for each class with missed objects and one for each false detection."""
    missed = collections.Counter(class_names[annotation.labels[n]] for n in found.missed)
    lines = [f"missed: {count} x {name}" if count > 1 else f"missed: {name}" for name, count in missed.items()]
    return lines + [f"wrong: {class_names[detections.labels[n]]} {detections.scores[n]:.2f}" for n in found.false]
