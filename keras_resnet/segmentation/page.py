"""The web page of an evaluation of segmenters: IoU of each class, confusions of pixels and the worst images."""

from __future__ import annotations

import pathlib
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_resnet.evaluation import page
from keras_resnet.evaluation.page import Cell, Gallery, Picture, Plot, Table
from keras_resnet.segmentation import pictures

if typing.TYPE_CHECKING:
    from keras_resnet.segmentation.evaluate import Evaluation  # which calls this module

SIDE = 1280
"""Longer side of a picture on the page in pixels."""


def write(
    folder: pathlib.Path,
    title: str,
    evaluation: Evaluation,
    names: Sequence[str],
    palette: np.ndarray,
    details: Mapping[str, Any],
) -> None:
    """Write `index.html`.

    Args:
        folder: folder of the report, with `confusion.png`.
        title: title of the page.
        evaluation: the evaluation of a split.
        names: names of the split's images, in its order.
        palette: colors of the classes u8[K,3].
        details: what the page states about the evaluation.
    """
    worst = []
    for sample in evaluation.worst:
        image = pictures.side_by_side(sample.pixels, sample.labels, sample.predictions, palette)
        worst.append(Picture.of(image, SIDE, f"{names[sample.index]}: mean IoU {sample.mean_iou:.2f} %"))
    legend = Picture(np.asarray(pictures.legend(evaluation.result.class_names, palette)), "Colors of the classes")
    note = "Image, truth, prediction and errors; the colors of the classes are in the last picture."
    sections: list[page.Section] = [
        _classes(evaluation),
        Plot.read("Confusion of pixels", folder / "confusion.png"),
        Gallery("Worst images", tuple(range(len(worst) + 1)), 60, note),
    ]
    page.write(folder / "index.html", title, details, sections, [*worst, legend])


def _classes(evaluation: Evaluation) -> Table:
    result = evaluation.result
    shares = 100 * result.confusion.sum(1) / max(int(result.confusion.sum()), 1)
    rows: list[tuple[Cell, ...]] = [
        (name, *map(page.number, values))
        for name, *values in zip(result.class_names, shares, result.iou, result.class_accuracy, strict=True)
    ]
    note = f"Mean IoU {result.mean_iou:.2f} %, pixel accuracy {result.pixel_accuracy:.2f} %, "
    note += f"mean accuracy {result.mean_accuracy:.2f} %, over the classes that occur."
    return Table("Classes", ("class", "pixels (%)", "IoU (%)", "accuracy (%)"), rows, (0, 2, 2, 2), note)
