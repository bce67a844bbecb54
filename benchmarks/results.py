"""Medians, ranges and ratios of measurements, as Markdown, JSON and a plot."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import statistics
from collections.abc import Mapping, Sequence

from benchmarks.alternating import Contender, Turns

TICK = 0.01
"""Resolution of processor time in seconds; a short turn may measure 0."""


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return the median, with the smallest and largest value in parentheses."""
    median = statistics.median(values)
    if len(values) == 1:
        return f"{median:.{digits}f}"
    return f"{median:.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def ratios(first: Sequence[float], second: Sequence[float]) -> tuple[float, list[float]]:
    """Return the ratio of the medians, and the ratio of each round."""
    each = [a / b for a, b in zip(first, second, strict=True)]
    return statistics.median(first) / statistics.median(second), each


@dataclasses.dataclass(frozen=True)
class Row:
    """The results of one contender.

    Attributes:
        name: name of the contender.
        values: value of each round by wall time, in the table's unit.
        processor: the same by processor time of all cores.
        rate: operations per second of wall time, if known.
        share: `rate` over that of the largest matrix product of the same dtype.
        peak_mib: peak memory of the process.
        device_mib: peak memory of its arrays on a GPU.
        is_limit: whether it is a matrix product.
        error: why it was not measured.
    """

    name: str
    values: list[float]
    processor: list[float]
    rate: float | None = None
    share: float | None = None
    peak_mib: float | None = None
    device_mib: float | None = None
    is_limit: bool = False
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """The rows of one subject.

    Attributes:
        kind: kind of the subject.
        title: heading.
        unit: as of `subjects.Subject`.
        rows: the first one is this package's.
    """

    kind: str
    title: str
    unit: str
    rows: list[Row]

    @classmethod
    def of(
        cls,
        kind: str,
        title: str,
        unit: str,
        contenders: Sequence[Contender],
        turns: Mapping[str, Turns],
        products: Mapping[str, float] | None = None,
    ) -> Table:
        """Return the table of measurements.

        Args:
            kind: kind of the subject.
            title: heading.
            unit: as of `subjects.Subject`.
            contenders: those measured.
            turns: name -> measurements.
            products: dtype -> rate of its largest matrix product, if another table has them.
        """
        products = {**(products or {}), **limits(contenders, turns)}
        rows = []
        for contender in contenders:
            measured = turns[contender.name]
            if measured.error:
                rows.append(Row(contender.name, [], [], is_limit=contender.is_limit, error=measured.error))
                continue
            rate = _rate(contender, measured) if contender.operations else None
            largest = products.get(contender.dtype)
            rows.append(
                Row(
                    contender.name,
                    _values(unit, measured, measured.seconds),
                    _values(unit, measured, measured.processor),
                    rate,
                    rate / largest if rate and largest else None,
                    max(measured.peak_mib),
                    max(measured.device_mib, default=None),
                    contender.is_limit,
                )
            )
        return cls(kind, title, unit, rows)

    def markdown(self) -> str:
        """Return the table; matrix products have no values, because images/s do not apply to them."""
        first = self.rows[0]
        on_device = any(row.device_mib is not None for row in self.rows)
        lines = [
            f"### {self.title}",
            "",
            f"| | {self.unit}, median (range) | first row / this row (per round) | by processor time | GFLOP/s "
            f"| of matrix product | peak MiB |{' GPU MiB |' if on_device else ''}",
            f"|---|---:|---:|---:|---:|---:|---:|{'---:|' if on_device else ''}",
        ]
        for row in self.rows:
            if row.error:
                reason = f"not measured: {row.error.replace('|', '/')}"
                lines.append(f"| {row.name} | {reason} | | | | | |{' |' if on_device else ''}")
                continue
            cells = [row.name, "", "", ""]
            if not row.is_limit:
                cells[1] = spread(row.values, _digits(row.values))
                if not first.error and self.unit != "difference":
                    ratio, each = ratios(first.values, row.values)
                    cells[2] = f"{ratio:.2f} ({min(each):.2f}-{max(each):.2f})"
                    # Libraries of GPUs let the processor wait in a loop.
                    if self.unit != "MiB" and not on_device:
                        cells[3] = f"{ratios(first.processor, row.processor)[0]:.2f}"
            cells += [
                f"{row.rate / 1e9:.0f}" if row.rate else "",
                f"{row.share:.0%}" if row.share else "",
                f"{row.peak_mib:.0f}",
            ]
            if on_device:
                cells.append("" if row.device_mib is None else f"{row.device_mib:.0f}")
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)

    def too_slow(self, expected: Mapping[str, float]) -> list[str]:
        """Return a sentence for each row that the first row is not even half as much faster than as expected.

        Args:
            expected: row -> ratio of the first row's speed to that row's, by processor time.
        """
        sentences = []
        rows = {row.name: row for row in self.rows}
        for name, ratio in expected.items():
            if not self.rows[0].processor or not rows[name].processor:
                sentences.append(f"{self.title}: {self.rows[0].name} or {name} was not measured.")
                continue
            found = ratios(self.rows[0].processor, rows[name].processor)[0]
            if found < ratio / 2:
                speed = f"{self.rows[0].name} has {found:.2f} times the speed of {name}"
                sentences.append(f"{self.title}: {speed} instead of {ratio:.2f}.")
        return sentences

    def to_dict(self) -> dict:
        """Return the table as JSON types, with the ratios."""
        rows = []
        for row in self.rows:
            values = dataclasses.asdict(row)
            compared = self.unit != "difference" and not row.is_limit and not self.rows[0].error
            if row.values and compared:
                values["first_over_this"], values["by_round"] = ratios(self.rows[0].values, row.values)
            rows.append(values)
        return {"kind": self.kind, "title": self.title, "unit": self.unit, "rows": rows}


