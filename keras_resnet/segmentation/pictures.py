"""Pictures of labels: colors, overlays, index PNGs, and truth, prediction and errors side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from keras_resnet.experiment import plots
from keras_resnet.segmentation.choices import IGNORE_LABEL

IGNORED_COLOR = (224, 224, 192)
"""Color of ignored pixels: that of PASCAL VOC's palette."""

ERROR_COLOR = (230, 25, 75)
"""Color of misclassified pixels."""

GAP = 4
"""Pixels between pictures that are side by side."""


def full_palette(palette: np.ndarray) -> np.ndarray:
    """Return the color of each byte, u8[256,3]: those of the classes u8[K,3], of the ignore label, and black."""
    colors = np.zeros((256, 3), "uint8")
    colors[: len(palette)] = palette
    colors[IGNORE_LABEL] = IGNORED_COLOR
    return colors


def colored(labels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Return labels u8[H,W] in the colors of a palette u8[K,3]: u8[H,W,3]."""
    return full_palette(palette)[labels]


def overlay(pixels: np.ndarray, labels: np.ndarray, palette: np.ndarray, alpha: float = 0.6) -> np.ndarray:
    """Return an image u8[H,W,3] with its labels u8[H,W] painted over it; `alpha` is the share of the color."""
    mixed = (1 - alpha) * pixels + alpha * colored(labels, palette)
    return np.rint(mixed).astype("uint8")


def save_index_png(labels: np.ndarray, palette: np.ndarray, path: str | os.PathLike) -> None:
    """Write labels u8[H,W] as a PNG whose palette indices are the classes, as PASCAL VOC's are."""
    image = Image.fromarray(labels)
    image.putpalette(full_palette(palette).tobytes())  # its mode is now P
    image.save(path)


def errors(pixels: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return a pale gray image with misclassified pixels in red and ignored ones in the color of ignored pixels.

    Args:
        pixels: u8[H,W,3].
        labels: true classes u8[H,W].
        predictions: predicted classes u8[H,W].
    """
    gray = np.asarray(Image.fromarray(pixels).convert("L"), "float32")
    picture = np.repeat(np.rint(128 + gray / 2)[..., None], 3, -1).astype("uint8")
    picture[labels == IGNORE_LABEL] = IGNORED_COLOR
    picture[(labels != IGNORE_LABEL) & (labels != predictions)] = ERROR_COLOR
    return picture


def side_by_side(pixels: np.ndarray, labels: np.ndarray, predictions: np.ndarray, palette: np.ndarray) -> Image.Image:
    """Return an image, its true labels, the predicted labels and the errors, from left to right."""
    parts = (pixels, colored(labels, palette), colored(predictions, palette), errors(pixels, labels, predictions))
    gap = np.full((len(pixels), GAP, 3), 255, "uint8")
    row = [part for picture in parts for part in (picture, gap)][:-1]
    return Image.fromarray(np.concatenate(row, 1))


def legend(class_names: Sequence[str], palette: np.ndarray, rows: int = 16) -> Image.Image:
    """Return a picture of the colors with the names of the classes, and those of ignored and misclassified pixels.

    Args:
        class_names: names of the K classes.
        palette: their colors u8[K,3].
        rows: names in a column.
    """
    names = [plots.label(name, fallbacks=False).replace(r"\$", "$") for name in (*class_names, "ignored", "errors")]
    colors = [*map(tuple, palette.tolist()), IGNORED_COLOR, ERROR_COLOR]
    font = plots.pillow_font()
    line, box = 18, 24
    width = box + 16 + max(int(font.getlength(name)) for name in names)
    columns = -(-len(names) // rows)
    image = Image.new("RGB", (columns * width + 8, min(rows, len(names)) * line + 8), "white")
    canvas = ImageDraw.Draw(image)
    for number, (name, color) in enumerate(zip(names, colors, strict=True)):
        left, top = 8 + number // rows * width, 4 + number % rows * line
        canvas.rectangle((left, top + 2, left + box - 1, top + line - 3), fill=color, outline=(0, 0, 0))
        canvas.text((left + box + 6, top + 3), name, fill="black", font=font)
    return image
