"""Medians, spreads and ratios of what was measured, as Markdown, JSON and a picture."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import statistics
from collections.abc import Mapping, Sequence

from benchmarks.alternating import Contender, Turns

TICK = 0.01
"""Seconds of processor time are counted in such steps, and a short turn may have taken none."""


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, and the smallest and the largest value in brackets."""
    median = statistics.median(values)
    if len(values) == 1:
        return f"{median:.{digits}f}"
    return f"{median:.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def ratios(first: Sequence[float], second: Sequence[float]) -> tuple[float, list[float]]:
    """The ratio of the medians, and that of each round."""
    each = [a / b for a, b in zip(first, second, strict=True)]
    return statistics.median(first) / statistics.median(second), each


@dataclasses.dataclass(frozen=True)
class Row:
    """A contender and what it reached.

    Attributes:
        name: of the contender.
        values: of each round by the clock, in the table's unit.
        processor: the same by processor time of all cores together.
        rate: operations a second by the clock, where they are known.
        share: that over the largest matrix product of the same dtype.
        peak_mib: largest memory of the process.
        is_limit: whether it is a matrix product.
        error: why it was not measured.
    """

    name: str
    values: list[float]
    processor: list[float]
    rate: float | None = None
    share: float | None = None
    peak_mib: float | None = None
    is_limit: bool = False
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """The rows of one subject.

    Attributes:
        kind: of the subject.
        title: heading.
        unit: "images/s", "ms", "s" or "MiB".
        rows: the first one is ours.
    """

    kind: str
    title: str
    unit: str
    rows: list[Row]

    @classmethod
    def of(cls, kind: str, title: str, unit: str, contenders: Sequence[Contender], found: Mapping[str, Turns]) -> Table:
        """Make a table of what was measured."""
        products: dict[str, list[float]] = {}
        for contender in contenders:
            if contender.is_limit and not found[contender.name].error:
                products.setdefault(contender.dtype, []).append(_rate(contender, found[contender.name]))
        rows = []
        for contender in contenders:
            turns = found[contender.name]
            if turns.error:
                rows.append(Row(contender.name, [], [], is_limit=contender.is_limit, error=turns.error))
                continue
            rate = _rate(contender, turns) if contender.operations else None
            largest = max(products.get(contender.dtype, [0.0]))
            rows.append(
                Row(
                    contender.name,
                    _values(unit, turns, turns.seconds),
                    _values(unit, turns, turns.processor),
                    rate,
                    rate / largest if rate and largest else None,
                    max(turns.peak_mib),
                    contender.is_limit,
                )
            )
        return cls(kind, title, unit, rows)

    def markdown(self) -> str:
        """The table; matrix products stand below it, since their images/s mean nothing."""
        first = self.rows[0]
        lines = [
            f"### {self.title}",
            "",
            f"| | {self.unit}, median (range) | first row over this (by round) | by processor time | GFLOP/s "
            "| of the matrix product | peak MiB |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        for row in self.rows:
            if row.error:
                lines.append(f"| {row.name} | not measured: {row.error.replace('|', '/')} | | | | | |")
                continue
            cells = [row.name, "", "", ""]
            if not row.is_limit:
                cells[1] = spread(row.values, _digits(row.values))
                if not first.error:
                    ratio, each = ratios(first.values, row.values)
                    cells[2] = f"{ratio:.2f} ({min(each):.2f}-{max(each):.2f})"
                    cells[3] = f"{ratios(first.processor, row.processor)[0]:.2f}" if self.unit != "MiB" else ""
            cells += [
                f"{row.rate / 1e9:.0f}" if row.rate else "",
                f"{row.share:.0%}" if row.share else "",
                f"{row.peak_mib:.0f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)

    def to_dict(self) -> dict:
        """The table in JSON's types, with the ratios."""
        rows = []
        for row in self.rows:
            values = dataclasses.asdict(row)
            if row.values and not row.is_limit and not self.rows[0].error:
                values["first_over_this"], values["by_round"] = ratios(self.rows[0].values, row.values)
            rows.append(values)
        return {"kind": self.kind, "title": self.title, "unit": self.unit, "rows": rows}


def _rate(contender: Contender, turns: Turns) -> float:
    """Operations a second: the median over the rounds."""
    each = [amount / seconds for amount, seconds in zip(turns.amounts, turns.seconds, strict=True)]
    return contender.operations * statistics.median(each)


def _values(unit: str, turns: Turns, seconds: Sequence[float]) -> list[float]:
    """What was measured in each round, in the table's unit."""
    if unit == "MiB":
        return list(turns.peak_mib)
    if unit == "images/s":
        return [amount / max(one, TICK) for amount, one in zip(turns.amounts, seconds, strict=True)]
    return [
        max(one, TICK if seconds is turns.processor else 0.0) / amount * {"ms": 1e3, "s": 1.0}[unit]
        for amount, one in zip(turns.amounts, seconds, strict=True)
    ]


def _digits(values: Sequence[float]) -> int:
    """Digits behind the point for three that count."""
    median = statistics.median(values)
    return max(0, 2 - math.floor(math.log10(median))) if median > 0 else 0


def plot(tables: Sequence[Table], path: pathlib.Path) -> None:
    """Draw the medians of each table as bars, with lines from the smallest to the largest round."""
    from matplotlib import pyplot

    shown = [(table, [row for row in table.rows if row.values and not row.is_limit]) for table in tables]
    shown = [(table, rows) for table, rows in shown if rows]
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