def limits(contenders: Sequence[Contender], turns: Mapping[str, Turns]) -> dict[str, float]:
    """Return dtype -> rate of its largest matrix product, of those that were measured."""
    largest: dict[str, float] = {}
    for contender in contenders:
        if contender.is_limit and contender.name in turns and not turns[contender.name].error:
            rate = _rate(contender, turns[contender.name])
            largest[contender.dtype] = max(rate, largest.get(contender.dtype, 0.0))
    return largest


def _rate(contender: Contender, turns: Turns) -> float:
    """Return operations per second, the median over the rounds."""
    each = [amount / seconds for amount, seconds in zip(turns.amounts, turns.seconds, strict=True)]
    return contender.operations * statistics.median(each)


def _values(unit: str, turns: Turns, seconds: Sequence[float]) -> list[float]:
    """Return the value of each round in the table's unit."""
    if unit == "MiB":
        return list(turns.peak_mib)
    if unit == "difference":
        return list(turns.amounts)
    if unit == "images/s":
        return [amount / max(spent, TICK) for amount, spent in zip(turns.amounts, seconds, strict=True)]
    return [
        max(spent, TICK if seconds is turns.processor else 0.0) / amount * {"ms": 1e3, "s": 1.0}[unit]
        for amount, spent in zip(turns.amounts, seconds, strict=True)
    ]


def _digits(values: Sequence[float]) -> int:
    """Return the decimals for three significant digits."""
    median = statistics.median(values)
    return max(0, 2 - math.floor(math.log10(median))) if median > 0 else 0


def plot(tables: Sequence[Table], path: pathlib.Path) -> None:
    """Plot the medians of each table as bars, with error bars from the smallest to the largest round."""
    from matplotlib import pyplot

    shown = [(table, [row for row in table.rows if row.values and not row.is_limit]) for table in tables]
    shown = [(table, rows) for table, rows in shown if rows]
    if not shown:
        return
    heights = [0.8 + 0.35 * len(rows) for _, rows in shown]
    figure, axes = pyplot.subplots(
        len(shown), 1, figsize=(9, sum(heights)), height_ratios=heights, squeeze=False, layout="constrained"
    )
    for (table, rows), axis in zip(shown, axes[:, 0], strict=True):
        medians = [statistics.median(row.values) for row in rows]
        below = [median - min(row.values) for median, row in zip(medians, rows, strict=True)]
        above = [max(row.values) - median for median, row in zip(medians, rows, strict=True)]
        colors = ["tab:blue" if row.name.startswith(("keras_resnet", "keras-resnet")) else "tab:gray" for row in rows]
        bars = axis.barh([row.name for row in rows], medians, xerr=(below, above), color=colors, capsize=2)
        axis.bar_label(bars, [spread(row.values, _digits(row.values)) for row in rows], padding=6, fontsize=8)
        axis.set_title(table.title, loc="left", fontsize=10)
        axis.set_xlabel(table.unit)
        axis.invert_yaxis()
        axis.margins(x=0.25)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
