"""Colors of classes: those of PASCAL VOC, and tables of the colors that masks are painted with."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Sequence

import numpy as np

from keras_resnet.data.finder import read_text
from keras_resnet.errors import InputError

BACKGROUND = ("background", "_background_", "__background__", "other", "unlabeled", "void")
"""Names of classes, in lower case, that are black in pictures."""

IGNORED = ("void", "unlabeled", "unlabelled", "ignore", "__ignore__", "_ignore_", "ignored")
"""Names in a table of colors, in lower case, whose pixels are ignored."""

TABLES = ("label_colors.txt", "class_dict.csv", "label_colors.csv", "classes.csv")
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


def read_table(path: pathlib.Path) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Read a table of the colors of masks.

    Each line has three numbers and a name, in either order, separated by commas, semicolons or white space:
    "128,64,128,road", "road;128;64;128" or CamVid's "128 64 128 road". A line without three numbers at the top is the
    header. Lines that are named as in `IGNORED` give the colors of pixels that are ignored.

    Args:
        path: the file.

    Returns:
        Names of the classes, their colors u8[K,3], and the colors to ignore u8[N,3].

    Raises:
        ValueError: a line is no color, two lines have one color or name, or there are no classes.
    """
    names: list[str] = []
    colors: list[tuple[int, ...]] = []
    ignored: list[tuple[int, ...]] = []
    seen: dict[tuple[int, ...], str] = {}
    lines = [line.strip() for line in read_text(path).splitlines()]
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        parsed = _row(line)
        if parsed is None:
            if not seen and number == 1:
                continue
            raise InputError(
                f"label_colors file {str(path)!r} must have a name and three numbers from 0 to 255 in each line, such "
                f"as road,128,64,128; line {number} is {line!r}."
            )
        name, color = parsed
        if color in seen:
            raise InputError(
                f"label_colors file {str(path)!r} gives the color {','.join(map(str, color))} to both {seen[color]!r} "
                f"and {name!r}."
            )
        seen[color] = name
        if name.lower() in IGNORED:
            ignored.append(color)
            continue
        if name in names:
            raise InputError(f"label_colors file {str(path)!r} has the class {name!r} twice.")
        names.append(name)
        colors.append(color)
    if not names:
        raise InputError(f"label_colors file {str(path)!r} must have the color of at least one class; it has none.")
    return tuple(names), np.array(colors, "uint8"), np.array(ignored, "uint8").reshape(-1, 3)


def _row(line: str) -> tuple[str, tuple[int, ...]] | None:
    """The name and the color of a line; None if it has none."""
    between = r"\s*[,;\s]\s*"
    color = between.join(rf"(?P<{channel}>\d{{1,3}})" for channel in "rgb")
    patterns = (rf"(?P<name>.*?\S){between}{color}", rf"{color}{between}(?P<name>\S.*)")
    match = next(filter(None, (re.fullmatch(pattern, line) for pattern in patterns)), None)
    if match is None:
        return None
    values = tuple(int(match[channel]) for channel in "rgb")
    return (match["name"].strip('" '), values) if max(values) <= 255 else None
