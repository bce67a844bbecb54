"""The web page of an evaluation of classifiers: errors, classes, confusions with their images, mistakes."""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet.data import pipeline
from keras_resnet.data.dataset import Dataset
from keras_resnet.data.transforms import EvalTransform, Transform
from keras_resnet.evaluation import figures, metrics, page, scores
from keras_resnet.evaluation.metrics import Outcomes
from keras_resnet.evaluation.page import Confusion, Gallery, Picture, Plot, Section, Table
from keras_resnet.evaluation.report import Row, folder_name
from keras_resnet.models.grad_cam import GradCAM
from keras_resnet.quantization.integer import is_integer

MISTAKES = 24
"""Most confident mistakes of each network that are shown."""

PER_CELL = 12
"""Most images behind a cell of the confusion matrix; of those that are right, a third."""

PICTURES = 300
"""Most images of each network."""

EXPLAINED = 100
"""Most images of each network with a map of Grad-CAM, the most confident mistakes first."""

SHOWN_CLASSES = 60
"""Most classes in a confusion matrix; those with the most confusions are shown."""

BATCH = 50


def write(
    folder: pathlib.Path,
    rows: Sequence[Row],
    class_names: Sequence[str],
    dataset: Dataset,
    split: str,
    transform: Transform,
    details: Mapping[str, Any],
    networks: Mapping[str, tuple[Callable[[], keras.Model], EvalTransform]],
) -> None:
    """Write `index.html`.

    Args:
        folder: folder of the report, with the figures of each row.
        rows: rows of the table.
        class_names: names of the networks' classes.
        dataset: the data set.
        split: the evaluated split.
        transform: test transform of the images, for networks that are not among `networks`.
        details: what else the page states about the evaluation.
        networks: name of a row -> how its network is loaded, with logits, and its transform; their images have the most
            probable classes and maps of Grad-CAM.
    """
    pictures: list[Picture] = []
    sections: list[Section] = [_results(rows)]
    for row in rows:
        outcomes = row.result.outcomes
        title = f"{row.network}, {row.views}: " if len(rows) > 1 else ""
        chosen, cells = choose(outcomes)
        load, own = networks.get(row.network, (None, transform))
        first = len(pictures)
        pictures += _pictures(outcomes, chosen, class_names, dataset, split, own, load)
        place = {index: first + number for number, index in enumerate(chosen)}
        mistakes = [index for index in metrics.confident_mistakes(outcomes, MISTAKES).tolist() if index in place]
        sections += [
            _classes(f"{title}Classes", outcomes, class_names),
            _confusion(f"{title}Confusion matrix", outcomes, class_names, cells, place),
            Gallery(f"{title}Most confident mistakes", [place[index] for index in mistakes]),
            Plot.read(
                f"{title}Calibration",
                folder / folder_name(row) / "reliability.png",
                f"Expected calibration error {row.result.calibration_error:.2f} %.",
            ),
        ]
    page.write(folder / "index.html", f"{dataset.info.name}, {split}", details, sections, pictures)


