"""Files of masks: from the values or colors of their pixels to labels u8[H,W].

* The values of gray masks are classes, as are the indices of palette PNGs: the colors of the palette do not matter.
* With a table of colors, each pixel's color decides, also that of palette and gray PNGs. An alpha channel is ignored.
* A mask in RGB without a table is accepted if it is gray: red, green and blue are equal everywhere.
* 16-bit masks, and TIFFs in floating point, are read by their values.
* JPEGs are refused, because their compression changes the values.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import logging
import os
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from keras_resnet.data import finder
from keras_resnet.errors import InputError, listed
from keras_resnet.segmentation.choices import IGNORE_LABEL

GRAY = ("1", "L", "P", "LA", "PA", "I", "I;16", "I;16B", "I;16L", "F")
"""Modes of Pillow whose first channel holds values."""

COLOR = ("RGB", "RGBA", "RGBX")

VALUES = 2**16
"""Number of values of the pixels of a mask."""

PALETTES = 64
"""Number of masks whose palettes are compared."""

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class MaskFormat:
    """How the masks of a data set store their classes.

    Attributes:
        classes: number of classes.
        values: value of each class; by default they are counted from 0.
        ignored: further values to ignore; 255 is ignored unless it is the value of a class.
        colors: color of each class u8[K,3], instead of `values`.
        ignored_colors: colors to ignore, u8[N,3].
    """

    classes: int
    values: tuple[int, ...] = ()
    ignored: tuple[int, ...] = ()
    colors: np.ndarray | None = None
    ignored_colors: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.values and len(self.values) != self.classes:
            raise InputError(
                f"label_values must be one value for each of the {self.classes} classes; got {list(self.values)}."
            )
        for name, values in {"label_values": self.values, "ignore_labels": self.ignored}.items():
            if len(set(values)) < len(values) or not all(0 <= value < VALUES for value in values):
                raise InputError(f"{name} must be different integers from 0 to {VALUES - 1}; got {list(values)}.")
        values = self.values or tuple(range(self.classes))
        if common := sorted(set(values) & set(self.ignored)):
            others = ",".join(str(value) for value in values if value not in common)
            raise InputError(
                f"ignore_labels must not be values of the {self.classes} classes; got {common[0]}. Name the other "
                f"classes only, and give their values: --label_values={others}."
            )

    @functools.cached_property
    def label_of_value(self) -> np.ndarray:
        """Label of each value, i16[VALUES]; -1 for values that are not allowed."""
        table = np.full(VALUES, -1, "int16")
        table[IGNORE_LABEL] = IGNORE_LABEL
        table[list(self.values) or slice(0, self.classes)] = np.arange(self.classes)
        table[list(self.ignored)] = IGNORE_LABEL
        return table

    @functools.cached_property
    def _sorted_colors(self) -> tuple[np.ndarray, np.ndarray]:
        """The packed colors in increasing order, and the label of each."""
        assert self.colors is not None
        assert self.ignored_colors is not None
        packed = _packed(np.concatenate([self.colors, self.ignored_colors]))
        labels = np.array([*range(len(self.colors)), *[IGNORE_LABEL] * len(self.ignored_colors)], "uint8")
        order = np.argsort(packed)
        return packed[order], labels[order]

    def read(self, path: str | os.PathLike) -> np.ndarray:
        """Read the labels of a mask file, u8[H,W].

        Raises:
            ValueError: the file is missing, damaged or a JPEG, or a pixel has no class.
        """
        if self.colors is not None:
            return self._of_colors(_read(path, with_colors=True), path)
        pixels = _values(path)
        labels = self.label_of_value[pixels]
        if labels.min(initial=0) < 0:
            row, column = np.argwhere(labels < 0)[0]
            raise InputError(
                f"mask {os.fspath(path)!r} has the value {pixels[row, column]} (row {row}, column {column}); its "
                f"values are {listed(np.unique(pixels), 10)}, allowed are {self._allowed()}. --label_values gives the "
                "value of each class, and --ignore_labels further values to ignore."
            )
        return labels.astype("uint8")

    def _of_colors(self, pixels: np.ndarray, path: str | os.PathLike) -> np.ndarray:
        colors, labels = self._sorted_colors
        packed = _packed(pixels)
        place = np.minimum(np.searchsorted(colors, packed), len(colors) - 1)
        if (unknown := colors[place] != packed).any():
            row, column = np.argwhere(unknown)[0]
            color = ",".join(map(str, pixels[row, column]))
            raise InputError(
                f"mask {os.fspath(path)!r} has the color {color} (row {row}, column {column}), which the table of "
                f"colors does not have{self._hint(path)}."
            )
        return labels[place]

    def _hint(self, path: str | os.PathLike) -> str:
        with Image.open(path) as file:
            return "; without a table, the indices of its palette are the classes" if file.mode == "P" else ""

    def _allowed(self) -> str:
        """The allowed values in words."""
        known = {*(self.values or range(self.classes)), *self.ignored, IGNORE_LABEL}
        if not self.values:
            known -= set(range(self.classes))
        further = listed(sorted(known))
        return further if self.values else f"0 to {self.classes - 1} for the classes, and {further} to ignore"


def _read(path: str | os.PathLike, with_colors: bool) -> np.ndarray:
    """Read the values of a mask, [H,W], or its colors, u8[H,W,3]."""
    try:
        with Image.open(path) as file:
            kind, mode = file.format, file.mode
            if kind in ("JPEG", "MPO"):
                raise InputError(
                    f"mask {os.fspath(path)!r} is a JPEG, whose compression changes the classes; write masks as PNG."
                )
            if mode in COLOR or (with_colors and mode in GRAY and mode[0] not in "IF"):
                return np.asarray(file.convert("RGB"))
            if mode in GRAY and not with_colors:
                pixels = np.asarray(file)
                pixels = pixels[..., 0] if pixels.ndim == 3 else pixels
                if mode == "F" and not (pixels == np.floor(pixels)).all():
                    raise InputError(f"mask {os.fspath(path)!r} must have whole numbers; it has fractions.")
                return pixels.astype("int64").clip(-1, VALUES - 1)
    except FileNotFoundError as error:
        raise InputError(f"there is no mask {os.fspath(path)!r}.") from error
    except UnidentifiedImageError as error:
        raise InputError(f"mask {os.fspath(path)!r} {finder.no_image(path)}.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"mask {os.fspath(path)!r} cannot be read: {error}.") from error
    allowed = "RGB or 8-bit gray" if with_colors else "gray, a palette or RGB"
    raise InputError(f"mask {os.fspath(path)!r} has pixels of Pillow's mode {mode!r}; allowed are {allowed}.")


def _values(path: str | os.PathLike) -> np.ndarray:
    """Read the values of a mask without a table of colors, i64[H,W]."""
    pixels = _read(path, with_colors=False)
    if pixels.ndim == 2:
        return pixels
    if not (pixels == pixels[..., :1]).all():
        colors = [",".join(map(str, color)) for color in np.unique(pixels.reshape(-1, 3), axis=0).tolist()]
        raise InputError(
            f"mask {os.fspath(path)!r} is an RGB image: its colors require a table, label_colors.txt in the folder or "
            f"--label_colors=FILE, with a line such as road,128,64,128 for each class of "
            f"{'; '.join(colors[:8])}{' and more' if len(colors) > 8 else ''}."
        )
    return pixels[..., 0].astype("int64")


def _packed(colors: np.ndarray) -> np.ndarray:
    """Colors u8[...,3] as numbers i32[...]."""
    red, green, blue = np.moveaxis(np.asarray(colors, "int32"), -1, 0)
    return (red << 16) | (green << 8) | blue


def read_all_values(paths: Iterable[str]) -> set[int]:
    """Return the values that occur in gray or palette masks.

    Raises:
        ValueError: as for `MaskFormat.read`.
    """
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return {int(value) for values in pool.map(lambda path: np.unique(_values(path)), paths) for value in values}


def are_indices(paths: Iterable[str], colors: np.ndarray) -> bool:
    """Return whether gray masks have the numbers of lines of a table instead of its colors u8[N,3].

    The first mask decides that has colors or a value above 0.

    Raises:
        ValueError: a mask cannot be read.
    """
    known = _packed(colors)
    for path in paths:
        pixels = _read(path, with_colors=False)
        if pixels.ndim == 3:
            return False
        values = np.unique(pixels)
        if values.any():
            shown = _palette(path)[values.clip(max=255)]
            if (shown != shown[:, :1]).any() or (values[-1] < 256 and np.isin(_packed(shown), known).all()):
                return False
            return bool(np.isin(values, (*range(len(colors)), IGNORE_LABEL)).all())
    return False


def _palette(path: str) -> np.ndarray:
    """The color of each value of an 8-bit mask, u8[256,3]."""
    palette = np.repeat(np.arange(256, dtype="uint8")[:, None], 3, 1)
    with Image.open(path) as file:
        colors = file.getpalette() if file.mode in ("P", "PA") else None
    if colors:
        palette[: len(colors) // 3] = np.reshape(colors, (-1, 3))
    return palette


def warn_of_palettes(paths: Sequence[str]) -> None:
    """Log if palettes give one value several colors: the colors are then the classes, and the values mean nothing.

    Args:
        paths: the masks, of which the first `PALETTES` are looked at.
    """
    seen: dict[int, tuple[tuple[int, ...], str]] = {}
    for path in paths[:PALETTES]:
        with Image.open(path) as file:
            if file.mode != "P":
                return
        palette = _palette(path)
        for value in map(int, np.unique(_read(path, with_colors=False))):
            color = tuple(map(int, palette[value]))
            other, first = seen.setdefault(value, (color, path))
            if other != color:
                logger.warning(
                    "the value %d has the color %s in mask %r and %s in %r; values are the classes, unless "
                    "--label_colors gives the color of each class",
                    *(value, ",".join(map(str, other)), first, ",".join(map(str, color)), path),
                )
                return
