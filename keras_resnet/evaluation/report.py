"""A folder with everything about an evaluation: tables as JSON and Markdown, and pictures of each row."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import pathlib
import re
import shutil
from collections.abc import Sequence

import numpy as np

from keras_resnet.data.dataset import Dataset
from keras_resnet.data.transforms import Transform
from keras_resnet.errors import InputError
from keras_resnet.evaluation import figures, metrics
from keras_resnet.evaluation.metrics import Result

FREQUENT = 10
"""How many confusions a report names."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a results table.

    Attributes:
        network: its name.
        views: the protocol, such as "ten_crop".
        result: the numbers.
    """

    network: str
    views: str
    result: Result


def table(rows: Sequence[Row]) -> str:
    """Return a Markdown table: errors in percent with their 95 % intervals, loss, calibration error and count."""
    lines = [
        "| network | views | top-1 error (%) | 95 % interval | top-5 error (%) | 95 % interval | loss "
        "| calibration error (%) | images |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        result = row.result
        first, fifth = (f"{low:.2f}-{high:.2f}" for low, high in (result.top1_interval, result.top5_interval))
        lines.append(
            f"| {row.network} | {row.views} | {result.top1_error:.2f} | {first} | {result.top5_error:.2f} | {fifth} "
            f"| {result.loss:.4f} | {result.calibration_error:.2f} | {result.count} |"
        )
    return "\n".join(lines)


def check(out: str | os.PathLike | None) -> None:
    """Raise `InputError` where a report's folder exists, before the work is done."""
    if out is not None and pathlib.Path(out).exists():
        raise InputError(f"out must be a folder that does not exist yet; {os.fspath(out)!r} does.")


def write(
    out: str | os.PathLike,
    rows: Sequence[Row],
    class_names: Sequence[str],
    dataset: Dataset,
    split: str,
    view: Transform,
    facts: dict,
) -> None:
    """Write `results.json`, `results.md`, and for each row a folder with its pictures and `classes.csv`.

    Args:
        out: folder to make; it must not exist, and appears when it is complete.
        rows: of the table.
        class_names: names of the networks' classes.
        dataset: where the images came from.
        split: of the data set.
        view: what the picture of mistakes shows of each image.
        facts: what else the JSON file says of the evaluation.

    Raises:
        ValueError: `out` exists or cannot be made.
    """
    check(out)
    out = pathlib.Path(out)
    partial = out.with_name(f".{os.getpid()}.{out.name}")
    try:
        partial.mkdir(parents=True)
        (partial / "results.md").write_text(_markdown(rows, class_names, facts), encoding="utf-8")
        values = {**facts, "results": [_json(row) for row in rows]}
        (partial / "results.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        for row in rows:
            folder = partial / folder_name(row)
            folder.mkdir()
            title = f"{row.network}, {row.views}: top-1 error {row.result.top1_error:.2f} %"
            outcomes = row.result.outcomes
            _write_classes(folder / "classes.csv", outcomes, class_names)
            figures.confusion_matrix(outcomes, class_names, folder / "confusion.png", title)
            figures.reliability(outcomes, folder / "reliability.png", title)
            figures.mistakes(outcomes, dataset, split, view, class_names, folder / "mistakes.png", title)
        os.replace(partial, out)
    except OSError as error:
        raise InputError(f"out must be a folder that can be made; {str(out)!r} cannot: {error.strerror}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def folder_name(row: Row) -> str:
    """Name of the folder of a row's pictures."""
    return re.sub(r"[^\w.-]+", "_", f"{row.network}_{row.views}").strip("_")


def _markdown(rows: Sequence[Row], class_names: Sequence[str], facts: dict) -> str:
    parts = ["# Evaluation", "\n".join(f"- {name}: {value}" for name, value in facts.items()), table(rows)]
    for row in rows:
        folder = folder_name(row)
        pairs = metrics.frequent_confusions(row.result.outcomes, FREQUENT)
        parts += [
            f"## {row.network}, {row.views}",
            f"Cohen's kappa {row.result.kappa:.3f}, macro-averaged F1 {row.result.macro_f1:.3f}.",
            "Most frequent confusions: "
            + ("; ".join(f"{class_names[a]} taken for {class_names[b]} ({n})" for a, b, n in pairs) or "none")
            + f". Errors of each class: [classes.csv]({folder}/classes.csv).",
            "\n".join(f"![{name}]({folder}/{name}.png)" for name in ("confusion", "reliability", "mistakes")),
        ]
    return "\n\n".join(parts) + "\n"


def _json(row: Row) -> dict:
    counts = metrics.confusion(row.result.outcomes)
    pairs = np.argwhere(counts)
    return {
        "network": row.network,
        "views": row.views,
        **row.result.numbers(),
        "folder": folder_name(row),
        # Label, predicted class and how many images, where there are any: a thousand classes have few of a million.
        "confusion": [[int(label), int(other), int(counts[label, other])] for label, other in pairs],
    }


def _write_classes(path: pathlib.Path, outcomes, class_names: Sequence[str]) -> None:
    errors, counts = metrics.class_errors(outcomes)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["class", "name", "images", "top1_error"])
        for number, (error, count) in enumerate(zip(errors, counts, strict=True)):
            writer.writerow([number, class_names[number], count, f"{error:.2f}" if count else ""])
