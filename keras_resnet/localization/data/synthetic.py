"""Drawn images for tests and trials: one large shape of one of K classes on noise."""

from __future__ import annotations

import colorsys
import functools
import io
import pathlib
import re

import numpy as np
from PIL import Image

from keras_resnet import files
from keras_resnet.data.dataset import DatasetInfo
from keras_resnet.errors import InputError
from keras_resnet.localization.data.examples import Example, LocalizationDataset

SPLITS = {"train": 512, "val": 128, "test": 128}
"""Split -> number of images."""

SHAPES = ("disc", "square", "triangle", "ring", "cross")
"""Shapes of the first five classes; those of further ones repeat in other colors."""

SIDES = (0.4, 0.8)
"""Smallest and largest height and width of a shape, as a share of the shorter side."""

VERSION = 1
"""Changes when other images are drawn, so that files drawn before are not used."""


def load(name: str) -> LocalizationDataset:
    """Open a data set of drawn images, which are written as PNG files into the cache of the package once.

    Args:
        name: "synthetic:HEIGHTxWIDTHxCLASSES", or "synthetic" for 224x224x5.

    Raises:
        ValueError: the name has another form.
    """
    shape = name.partition(":")[2] or "224x224x5"
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", shape)
    if not match or min(map(int, match.groups()[:2])) < 16 or int(match[3]) < 1:
        raise InputError(
            f"a synthetic dataset must be named synthetic:HEIGHTxWIDTHxCLASSES, at least 16x16; got {name!r}."
        )
    height, width, classes = map(int, match.groups())
    root = files.cache() / f"synthetic_localization_{VERSION}" / shape

    @functools.cache
    def read(split: str) -> list[Example]:
        scenes = [scene(split, number, (height, width), classes) for number in range(SPLITS[split])]
        paths = _write(root, split, [pixels for pixels, _, _ in scenes])
        return [
            Example(str(path), number, (height, width), label, box[None])
            for number, (path, (_, label, box)) in enumerate(zip(paths, scenes, strict=True))
        ]

    names = SHAPES[:classes] if classes <= len(SHAPES) else tuple(map(class_name, range(classes)))
    return LocalizationDataset(DatasetInfo(name, names, (height, width), dict(SPLITS)), read)


def class_name(label: int) -> str:
    """Return the name of a class of a data set with more classes than shapes, such as "disc 2"."""
    return f"{SHAPES[label % len(SHAPES)]} {label // len(SHAPES)}"


def scene(split: str, number: int, size: tuple[int, int], classes: int) -> tuple[np.ndarray, int, np.ndarray]:
    """Draw an image.

    Args:
        split: a key of `SPLITS`.
        number: number of the image in the split; classes alternate.
        size: height and width in pixels.
        classes: number of classes.

    Returns:
        (image u8[H,W,3], class, box f64[4] around the pixels of the shape).
    """
    random = np.random.default_rng((list(SPLITS).index(split), number, *size, classes))
    label = number % classes if split == "train" else int(random.integers(classes))
    sides = np.maximum((random.uniform(*SIDES, 2) * min(size)).astype(int), 4)
    corner = random.integers(0, np.array(size) - sides + 1)
    mask = _mask(SHAPES[label % len(SHAPES)], *sides)
    coarse = random.integers(0, 256, (-(-size[0] // 4), -(-size[1] // 4), 3), dtype=np.uint8)
    pixels = coarse.repeat(4, 0).repeat(4, 1)[: size[0], : size[1]].copy()
    group, groups = label // len(SHAPES), -(-classes // len(SHAPES))
    hue = random.random() if groups == 1 else (group + random.uniform(-0.3, 0.3)) / groups % 1
    color = np.rint(255 * np.array(colorsys.hsv_to_rgb(hue, 1, 1))).astype("uint8")
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = corner
    pixels[top : top + sides[0], left : left + sides[1]][mask] = color
    box = np.array([top + rows[0], left + columns[0], top + rows[-1] + 1, left + columns[-1] + 1], "float64")
    return pixels, label, box


def _mask(shape: str, height: int, width: int) -> np.ndarray:
    """The pixels of a shape, bool[height,width]."""
    y, x = np.mgrid[:height, :width]
    y, x = 2 * (y + 0.5) / height - 1, 2 * (x + 0.5) / width - 1
    radius = np.hypot(y, x)
    return {
        "disc": radius <= 1,
        "square": np.ones((height, width), bool),
        "triangle": 2 * np.abs(x) <= y + 1,
        "ring": (radius <= 1) & (radius >= 0.6),
        "cross": np.minimum(np.abs(x), np.abs(y)) <= 0.3,
    }[shape]


def _write(root: pathlib.Path, split: str, images: list[np.ndarray]) -> list[pathlib.Path]:
    """Write the images of a split, unless they are there; return their files."""
    folder = root / split
    if not folder.is_dir():
        root.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(root.parent):
            if not folder.is_dir():
                with files.new_folder(folder) as partial:
                    for number, pixels in enumerate(images):
                        (partial / f"{number:04d}.png").write_bytes(_png(pixels))
    return [folder / f"{number:04d}.png" for number in range(len(images))]


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
