"""Small segmentation data sets, in the layouts that people have, for tests."""

import json
import pathlib

import numpy as np
from PIL import Image

COLORS = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]], "uint8")
"""Color of each class in the images of `scene`."""


def scene(number: int, size=(24, 32)) -> tuple[np.ndarray, np.ndarray]:
    """An image u8[H,W,3] painted with its labels u8[H,W] of 3 classes, and a row of labels to ignore."""
    random = np.random.default_rng(number)
    label = np.zeros(size, "uint8")
    for value in (1, 2):
        top, left = random.integers(0, size[0] // 2), random.integers(0, size[1] // 2)
        label[top : top + size[0] // 2, left : left + size[1] // 2] = value
    pixels = COLORS[label]
    label[-1] = 255
    return pixels, label


def save(path: pathlib.Path, array, palette: bool = False, mode: str | None = None) -> pathlib.Path:
    """Write an image or a mask, as a palette PNG if requested."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(array))
    if palette:
        image.putpalette(np.arange(768, dtype="uint8")[::-1].tobytes())
    (image.convert(mode) if mode else image).save(path)
    return path


def two_folders(root: pathlib.Path, counts=None, masks: str = "masks") -> pathlib.Path:
    """Write images/SPLIT and masks/SPLIT of `scene`s."""
    for split, count in (counts or {"train": 3, "val": 2}).items():
        for number in range(count):
            pixels, label = scene(number)
            save(root / f"images/{split}/x{number}.png", pixels)
            save(root / f"{masks}/{split}/x{number}.png", label)
    (root / "classes.txt").write_text("red\ngreen\nblue\n")
    return root


def voc(root: pathlib.Path) -> pathlib.Path:
    """Write VOC's layout with two images, whose masks are palette PNGs."""
    for number in range(2):
        pixels, label = scene(number)
        save(root / f"JPEGImages/2007_{number}.jpg", pixels)
        save(root / f"SegmentationClass/2007_{number}.png", label, palette=True)
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_0\n")
    (lists / "val.txt").write_text("2007_1\n")
    return root


def coco(root: pathlib.Path, annotations, categories=((7, "cat"), (3, "dog")), size=(6, 8)) -> pathlib.Path:
    """Write COCO's layout with one image, whose id is 42."""
    save(root / "train/x.png", np.zeros((*size, 3), "uint8"))
    content = {
        "images": [{"id": 42, "file_name": "x.png"}],
        "annotations": [{"image_id": 42, **annotation} for annotation in annotations],
        "categories": [{"id": number, "name": name} for number, name in categories],
    }
    (root / "annotations").mkdir()
    (root / "annotations/instances_train.json").write_text(json.dumps(content))
    return root
