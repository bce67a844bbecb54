"""The state of a run as text: its progress, its speed and its curves, read from the run's folder alone."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from keras_resnet.errors import InputError
from keras_resnet.experiment.config import read_json
from keras_resnet.experiment.curves import Records, read_metrics

BLOCKS = "▁▂▃▄▅▆▇█"
"""Heights of a sparkline."""

QUIET_SECONDS = 600
"""A run whose folder has not changed for so long, and for three times its usual interval, is said to be quiet."""

MAIN = ("val_top1_error", "val_error")
"""Names of the error on the evaluated split, of which the first that occurs has a chart."""

DETAILS = re.compile(r"val_(ap50|iou|accuracy)_")
"""Beginnings of the names of values of single classes, which are left out."""

CHART_ROWS = 8


@dataclasses.dataclass(frozen=True)
class State:
    """The state of a run.

    Attributes:
        name: the folder as it was given.
        task: the task of the run.
        steps: number of steps of the run.
        step: the newest step that the folder knows of.
        rate: steps per second between the newest two checkpoints or evaluations; None if there are fewer.
        age: seconds since the folder changed.
        records: the records of `metrics.jsonl`.
        stopped_early: whether the run ended before its last step.
    """

    name: str
    task: str
    steps: int
    step: int
    rate: float | None
    age: float
    records: Records
    stopped_early: bool = False

    @classmethod
    def read(cls, path: str, now: float | None = None) -> State:
        """Read the state of a run's folder, which another process may be writing.

        Args:
            path: the folder.
            now: the current time in seconds since 1970; by default that of the clock.

        Raises:
            ValueError: config.json cannot be read or names no steps.
        """
        folder = pathlib.Path(path)
        content = read_json(folder / "config.json")
        config = content.get("config", {})
        if not isinstance(config, Mapping) or not isinstance(config.get("steps"), int):
            raise InputError(f"config.json of {path!r} must have the number of steps; it has none.")
        metrics = folder / "metrics.jsonl"
        records = read_metrics(metrics) if metrics.is_file() else []
        times: dict[int, float] = {}
        for index in folder.glob("checkpoints/ckpt-*.index"):
            times[int(index.stem.split("-")[1])] = index.stat().st_mtime
        last = int(records[-1]["step"]) if records else 0
        if records and last not in times:
            times[last] = metrics.stat().st_mtime
        *_, before, newest = [None, None, *sorted(times)]
        rate = None
        if before is not None and newest is not None and times[newest] > times[before]:
            rate = (newest - before) / (times[newest] - times[before])
        changed = max([*times.values(), (folder / "config.json").stat().st_mtime])
        now = time.time() if now is None else now
        task = str(content.get("task", "classification"))
        stopped_early = (folder / "early_stop.json").is_file()
        return cls(path, task, config["steps"], newest or last, rate, max(now - changed, 0.0), records, stopped_early)

    @property
    def is_finished(self) -> bool:
        """Whether all steps were taken, or the run stopped early."""
        return self.stopped_early or self.step >= self.steps

    def headline(self) -> str:
        """Return the progress in a line."""
        share = f"step {self.step:,} of {self.steps:,} ({100 * self.step / max(self.steps, 1):.1f} %)"
        parts = [f"{self.name} ({self.task}): {share}"]
        if self.is_finished:
            return f"{parts[0]}, {'stopped early' if self.stopped_early else 'finished'} {duration(self.age)} ago"
        if self.rate:
            speed = f"{self.rate:.2f} steps/s" if self.rate >= 1 else f"{1 / self.rate:.1f} s a step"
            parts += [speed, f"about {duration((self.steps - self.step) / self.rate)} left"]
        usual = 3 * (self.step / self.rate) / max(len(self.records), 1) if self.rate else 0.0
        is_quiet = self.age > max(QUIET_SECONDS, usual)
        parts.append(f"{'QUIET: ' if is_quiet else ''}last change {duration(self.age)} ago")
        return ", ".join(parts)


def text(states: Sequence[State], width: int = 80) -> str:
    """Return the runs with a line of progress, a line for each value and a chart of the error.

    Args:
        states: the runs.
        width: characters in a line.
    """
    return "\n\n".join("\n".join([state.headline(), *_values(state, width), *_chart(state, width)]) for state in states)


def duration(seconds: float) -> str:
    """Return a duration such as "12 s", "3 min", "2 h 05 min" or "3 d 4 h"."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def sparkline(values: Sequence[float], width: int) -> str:
    """Return the course of values in one line of at most `width` blocks; more values than that are averaged.

    Args:
        values: finite numbers.
        width: largest number of characters.
    """
    means = _averaged(values, width)
    low, high = min(means), max(means)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((value - low) * scale)] for value in means)


def _averaged(values: Sequence[float], count: int) -> list[float]:
    """At most `count` means of consecutive values."""
    if len(values) <= count:
        return list(values)
    bounds = [index * len(values) // count for index in range(count + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(bounds)]


def _columns(records: Records) -> dict[str, list[tuple[int, float]]]:
    """Name -> step and value, of the numbers in the records."""
    columns: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for name, value in record.items():
            if name != "step" and not DETAILS.match(name) and _is_finite(value):
                columns.setdefault(name, []).append((record["step"], value))
    return columns


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and value == value and abs(value) != float("inf")


def _values(state: State, width: int) -> list[str]:
    """A line for each value: its name, the newest value and its course."""
    columns = _columns(state.records)
    longest = max(map(len, columns), default=0)
    room = max(width - longest - 18, 8)
    return [
        f"  {name:<{longest}}  {points[-1][1]:>10.4g}  {sparkline([value for _, value in points], room)}"
        for name, points in columns.items()
    ]


def _chart(state: State, width: int) -> list[str]:
    """The error on the evaluated split over steps, in rows of text."""
    columns = _columns(state.records)
    name = next((name for name in MAIN if len(columns.get(name, ())) > 1), None)
    if name is None:
        return []
    points, room = columns[name], max(width - 12, 10)
    values = [value for _, value in points]
    low, high = min(values), max(values)
    last = max(state.steps, points[-1][0])
    rows = [[" "] * room for _ in range(CHART_ROWS)]
    for step, value in points:
        height = round((value - low) / (high - low) * (CHART_ROWS - 1)) if high > low else 0
        rows[CHART_ROWS - 1 - height][min(step * room // max(last, 1), room - 1)] = "•"
    labels = {0: f"{high:.4g}", CHART_ROWS - 1: f"{low:.4g}"}
    lines = [f"  {labels.get(number, ''):>7} │{''.join(row).rstrip()}" for number, row in enumerate(rows)]
    best, at = min((value, step) for step, value in points)
    axis = f"{'':>10}└{'─' * (room - 1)}"
    return [f"  {name}: lowest {best:.4g} at step {at:,}", *lines, axis, f"{'':>10} 0{f'{last:,}':>{room - 2}}"]
