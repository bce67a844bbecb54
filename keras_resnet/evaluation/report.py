"""Reports of evaluations: a folder with tables in JSON and Markdown, and figures for each row."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_resnet import files
from keras_resnet.data.dataset import Dataset
from keras_resnet.data.transforms import Transform
from keras_resnet.evaluation import figures, metrics
from keras_resnet.evaluation.metrics import Outcomes, Result

FREQUENT = 10
"""Number of the most frequent confusions in a report."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a results table.

    Attributes:
        network: name of the network.
        views: the test protocol, such as "ten_crop".
        result: the numbers.
    """

    network: str
    views: str
    result: Result


def markdown_table(names: Sequence[str], columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table.

    Args:
        names: headings of the first columns, which hold text.
        columns: headings of the other columns, whose numbers are aligned to the right.
        rows: the cells of each row.
    """
    rule = "|" + "---|" * len(names) + "---:|" * len(columns)
    head, *body = (f"| {' | '.join(cells)} |" for cells in ((*names, *columns), *rows))
    return "\n".join([head, rule, *body])


def table(rows: Sequence[Row]) -> str:
    """Return a Markdown table of errors in percent with 95 % intervals, loss, calibration error and image count.

    The top-5 error is left out if no network has more than five classes.
    """
    places = [place for place in (1, 5) if any(_error(row, place) for row in rows)]
    errors = [column for place in places for column in (f"top-{place} error (%)", "95 % interval")]
    cells = []
    for row in rows:
        result = row.result
        own = [cell for place in places for cell in _error(row, place) or ("", "")]
        others = (f"{result.loss:.4f}", f"{result.calibration_error:.2f}", str(result.count))
        cells.append((row.network, row.views, *own, *others))
    return markdown_table(("network", "views"), (*errors, "loss", "calibration error (%)", "images"), cells)


def _error(row: Row, place: int) -> tuple[str, str] | None:
    """Return the cells of the top-1 or top-5 error and its interval; None if there is none."""
    error, interval = getattr(row.result, f"top{place}_error"), getattr(row.result, f"top{place}_interval")
    return None if error is None else (f"{error:.2f}", f"{interval[0]:.2f}-{interval[1]:.2f}")


@contextlib.contextmanager
def new(
    out: str | os.PathLike,
    rows: Sequence[Row],
    class_names: Sequence[str],
    dataset: Dataset,
    split: str,
    transform: Transform,
    details: Mapping[str, Any],
) -> Iterator[pathlib.Path]:
    """Write `results.json`, `results.md`, and a folder with figures and `classes.csv` for each row.

    Args:
        out: folder to create; it must not exist, and appears when it is complete.
        rows: rows of the table.
        class_names: names of the networks' classes.
        dataset: the data set.
        split: the evaluated split.
        transform: test transform of the images in the figure of mistakes.
        details: what else the files state about the evaluation.

    Yields:
        The folder, in which more files may be written before it appears.

    Raises:
        ValueError: `out` exists or cannot be written.
    """
    with files.new_folder(out) as folder:
        (folder / "results.md").write_text(_markdown(rows, class_names, details), encoding="utf-8")
        values = {**details, "results": [_json(row) for row in rows]}
        (folder / "results.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        for row in rows:
            subfolder = folder / folder_name(row)
            subfolder.mkdir()
            title = f"{row.network}, {row.views}: top-1 error {row.result.top1_error:.2f} %"
            outcomes = row.result.outcomes
            _write_classes(subfolder / "classes.csv", outcomes, class_names)
            figures.confusion_matrix(outcomes, class_names, subfolder / "confusion.png", title)
            figures.reliability(outcomes, subfolder / "reliability.png", title)
            figures.mistakes(outcomes, dataset, split, transform, class_names, subfolder / "mistakes.png", title)
        yield folder


def folder_name(row: Row) -> str:
    """Return the name of the folder with a row's figures."""
    return re.sub(r"[^\w.-]+", "_", f"{row.network}_{row.views}").strip("_")


def _markdown(rows: Sequence[Row], class_names: Sequence[str], details: Mapping[str, Any]) -> str:
    parts = ["# Evaluation", "\n".join(f"- {name}: {value}" for name, value in details.items()), table(rows)]
    for row in rows:
        folder = folder_name(row)
        confusions = metrics.frequent_confusions(row.result.outcomes, FREQUENT)
        pairs = [f"{class_names[label]} taken for {class_names[other]} ({n})" for label, other, n in confusions]
        parts += [
            f"## {row.network}, {row.views}",
            f"Cohen's kappa {row.result.kappa:.3f}, macro-averaged F1 {row.result.macro_f1:.3f}.",
            f"Most frequent confusions: {'; '.join(pairs) or 'none'}. "
            f"Errors of each class: [classes.csv]({folder}/classes.csv).",
            "\n".join(f"![{name}]({folder}/{name}.png)" for name in ("confusion", "reliability", "mistakes")),
        ]
    return "\n\n".join(parts) + "\n"


def _json(row: Row) -> dict[str, Any]:
    counts = metrics.confusion(row.result.outcomes)
    return {
        "network": row.network,
        "views": row.views,
        **row.result.numbers(),
        "folder": folder_name(row),
        # Only the pairs of label and prediction that occur: of a million pairs of ImageNet's classes, few do.
        "confusion": [[int(a), int(b), int(counts[a, b])] for a, b in np.argwhere(counts)],
    }


def _write_classes(path: pathlib.Path, outcomes: Outcomes, class_names: Sequence[str]) -> None:
    errors, counts = metrics.class_errors(outcomes)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["class", "name", "images", "top1_error"])
        for number, (error, count) in enumerate(zip(errors, counts, strict=True)):
            writer.writerow([number, class_names[number], count, f"{error:.2f}" if count else ""])
