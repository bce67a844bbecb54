"""Pictures of predictions: the box of each predicted class with its caption over the true boxes, and sheets of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from keras_resnet.detection.evaluate import COLORS
from keras_resnet.experiment import plots
from keras_resnet.localization import metrics

TRUE_COLOR = "#ffffff"
"""Color of true boxes, which have a black border."""

MIN_SIDE = 320
"""Smaller images are enlarged until their longer side has this many pixels, so that captions fit."""

LINE = 14
"""Height of a line of captions in pixels."""


def draw(
    pixels: np.ndarray, gt_boxes: np.ndarray, boxes: np.ndarray, captions: Sequence[str], title: str = ""
) -> Image.Image:
    """Draw true boxes in white and predicted ones in colors; captions in the same colors are below the image.

    Args:
        pixels: u8[H,W,3].
        gt_boxes: f64[n,4], the true boxes in pixels of the image; n may be 0.
        boxes: f64[T,4], the predicted boxes, the best first: it is drawn last, over the others.
        captions: a text for each of them, such as "kangaroo 0.93, IoU 0.81".
        title: a line above the captions, such as "miss: true class raccoon".
    """
    image = draw_boxes(pixels, gt_boxes, boxes)
    colors = [COLORS[number % len(COLORS)] for number in range(len(captions))]
    lines = [(title, "black")] if title else []
    return _with_lines(image, [*lines, *zip(captions, colors, strict=True)])


def draw_boxes(pixels: np.ndarray, gt_boxes: np.ndarray, boxes: np.ndarray) -> Image.Image:
    """Draw true boxes in white and predicted ones in colors.

    Args:
        pixels: u8[H,W,3]; small images are enlarged.
        gt_boxes: f64[n,4], the true boxes in pixels of the image; n may be 0.
        boxes: f64[T,4], the predicted boxes, the best first: it is drawn last, over the others.
    """
    scale = max(MIN_SIDE // max(pixels.shape[:2]), 1)
    image = Image.fromarray(pixels)
    image = image.resize((scale * image.width, scale * image.height), Image.Resampling.NEAREST)
    canvas = ImageDraw.Draw(image)
    width = max(2, round(max(image.size) / 200))
    for box in scale * np.reshape(np.asarray(gt_boxes, "float64"), (-1, 4)):
        _rectangle(canvas, box, "black", width + 2)
        _rectangle(canvas, box, TRUE_COLOR, width)
    predicted = scale * np.reshape(np.asarray(boxes, "float64"), (-1, 4))
    for number, box in reversed(list(enumerate(predicted))):
        _rectangle(canvas, box, COLORS[number % len(COLORS)], width)
    return image


def draw_outcome(
    pixels: np.ndarray,
    label: int,
    gt_boxes: np.ndarray,
    classes: Sequence[int] | np.ndarray,
    boxes: np.ndarray,
    scores: Sequence[float] | np.ndarray,
    class_names: Sequence[str],
) -> Image.Image:
    """Draw a prediction and whether it is right by the rules of `metrics`.

    Args:
        pixels: u8[H,W,3].
        label: the true class.
        gt_boxes: f64[n,4], the boxes of this class.
        classes: the predicted classes, at most five, best first; or the true class alone, if it was given.
        boxes: f64[k,4], a box for each.
        scores: f64[k], a number for each that its caption shows.
        class_names: names of the classes.
    """
    outcome = metrics.judge(label, gt_boxes, classes, boxes)
    captions = []
    for number, box, score in zip(classes, boxes, scores, strict=True):
        overlap = f", IoU {np.max(metrics.iou(box, gt_boxes), initial=0.0):.2f}" if number == label else ""
        captions.append(f"{class_names[number]} {score:.2f}{overlap}")
    title = f"hit: {class_names[label]}" if outcome.place < metrics.TOP else f"miss: {class_names[label]}"
    return draw(pixels, gt_boxes, boxes, captions, title)


def contact_sheet(images: Sequence[Image.Image], columns: int = 4, width: int = 320) -> Image.Image:
    """Return images in rows, each resized to one width, on white.

    Args:
        images: the images, of any sizes; at least one.
        columns: images in a row.
        width: width of an image in pixels.
    """
    gap = 6
    cells = [image.resize((width, max(1, round(image.height * width / image.width)))) for image in images]
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) for row in rows]
    size = (min(columns, len(cells)) * (width + gap) - gap, sum(heights) + gap * (len(rows) - 1))
    sheet = Image.new("RGB", size, "white")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for number, cell in enumerate(row):
            sheet.paste(cell, (number * (width + gap), top))
        top += height + gap
    return sheet


def _rectangle(canvas: ImageDraw.ImageDraw, box: np.ndarray, color: str, width: int) -> None:
    """Draw a box, whose right and bottom are the ends of its last pixels; sides beyond the image are not seen."""
    top, left, bottom, right = (round(float(side)) for side in box)
    canvas.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=color, width=width)


def _with_lines(image: Image.Image, lines: Sequence[tuple[str, str]]) -> Image.Image:
    """Append lines of text, each with its color, below an image."""
    font = plots.pillow_font()
    texts = [(plots.label(text, fallbacks=False).replace(r"\$", "$"), color) for text, color in lines]
    width = max([image.width, *(int(font.getlength(text)) + 8 for text, _ in texts)])
    result = Image.new("RGB", (width, image.height + LINE * len(texts) + 4 * bool(texts)), "white")
    result.paste(image, (0, 0))
    canvas = ImageDraw.Draw(result)
    for number, (text, color) in enumerate(texts):
        canvas.text((4, image.height + 2 + LINE * number), text, fill=color, font=font)
    return result
