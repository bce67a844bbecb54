"""What a data set holds, in words and as a contact sheet, for `keras-resnet inspect`."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import logging
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw
from tqdm import tqdm

from keras_resnet.data.dataset import split_order
from keras_resnet.errors import InputError, counted, listed
from keras_resnet.experiment import plots
from keras_resnet.ops import codecs

ExampleT = TypeVar("ExampleT")

CELL = (240, 320)
"""Height and width of a picture in a contact sheet."""

COLUMNS = 4
CAPTION = 16
GAP = 6

COLORS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#800000", "#808000", "#000075")
"""Colors of the classes in turn."""


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What was understood of a data set.

    Attributes:
        layout: the layout in words.
        notes: what was decided when it was opened, such as splits that were made.
        facts: what it holds, such as "images" -> "120x160 (all 30)".
        counts: class -> number of its objects, images or pixels in each split.
        splits: the splits, in the order of the counts.
        faults: what is wrong with it.
        pictures: caption and image u8[H,W,3] of the contact sheet.
    """

    layout: str
    notes: Sequence[str]
    facts: Mapping[str, str]
    counts: Mapping[str, Sequence[int]]
    splits: Sequence[str]
    faults: Sequence[str]
    pictures: Sequence[tuple[str, np.ndarray]]

    def text(self) -> str:
        """Return everything but the pictures as lines of text, with a Markdown table of the classes."""
        lines = [f"layout: {self.layout}", *(f"note: {note}" for note in self.notes)]
        lines += [f"{name}: {value}" for name, value in self.facts.items()]
        lines += [f"| class | {' | '.join(self.splits)} |", f"|---|{'---:|' * len(self.splits)}"]
        lines += [f"| {name} | {' | '.join(f'{n:,}' for n in counts)} |" for name, counts in self.counts.items()]
        return "\n".join([*lines, *(f"fault: {fault}" for fault in self.faults or ("none found",))])


class _Collector(logging.Handler):
    """Keeps the messages of a logger."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextlib.contextmanager
def warnings() -> Iterator[list[str]]:
    """Yield a list that gets the package's warnings, which are not logged meanwhile."""
    package, collector = logging.getLogger("keras_resnet"), _Collector()
    handlers, propagate = package.handlers, package.propagate
    package.handlers, package.propagate = [collector], False
    try:
        yield collector.messages
    finally:
        package.handlers, package.propagate = handlers, propagate


def read_splits(
    splits: Iterable[str], read: Callable[[str], Sequence[ExampleT]], faults: list[str]
) -> dict[str, Sequence[ExampleT]]:
    """Read splits in the usual order; one that cannot be read is empty, and a fault is added.

    Args:
        splits: names of the splits.
        read: function from the name of a split to its examples.
        faults: list of what is wrong with the data.
    """
    found: dict[str, Sequence[ExampleT]] = {}
    for split in sorted(splits, key=split_order):
        try:
            found[split] = read(split)
        except InputError as error:
            faults.append(f"split {split}: {error}")
            found[split] = []
    return found


def undecodable(paths: Sequence[str], root: str, faults: list[str]) -> list[str]:
    """Return the image files that cannot be decoded, such as truncated ones, and add a fault that names them.

    Args:
        paths: the image files.
        root: the folder to which the names are relative.
        faults: list of what is wrong with the data.
    """

    def check(path: str) -> str:
        try:
            codecs.decode(tf.io.read_file(path))
        except tf.errors.OpError:
            return path
        return ""

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        broken = list(filter(None, tqdm(pool.map(check, paths), "images", len(paths), disable=None, leave=False)))
    if broken:
        shown = listed(repr(os.path.relpath(path, root)) for path in broken)
        faults.append(f"{counted(len(broken), 'image')} cannot be decoded: {shown}")
    return broken


def sizes(found: Sequence[tuple[int, int]]) -> str:
    """Return heights and widths in words: the only one, or the smallest, the largest and the median."""
    if len(set(found)) == 1:
        return f"{found[0][0]}x{found[0][1]} (height x width), all {len(found):,}"
    by_area = sorted(found, key=lambda size: size[0] * size[1])
    (a, b), (c, d), (e, f) = by_area[0], by_area[-1], by_area[len(by_area) // 2]
    return f"from {a}x{b} to {c}x{d}, median {e}x{f} (height x width), {len(found):,} images"


def chosen(total: int, count: int) -> list[int]:
    """Return the indices of some of the images, spread evenly."""
    return [int(index) for index in np.unique(np.linspace(0, total - 1, min(count, total)).round())] if total else []


def thumbnail(pixels: np.ndarray) -> Image.Image:
    """Return an image u8[H,W,3] as large as the cell of a contact sheet allows."""
    scale = min(CELL[0] / pixels.shape[0], CELL[1] / pixels.shape[1])
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    return Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)


def contact_sheet(pictures: Sequence[tuple[str, np.ndarray]], path: str | os.PathLike) -> None:
    """Draw pictures with captions in rows.

    Args:
        pictures: caption and image u8[H,W,3], as of `thumbnail`.
        path: the image file; its folder is created.
    """
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    height, width = CELL[0] + CAPTION + GAP, CELL[1] + GAP
    sheet = Image.new("RGB", (columns * width + GAP, rows * height + GAP), "white")
    canvas, font = ImageDraw.Draw(sheet), plots.pillow_font()
    for number, (caption, pixels) in enumerate(pictures):
        left, top = GAP + number % columns * width, GAP + number // columns * height
        text = plots.label(caption, fallbacks=False).replace(r"\$", "$")
        while len(text) > 1 and font.getlength(text) > CELL[1]:
            text = f"{text[:-2]}…"
        canvas.text((left, top), text, fill="black", font=font)
        sheet.paste(Image.fromarray(pixels), (left, top + CAPTION))
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