def choose(outcomes: Outcomes) -> tuple[list[int], dict[tuple[int, int], list[int]]]:
    """Choose the images to show.

    Args:
        outcomes: the per-image predictions.

    Returns:
        Their indices, the most confident mistakes first and then the least confident right ones, and the indices behind
        each true and predicted class.
    """
    wrong = outcomes.predicted != outcomes.label
    order = np.lexsort((np.where(wrong, -outcomes.confidence, outcomes.confidence), ~wrong))
    cells: dict[tuple[int, int], list[int]] = collections.defaultdict(list)
    chosen: list[int] = []
    for index in order[outcomes.predicted[order] >= 0].tolist():
        cell = int(outcomes.label[index]), int(outcomes.predicted[index])
        if len(chosen) < PICTURES and len(cells[cell]) < (PER_CELL if wrong[index] else PER_CELL // 3):
            cells[cell].append(index)
            chosen.append(index)
    return chosen, dict(cells)


def _results(rows: Sequence[Row]) -> Table:
    columns = ("network", "views", "top-1 error (%)", "from", "to", "top-5 error (%)", "loss", "calibration error (%)")
    cells = [
        (
            row.network,
            row.views,
            row.result.top1_error,
            *row.result.top1_interval,
            row.result.top5_error,
            row.result.loss if np.isfinite(row.result.loss) else None,
            row.result.calibration_error,
            row.result.count,
        )
        for row in rows
    ]
    note = "From and to are the bounds of the 95 % confidence interval (Wilson)."
    return Table("Results", (*columns, "images"), cells, (0, 0, 2, 2, 2, 2, 4, 2, 0), note)


def _classes(title: str, outcomes: Outcomes, class_names: Sequence[str]) -> Table:
    errors, counts = metrics.class_errors(outcomes)
    confusion = metrics.confusion(outcomes)
    cells = []
    for number in np.flatnonzero(counts + confusion.sum(0)).tolist():
        count, others = int(counts[number]), confusion[number].copy()
        others[number] = 0
        most = int(others.argmax())
        error = float(errors[number]) if count else None
        bounds = metrics.interval(int(others.sum()), count) if count else (None, None)
        precision = 100 * confusion[number, number] / confusion[:, number].sum() if confusion[:, number].any() else None
        taken = f"{class_names[most]} ({others[most]})" if others[most] else ""
        cells.append((class_names[number], count, error, *bounds, precision, taken))
    columns = ("class", "images", "error (%)", "from", "to", "precision (%)", "most often taken for")
    return Table(title, columns, cells, (0, 0, 2, 2, 2, 2, 0), "Click a heading to sort by it.")


def _confusion(
    title: str,
    outcomes: Outcomes,
    class_names: Sequence[str],
    cells: Mapping[tuple[int, int], Sequence[int]],
    place: Mapping[int, int],
) -> Confusion:
    counts = metrics.confusion(outcomes)
    seen = np.flatnonzero(counts.sum(0) + counts.sum(1))
    confused = counts.sum(0) + counts.sum(1) - 2 * np.diag(counts)
    shown = np.sort(seen[np.argsort(-confused[seen], kind="stable")[:SHOWN_CLASSES]])
    note = "Rows are the true classes, columns the predicted ones. Select a cell to see its images: of wrong ones, the "
    note += "most confident first, and of right ones the least confident."
    if len(shown) < len(seen):
        note += f" Of {len(seen)} classes, the {len(shown)} with the most confusions are shown."
    return Confusion(
        title,
        class_names,
        shown.tolist(),
        [(int(a), int(b), int(counts[a, b])) for a, b in np.argwhere(counts) if a in shown and b in shown],
        {f"{a},{b}": [place[index] for index in indices] for (a, b), indices in cells.items()},
        note=note,
    )


def _pictures(
    outcomes: Outcomes,
    chosen: Sequence[int],
    class_names: Sequence[str],
    dataset: Dataset,
    split: str,
    transform: Transform,
    load: Callable[[], keras.Model] | None,
) -> list[Picture]:
    """The chosen images with their captions, most probable classes and maps."""
    images = figures.read_images(dataset, split, chosen, transform)
    lines: list[list[str]] = [[] for _ in chosen]
    maps: list[np.ndarray | None] = [None] * len(chosen)
    if load and chosen:
        model = load()
        batches = pipeline.evaluate(dataset.pick(split, chosen), BATCH, transform, split="picked")
        inputs = np.concatenate([np.asarray(batch) for batch, _ in batches])
        logits = model.predict(inputs, batch_size=BATCH, verbose=0)
        probabilities = np.exp(scores.log_probabilities(logits, from_logits=True))
        for number, values in enumerate(probabilities):
            best = np.argsort(-values, kind="stable")[:5]
            lines[number] = [f"{class_names[label]} {100 * values[label]:.1f} %" for label in best]
        if not is_integer(model):  # which has no gradient
            explained = inputs[:EXPLAINED]
            maps[: len(explained)] = list(GradCAM(model).coarse(explained, outcomes.predicted[chosen[:EXPLAINED]]))
    result = []
    for number, index in enumerate(chosen):
        label, predicted = int(outcomes.label[index]), int(outcomes.predicted[index])
        sure = f"{100 * outcomes.confidence[index]:.1f} % sure"
        mistaken = "" if label == predicted else f" taken for {class_names[predicted]}"  # ImageNet has two cranes
        caption = f"{class_names[label]}{mistaken}, {sure}"
        result.append(Picture(images[number], f"{caption} (image {index})", lines[number], maps[number]))
    return result
