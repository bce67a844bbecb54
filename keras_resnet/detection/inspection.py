"""What a folder of detection data holds, for `keras-resnet inspect`."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from keras_resnet.data.finder import image_size
from keras_resnet.detection.data import sources
from keras_resnet.detection.data.annotations import Annotation
from keras_resnet.errors import counted, listed
from keras_resnet.evaluation import inspection
from keras_resnet.evaluation.inspection import COLORS, Inspection
from keras_resnet.experiment import plots
from keras_resnet.ops import codecs

PAINT = 0.45
"""Share of the color in the pixels of a mask."""


def recognizes(root: str) -> int:
    """Return how surely a folder is one of detection data: 0 or 3."""
    return 3 if sources.layout(pathlib.Path(root)) else 0


def inspect(root: str, pictures: int = 12, seed: int = 0, exif: bool = False) -> Inspection:
    """Read all annotations of a folder and decode its images.

    Args:
        root: the folder.
        pictures: most images of the contact sheet.
        seed: seed of splits that are made.
        exif: whether images are rotated by their EXIF orientation.

    Raises:
        ValueError: the folder cannot be read.
    """
    faults: list[str] = []
    with inspection.warnings() as messages:
        dataset = sources.load(f"folder:{root}", exif=exif, seed=seed)
        splits = inspection.read_splits(dataset.info.splits, dataset.read, faults)
        faults += [message for message in messages if not any(note in message for note in dataset.notes)]
    names = dataset.info.class_names
    found = {annotation.path: annotation for annotations in splits.values() for annotation in annotations}
    broken = inspection.undecodable(list(found), root, faults)
    faults += _doubtful(list(found.values()), broken, exif)
    usable = [(split, each) for split in splits for each in splits[split] if each.path not in broken]
    counts = {
        name: [sum(int(np.sum(each.labels == label)) for each in annotations) for annotations in splits.values()]
        for label, name in enumerate(names)
    }
    faults += [f"class {name!r} has no box" for name, numbers in counts.items() if not any(numbers)]
    return Inspection(
        dataset.layout,
        dataset.notes,
        _facts(splits, list(found.values())),
        counts,
        list(splits),
        faults,
        [_picture(*usable[index], names, exif) for index in inspection.chosen(len(usable), pictures)],
    )


def _doubtful(annotations: Sequence[Annotation], broken: Sequence[str], exif: bool) -> list[str]:
    """Sentences about boxes that are repeated, and about images that may have been annotated in another orientation."""
    faults = []
    rows = [np.column_stack([annotation.boxes, annotation.labels]) for annotation in annotations]
    if repeated := sum(len(each) - len(np.unique(each, axis=0)) for each in rows):
        faults.append(f"{counted(repeated, 'box', 'boxes')} of the same class and place as another")
    paths = [annotation.path for annotation in annotations if annotation.path not in broken]
    turned = [] if exif else [path for path in paths if image_size(path) != image_size(path, exif=True)]
    if turned:
        names = listed(os.path.basename(path) for path in turned)
        faults.append(
            f"{counted(len(turned), 'image')} with an EXIF orientation that swaps the sides, used as stored: look at "
            f"the boxes, and give --exif if they are of the rotated images: {names}"
        )
    return faults


def _facts(splits: Mapping[str, Sequence[Annotation]], annotations: Sequence[Annotation]) -> dict[str, str]:
    """Numbers of images, boxes and masks, and their sizes."""
    parts = [
        f"{split} {counted(len(each), 'image')} with {counted(sum(len(a.labels) for a in each), 'box', 'boxes')}"
        for split, each in splits.items()
    ]
    facts = {"splits": "; ".join(parts)}
    if not annotations:
        return facts
    facts["images"] = inspection.sizes([annotation.size for annotation in annotations])
    numbers = [len(annotation.labels) for annotation in annotations]
    boxes = np.concatenate([annotation.clipped_boxes() for annotation in annotations])
    if len(boxes):
        sides = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], -1))
        low, middle, high = np.quantile(sides, (0, 0.5, 1))
        facts["boxes"] = (
            f"{min(numbers)} to {max(numbers)} in an image, median {np.median(numbers):g}; "
            f"side (root of the area) {low:.0f} to {high:.0f} pixels, median {middle:.0f}"
        )
    marks = {
        "difficult": sum(int(annotation.difficult.sum()) for annotation in annotations),
        "crowd": sum(int(annotation.crowd.sum()) for annotation in annotations),
        "mask": sum(mask is not None for annotation in annotations for mask in annotation.masks or ()),
    }
    facts |= {name: counted(count, "box", "boxes") for name, count in marks.items() if count}
    if empty := numbers.count(0):
        facts["without boxes"] = counted(empty, "image")
    return facts


def _picture(split: str, annotation: Annotation, class_names: Sequence[str], exif: bool) -> tuple[str, np.ndarray]:
    """Caption and picture of an image."""
    decode = codecs.decode_upright if exif else codecs.decode
    pixels = codecs.read(annotation.path, decode).numpy()
    return f"{split}: {os.path.basename(annotation.path)}", draw(pixels, annotation, class_names)


def draw(pixels: np.ndarray, annotation: Annotation, class_names: Sequence[str]) -> np.ndarray:
    """Draw an image in the size of a contact sheet with its boxes, masks and the names of their classes.

    Args:
        pixels: u8[H,W,3].
        annotation: the boxes of the image.
        class_names: names of the classes.

    Returns:
        u8[h,w,3].
    """
    image = inspection.thumbnail(pixels)
    scale = np.array([image.height / pixels.shape[0], image.width / pixels.shape[1]] * 2)
    painted = np.asarray(image, "float32")
    for mask, label in zip(annotation.masks or (), annotation.labels, strict=False):
        if mask is not None:
            inside = mask.draw((image.height, image.width))[..., None]
            paint = np.array([int(COLORS[label % len(COLORS)][at : at + 2], 16) for at in (1, 3, 5)], "float32")
            painted = np.where(inside, (1 - PAINT) * painted + PAINT * paint, painted)
    image = Image.fromarray(np.rint(painted).astype("uint8"))
    canvas, font = ImageDraw.Draw(image), plots.pillow_font()
    for box, label in zip(annotation.clipped_boxes() * scale, annotation.labels, strict=True):
        top, left, bottom, right = (round(float(side)) for side in box)
        color = COLORS[label % len(COLORS)]
        canvas.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=color, width=2)
        text = plots.label(class_names[label], fallbacks=False).replace(r"\$", "$")
        place = (left + 2, max(top - 12, 0))
        canvas.rectangle(canvas.textbbox(place, text, font=font), fill=color)
        canvas.text(place, text, fill="white", font=font)
    return np.asarray(image)
