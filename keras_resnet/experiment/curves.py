"""Learning curves of runs: training error (dashed) and test error (solid), as in the paper's figures."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from keras_resnet.experiment import plots

ERRORS = {"top1_error": "training", "val_top1_error": "test"}
"""Name of an error in a classifier's records -> label of its line."""

Records = Sequence[Mapping[str, Any]]
"""The records of a run's `metrics.jsonl`."""


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Read a run's `metrics.jsonl`, without an incomplete last line."""
    records = []
    for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            records.append(json.loads(line))
    return records


def plot(
    runs: Mapping[str, Records],
    path: str | os.PathLike,
    title: str = "",
    highest: float | None = None,
    *,
    lines: Mapping[str, str] = ERRORS,
    label: str = "top-1 error (%)",
) -> None:
    """Plot the errors of runs over steps (Figures 1 and 4): training dashed, test solid, one color per run.

    Args:
        runs: name -> records from `read_metrics`.
        path: the image file.
        title: title of the plot.
        highest: upper end of the vertical axis; by default it fits the data.
        lines: name in the records -> label of its line; names of test results start with "val_".
        label: label of the vertical axis.
    """
    plot_panels({title: runs}, path, highest, lines=lines, label=label)


def plot_panels(
    panels: Mapping[str, Mapping[str, Records]],
    path: str | os.PathLike,
    highest: float | None = None,
    *,
    lines: Mapping[str, str] = ERRORS,
    label: str = "top-1 error (%)",
) -> None:
    """Plot the errors of groups of runs side by side with a shared vertical axis, as in Figure 6.

    Args:
        panels: title -> the runs of the panel, as for `plot`.
        path: the image file.
        highest: upper end of the vertical axis; by default it fits the data.
        lines: name in the records -> label of its line.
        label: label of the vertical axis.
    """
    with plots.figure(path, 7 * len(panels), 4.5, dpi=120) as figure:
        row = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axes, (title, runs) in zip(row, panels.items(), strict=True):
            _draw(axes, runs, lines)
            axes.set(xlabel="step", ylim=(0, highest), title=plots.label(title))
            plots.whole_numbers(axes.xaxis)
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8 if len(runs) > 3 else None)
        row[0].set_ylabel(label)


def _draw(axes: Any, runs: Mapping[str, Records], lines: Mapping[str, str]) -> None:
    for number, (name, records) in enumerate(runs.items()):
        prefix = f"{name}, " if len(runs) > 1 else ""
        for key, line in lines.items():
            points = [(record["step"], record[key]) for record in records if key in record]
            steps, errors = zip(*points, strict=True) if points else ((), ())
            marker = "o" if len(points) == 1 else None
            color = f"C{number}" if len(runs) > 1 else None
            style = "-" if key.startswith("val_") else "--"
            axes.plot(steps, errors, style, marker=marker, color=color, label=plots.label(prefix + line))
