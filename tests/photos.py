"""Files that look like small photos."""

import pathlib

import numpy as np
from PIL import Image

from keras_resnet.data import sources
from keras_resnet.data.dataset import Dataset


def photos(folder: pathlib.Path, count: int, classes: int = 2, side: int = 40) -> Dataset:
    """Write a folder of JPEGs, each of a different gray, and load it."""
    random = np.random.default_rng(1)
    for number in range(count):
        path = folder / f"class{number % classes}" / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((side + number % 7, side + 3, 3), number % 200, "uint8")
        Image.fromarray(pixels + random.integers(0, 9, pixels.shape, dtype="uint8")).save(path)
    return sources.load(f"folder:{folder}")
