"""Colors of classes: those of PASCAL VOC, and tables of the colors that masks are painted with."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_resnet.data.finder import read_text
from keras_resnet.errors import InputError

BACKGROUND = ("background", "_background_", "__background__", "other", "unlabeled", "void")
"""Names of classes, in lower case, that are black in pictures."""

IGNORED = ("void", "unlabeled", "unlabelled", "ignore", "__ignore__", "_ignore_", "ignored")
"""Names in a table of colors, in lower case, whose pixels are ignored."""

TABLES = ("label_colors.txt", "class_dict.csv", "label_colors.csv", "classes.csv", "labelmap.txt")
"""Names of the files in a folder that are read as tables of colors."""


def voc_colormap(count: int) -> np.ndarray:
    """Return the first colors of PASCAL VOC's color map, u8[count,3]; the first one is black.

    The bits of an index are dealt to red, green and blue in turn, from the highest bit of the colors down.
    """
    index = np.arange(count)
    colors = np.zeros((count, 3), "uint8")
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= ((index >> (3 * bit + channel) & 1) << (7 - bit)).astype("uint8")
    return colors


def palette(class_names: Sequence[str]) -> np.ndarray:
    """Return VOC's colors for classes, u8[K,3]; black is only for a first class named as the background."""
    first = 0 if class_names and class_names[0].lower() in BACKGROUND else 1
    return voc_colormap(len(class_names) + 1)[first : first + len(class_names)]


def to_hex(colors: np.ndarray) -> tuple[str, ...]:
    """Return colors u8[K,3] as text such as "#804080"."""
    return tuple("#" + bytes(color).hex() for color in np.asarray(colors, "uint8"))


class Table(NamedTuple):
    """A table of the colors of masks.

    Attributes:
        names: names of the K classes.
        colors: colors of the lines u8[N,3], in another order: first those of the classes, then those to ignore.
        values: number of the line of each color, from 0 on.
    """

    names: tuple[str, ...]
    colors: np.ndarray
    values: tuple[int, ...]


def read_table(path: pathlib.Path) -> Table:
    """Read a table of the colors of masks.

    Each line has three numbers and a name, in either order, separated by commas, semicolons, colons or white space:
    "128,64,128,road", "road;128;64;128", CamVid's "128 64 128 road" or CVAT's "road:128,64,128::"; or a hexadecimal
    color, "road #804080". The number of the line may precede the name. A line without a color at the top is the header.
    Lines that are named as in `IGNORED` give the colors of pixels that are ignored.

    Args:
        path: the file.

    Raises:
        ValueError: a line is no color, two lines have one color or name, or there are no classes.
    """
    rows: list[tuple[str, tuple[int, ...]]] = []
    lines = [line.strip() for line in read_text(path).splitlines()]
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        row = _row(line)
        if row:
            rows.append(row)
        elif rows or number > 1:
            raise InputError(
                f"label_colors file {str(path)!r} must have a name and three numbers from 0 to 255 in each line, such "
                f"as road,128,64,128; line {number} is {line!r}."
            )
    rows = _without_numbers(rows)
    _check(path, rows)
    order = sorted(range(len(rows)), key=lambda number: rows[number][0].lower() in IGNORED)
    names = tuple(name for name, _ in rows if name.lower() not in IGNORED)
    return Table(names, np.array([rows[number][1] for number in order], "uint8"), tuple(order))


def _check(path: pathlib.Path, rows: Sequence[tuple[str, tuple[int, ...]]]) -> None:
    """Refuse a table in which two lines have one color or name, or without classes."""
    seen: dict[tuple[int, ...], str] = {}
    for name, color in rows:
        if color in seen:
            raise InputError(
                f"label_colors file {str(path)!r} gives the color {','.join(map(str, color))} to both {seen[color]!r} "
                f"and {name!r}."
            )
        if name in seen.values() and name.lower() not in IGNORED:
            raise InputError(f"label_colors file {str(path)!r} has the class {name!r} twice.")
        seen[color] = name
    if all(name.lower() in IGNORED for name in seen.values()):
        raise InputError(f"label_colors file {str(path)!r} must have the color of at least one class; it has none.")


def _without_numbers(rows: list[tuple[str, tuple[int, ...]]]) -> list[tuple[str, tuple[int, ...]]]:
    """The rows without the numbers from 0 on, if the name of each has its own before it: "3,road" of row 3."""
    named = [re.fullmatch(rf"{number}\s*[,;\s]\s*(\S.*)", name) for number, (name, _) in enumerate(rows)]
    return [(match[1].strip('" '), color) for match, (_, color) in zip(named, rows, strict=True) if match] or rows


def _row(line: str) -> tuple[str, tuple[int, ...]] | None:
    """The name and the color of a line; None if it has none."""
    between = r"\s*[,;:\s]\s*"
    color = between.join(rf"(?P<{channel}>\d{{1,3}})" for channel in "rgb")
    patterns = (
        rf"(?P<name>.*?\S){between}{color}",
        rf"{color}{between}(?P<name>\S.*)",
        rf"(?P<name>[^:]*\S):{color}:[^:]*:[^:]*",  # CVAT: parts and actions follow
        rf"(?P<name>.*?\S){between}#(?P<r>[\da-f]{{2}})(?P<g>[\da-f]{{2}})(?P<b>[\da-f]{{2}})",
    )
    match = next(filter(None, (re.fullmatch(pattern, line, re.IGNORECASE) for pattern in patterns)), None)
    if match is None:
        return None
    values = tuple(int(match[channel], 16 if "#" in line else 10) for channel in "rgb")
    return (match["name"].strip('" '), values) if max(values) <= 255 else None
