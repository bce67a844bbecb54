"""What all plots share: fonts for names in any script, names that are shown as they are, and axes of whole numbers."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any

FALLBACKS = (
    *("Noto Sans CJK SC", "Noto Sans CJK TC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "Noto Sans JP"),
    *("Source Han Sans SC", "Source Han Sans", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback"),
    *("PingFang SC", "Hiragino Sans", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "SimHei", "Arial Unicode MS"),
    *("Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Tamil"),
    *("Noto Sans Thai", "Noto Sans Symbols 2", "Noto Emoji", "Symbola", "Segoe UI Symbol"),
)
"""Fonts that are used, where they are installed, for characters that matplotlib's own font does not have."""


@contextlib.contextmanager
def figure(path: str | os.PathLike, width: float, height: float, dpi: int = 100) -> Iterator[Any]:
    """Yield a `matplotlib.figure.Figure` to draw on; it is saved at the end.

    Args:
        path: the image file.
        width: in inches.
        height: in inches.
        dpi: pixels per inch.
    """
    import matplotlib  # slow to import
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.family": _families()}):
        drawn = Figure(figsize=(width, height), layout="constrained")
        yield drawn
        drawn.savefig(path, dpi=dpi)


def label(name: object, *, fallbacks: bool = True) -> str:
    """Return a name so that a plot shows it as it is.

    Characters that no font has are escaped, as in "\\u732b"; so are dollar signs, between which matplotlib would see
    formulas. A space keeps names that begin with an underscore in legends.

    Args:
        name: the name.
        fallbacks: whether the text is drawn with `FALLBACKS` too.
    """
    known = _characters(fallbacks)
    text = "".join(character if ord(character) in known else _escaped(character) for character in str(name))
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def whole_numbers(axis: Any) -> None:
    """Let an axis of steps, layers or images have ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def pillow_font() -> Any:
    """Return matplotlib's font for Pillow, which draws each text with one font."""
    from matplotlib import font_manager
    from PIL import ImageFont

    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 10)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


@functools.cache
def _families() -> list[str]:
    """The fonts to use: matplotlib's own and the installed ones of `FALLBACKS`."""
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in FALLBACKS if name in installed)]


@functools.cache
def _characters(fallbacks: bool) -> frozenset[int]:
    """The characters of these fonts, without control characters."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    files = (font_manager.findfont(family) for family in _families()[: None if fallbacks else 1])
    return frozenset(code for file in files for code in FT2Font(file).get_charmap() if chr(code).isprintable())
