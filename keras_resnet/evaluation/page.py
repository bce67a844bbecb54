"""The report of an evaluation as a web page: one file with its pictures, which works offline.

A page is a list of sections: tables that can be sorted, confusion matrices that show the images behind a cell,
galleries and plots. The tasks compose it; `page.html` shows it.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

TEMPLATE = pathlib.Path(__file__).with_name("page.html")

SMALL = 64
"""Images whose sides are at most this many pixels are enlarged without smoothing."""

Cell = str | int | float | None
"""A cell of a table; None is empty and sorted last."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image with its caption.

    Attributes:
        pixels: u8[H,W,3].
        caption: a sentence that also serves those who cannot see the image.
        lines: further lines of text.
        heat_map: f32[h,w] from 0 to 1, shown over the image on demand; None for none.
    """

    pixels: np.ndarray
    caption: str
    lines: Sequence[str] = ()
    heat_map: np.ndarray | None = None

    @classmethod
    def of(cls, image: Image.Image, side: int, caption: str, lines: Sequence[str] = ()) -> Picture:
        """Shrink an image until its longer side has at most `side` pixels."""
        shrunk = image.copy()
        shrunk.thumbnail((side, side), Image.Resampling.LANCZOS)
        return cls(np.asarray(shrunk), caption, lines)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON's types."""
        content = {
            "source": _data_uri(self.pixels),
            "caption": self.caption,
            "lines": list(self.lines),
            "small": max(self.pixels.shape[:2]) <= SMALL,
        }
        if self.heat_map is not None:
            values = np.round(255 * self.heat_map).clip(0, 255).astype("uint8")
            content["map"] = {"size": values.shape, "values": base64.b64encode(values.tobytes()).decode()}
        return content


@dataclasses.dataclass(frozen=True)
class Table:
    """A table that is sorted by the column whose heading is clicked.

    Attributes:
        title: title of the section.
        columns: headings.
        rows: the cells of each row; a column holds either texts or numbers.
        digits: digits after the point of each column's numbers; 0 for integers and texts.
        note: a sentence below the title.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    digits: Sequence[int]
    note: str = ""
    kind: str = "table"


@dataclasses.dataclass(frozen=True)
class Confusion:
    """A confusion matrix whose cells show their images.

    Attributes:
        title: title of the section.
        names: names of the classes.
        classes: the classes to show, in this order.
        cells: true class, predicted class and count of each cell that is not 0.
        pictures: "true,predicted" -> numbers of the page's pictures.
        counted: the plural of what is counted.
        note: a sentence below the title.
    """

    title: str
    names: Sequence[str]
    classes: Sequence[int]
    cells: Sequence[tuple[int, int, int]]
    pictures: Mapping[str, Sequence[int]]
    counted: str = "images"
    note: str = ""
    kind: str = "confusion"


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Pictures in rows.

    Attributes:
        title: title of the section.
        pictures: numbers of the page's pictures.
        width: smallest width of a picture in units of the text's size.
        note: a sentence below the title.
    """

    title: str
    pictures: Sequence[int]
    width: int = 10
    note: str = ""
    kind: str = "gallery"


@dataclasses.dataclass(frozen=True)
class Plot:
    """A figure from an image file.

    Attributes:
        title: title of the section.
        source: the file's content as a data URI, from `Plot.read`.
        note: a sentence below the title.
    """

    title: str
    source: str
    note: str = ""
    kind: str = "plot"

    @classmethod
    def read(cls, title: str, path: str | os.PathLike, note: str = "") -> Plot:
        """Read a PNG file."""
        content = base64.b64encode(pathlib.Path(path).read_bytes()).decode()
        return cls(title, f"data:image/png;base64,{content}", note)


Section = Table | Confusion | Gallery | Plot


def write(
    path: str | os.PathLike,
    title: str,
    details: Mapping[str, Any],
    sections: Sequence[Section],
    pictures: Sequence[Picture] = (),
) -> None:
    """Write a page.

    Args:
        path: the file.
        title: title of the page.
        details: what the page states about the evaluation, such as the command; empty values are left out.
        sections: the sections, in their order.
        pictures: the images that sections refer to by their number.
    """
    content = {
        "title": title,
        "details": [
            [name, ", ".join(map(str, v)) if isinstance(v, (list, tuple)) else str(v)]
            for name, v in details.items()
            if v not in (None, "", [], ())
        ],
        "pictures": [picture.to_dict() for picture in pictures],
        "sections": [dataclasses.asdict(section) for section in sections],
    }
    # "</script>" and "<!--" in a name would end the element, or change how it is read.
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, default=_plain).replace("<", "\\u003c")
    pathlib.Path(path).write_text(TEMPLATE.read_text(encoding="utf-8").replace("{{data}}", text), encoding="utf-8")


def number(value: float) -> float | None:
    """Return a number as a cell: NaN is empty."""
    return None if math.isnan(value) else float(value)


def _plain(value: Any) -> Any:
    """A NumPy number as one of Python."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not a type of JSON")


def _data_uri(pixels: np.ndarray) -> str:
    """The image as a data URI: lossless if it is small, else JPEG."""
    content, small = io.BytesIO(), max(pixels.shape[:2]) <= SMALL
    Image.fromarray(pixels).save(content, "PNG" if small else "JPEG", **({} if small else {"quality": 85}))
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(content.getvalue()).decode()}"
