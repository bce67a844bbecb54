"""Learning curves: training error (dashed) and test error (solid) of runs, as the paper's figures show them."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping, Sequence

ERRORS = {"top1_error": "training", "val_top1_error": "test"}
"""Names of a classifier's errors in the records -> labels of their lines."""


def read_metrics(path: str | os.PathLike) -> list[dict]:
    """Read a run's `metrics.jsonl`; a last line that a kill cut short is left out."""
    records = []
    for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            records.append(json.loads(line))
    return records


def plot(
    runs: Mapping[str, Sequence[dict]],
    path: str | os.PathLike,
    title: str = "",
    highest: float | None = None,
    *,
    lines: Mapping[str, str] = ERRORS,
    label: str = "top-1 error (%)",
) -> None:
    """Draw the errors of runs over steps (Figures 1 and 4): training dashed, test solid, one colour a run.

    Args:
        runs: name -> the records of `read_metrics`.
        path: the picture.
        title: of the picture.
        highest: upper end of the vertical axis; by default what fits.
        lines: name in the records -> label of its line; names of test figures start with "val_".
        label: what the lines show.
    """
    plot_panels({title: runs}, path, highest, lines=lines, label=label)


def plot_panels(
    panels: Mapping[str, Mapping[str, Sequence[dict]]],
    path: str | os.PathLike,
    highest: float | None = None,
    *,
    lines: Mapping[str, str] = ERRORS,
    label: str = "top-1 error (%)",
) -> None:
    """Draw the errors of groups of runs side by side with one vertical axis, as Figure 6 does.

    Args:
        panels: title -> the runs below it, as for `plot`, whose other arguments are the same.
        path: the picture.
        highest: upper end of the vertical axis.
        lines: name in the records -> label of its line.
        label: what the lines show.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7 * len(panels), 4.5), layout="constrained")
    row = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (title, runs) in zip(row, panels.items(), strict=True):
        _draw(axes, runs, lines)
        axes.set(xlabel="step", ylim=(0, highest), title=title)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8 if len(runs) > 3 else None)
    row[0].set_ylabel(label)
    figure.savefig(path, dpi=120)


def _draw(axes, runs: Mapping[str, Sequence[dict]], lines: Mapping[str, str]) -> None:
    for number, (name, records) in enumerate(runs.items()):
        prefix = f"{name}, " if len(runs) > 1 else ""
        for key, line in lines.items():
            points = [(record["step"], record[key]) for record in records if key in record]
            steps, errors = zip(*points, strict=True) if points else ((), ())
            marker = "o" if len(points) == 1 else None
            color = f"C{number}" if len(runs) > 1 else None
            style = "-" if key.startswith("val_") else "--"
            axes.plot(steps, errors, style, marker=marker, color=color, label=prefix + line)
