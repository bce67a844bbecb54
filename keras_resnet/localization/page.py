"""The web page of an evaluation of localizers: errors, classes, the most confident mistakes and the closest hits."""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_resnet.data.transforms import WholeImageTransform
from keras_resnet.evaluation import page
from keras_resnet.evaluation.metrics import interval
from keras_resnet.evaluation.page import Cell, Gallery, Picture, Table
from keras_resnet.localization import metrics, pictures
from keras_resnet.localization.data.examples import Example
from keras_resnet.localization.evaluate import Evaluation, Prediction
from keras_resnet.localization.metrics import Outcome, Result
from keras_resnet.ops import codecs

MISTAKES = 24
"""Most mistakes on the page."""

HITS = 12
"""Most hits on the page."""

SIDE = 640
"""Longer side of an image on the page in pixels."""


def write(
    folder: pathlib.Path,
    title: str,
    evaluation: Evaluation,
    examples: Sequence[Example],
    class_names: Sequence[str],
    transform: WholeImageTransform,
    details: Mapping[str, Any],
) -> None:
    """Write `index.html`.

    Args:
        folder: folder of the report.
        title: title of the page.
        evaluation: the evaluation of a split.
        examples: the images of the split.
        class_names: names of the classes.
        transform: decodes the images.
        details: what the page states about the evaluation.
    """
    result = evaluation.error.result()
    mistakes, hits = choose(result, evaluation.predictions)
    images = [
        _picture(examples[n], result.outcomes[n], evaluation.predictions[n], class_names, transform)
        for n in (*mistakes, *hits)
    ]
    note = "True boxes are white; the box that is predicted for the true class is colored. "
    if any(outcome.predicted for outcome in result.outcomes):
        note += "The classifier's classes are listed, the most probable first. "
    sections: list[page.Section] = [
        _errors(result, evaluation.baseline.result()),
        _classes(result, examples, class_names),
        Gallery(
            "Most confident mistakes",
            tuple(range(len(mistakes))),
            20,
            f"{note}Images with an IoU below {result.iou_thresh}, those of the highest score first.",
        ),
        Gallery(
            "Closest hits", tuple(range(len(mistakes), len(images))), 20, f"{note}Hits, those of the lowest IoU first."
        ),
    ]
    page.write(folder / "index.html", title, details, sections, images)


def choose(result: Result, predictions: Sequence[Prediction]) -> tuple[list[int], list[int]]:
    """Choose the images to show, by the box for the true class; those of the blacklist are left out.

    Args:
        result: the errors.
        predictions: of each image.

    Returns:
        The numbers of the most confident mistakes, and of the hits with the lowest IoU.
    """
    numbers = [n for n, outcome in enumerate(result.outcomes) if not outcome.blacklisted]
    wrong = [n for n in numbers if _is_wrong(result, result.outcomes[n])]
    right = [n for n in numbers if not _is_wrong(result, result.outcomes[n])]
    mistakes = sorted(wrong, key=lambda n: (-predictions[n].scores[0], n))
    hits = sorted(right, key=lambda n: (result.outcomes[n].iou, n))
    return mistakes[:MISTAKES], hits[:HITS]


def _is_wrong(result: Result, outcome: Outcome) -> bool:
    """Whether the box for the true class is wrong or missing."""
    return outcome.iou is None or outcome.iou < result.iou_thresh


def _errors(result: Result, baseline: Result) -> Table:
    center = {name: error for name, (error, _) in baseline.errors().items() if "classification" not in name}
    rows: list[tuple[Cell, ...]] = []
    for name, (error, count) in result.errors().items():
        if not np.isnan(error):
            bounds = interval(round(error * count / 100), count)
            rows.append((name.replace("_", " "), error, *bounds, page.number(center.get(name, np.nan)), count))
    note = (
        f"A box is right if its IoU with a true box is at least {result.iou_thresh}. From and to are the bounds of the "
    )
    note += "95 % confidence interval (Wilson). The center box has half the area of the image."
    return Table("Errors", ("error", "%", "from", "to", "center box (%)", "images"), rows, (0, 2, 2, 2, 2, 0), note)


def _classes(result: Result, examples: Sequence[Example], class_names: Sequence[str]) -> Table:
    outcomes: dict[int, list[Outcome]] = collections.defaultdict(list)
    for example, outcome in zip(examples, result.outcomes, strict=True):
        outcomes[example.label].append(outcome)
    rows: list[tuple[Cell, ...]] = []
    for label, of_class in sorted(outcomes.items()):
        own = Result(tuple(of_class), result.iou_thresh)
        errors = own.errors()
        error, count = errors["true_class_error"]
        bounds = (None, None) if np.isnan(error) else interval(round(error * count / 100), count)
        ious = [outcome.iou for outcome in of_class if outcome.iou is not None and not outcome.blacklisted]
        others = (errors[name][0] for name in ("localization_error", "classification_error"))
        mean = float(np.mean(ious)) if ious else None
        rows.append((class_names[label], count, page.number(error), *bounds, mean, *map(page.number, others)))
    columns = ["class", "images", "true class error (%)", "from", "to", "mean IoU"]
    columns += ["localization error (%)", "classification error (%)"]
    if not any(outcome.predicted for outcome in result.outcomes):
        columns, rows = columns[:-2], [row[:-2] for row in rows]
    return Table("Classes", columns, rows, (0, 0, 2, 2, 2, 2, 2, 2)[: len(columns)], "Click a heading to sort by it.")


def _picture(
    example: Example,
    outcome: Outcome,
    prediction: Prediction,
    class_names: Sequence[str],
    transform: WholeImageTransform,
) -> Picture:
    pixels = codecs.read(example.path, transform.decode).numpy()
    image = pictures.draw_boxes(pixels, example.boxes, prediction.boxes[:1])
    overlap = "no box" if outcome.iou is None else f"IoU {outcome.iou:.2f}, score {prediction.scores[0]:.2f}"
    lines = []
    for label, is_right in predicted(example, outcome, prediction):
        reason = "hit" if is_right else "miss, wrong box" if label == example.label else "miss, wrong class"
        lines.append(f"{class_names[label]}: {reason}")
    return Picture.of(image, SIDE, f"{example.id}, {class_names[example.label]}: {overlap}", lines)


def predicted(example: Example, outcome: Outcome, prediction: Prediction) -> list[tuple[int, bool]]:
    """Return the predicted classes of an image, the most probable first, and whether class and box are right.

    Args:
        example: the image.
        outcome: its outcome.
        prediction: its classes, of which the true one is listed first, whether or not it is predicted.
    """
    if not outcome.predicted:
        return []
    labels = prediction.classes[1:].tolist()
    if outcome.rank < metrics.TOP:
        labels.insert(outcome.rank, example.label)
    return [(label, number == outcome.place) for number, label in enumerate(labels)]
