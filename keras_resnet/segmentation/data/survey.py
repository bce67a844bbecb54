"""Look at all masks of a split before training: wrong files, classes that never occur, and the pixels of each class."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import logging
import os
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from keras_resnet.data.finder import image_size
from keras_resnet.data.pipeline import BrokenFiles
from keras_resnet.errors import InputError, listed
from keras_resnet.segmentation.choices import IGNORE_LABEL
from keras_resnet.segmentation.data.examples import Example

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Survey:
    """What the masks of some examples hold.

    Attributes:
        pixels: i64[K], number of pixels of each class.
        image_pixels: i64[K], number of labeled pixels of the images that contain a class.
        ignored: number of pixels that are ignored.
    """

    pixels: np.ndarray
    image_pixels: np.ndarray
    ignored: int

    @property
    def ignored_share(self) -> float:
        """Share of the pixels that are ignored, in [0, 1]."""
        return self.ignored / (self.ignored + int(self.pixels.sum()))


def survey(
    examples: Sequence[Example],
    class_names: Sequence[str],
    split: str,
    exif: bool = False,
    max_broken: float = 0.0,
) -> Survey:
    """Read all masks once; classes that never occur are named in one line of the log.

    Args:
        examples: the examples.
        class_names: names of the classes.
        split: name of the split, for messages.
        exif: whether images are rotated by their EXIF orientation.
        max_broken: fraction of images that may be damaged; their masks are counted.

    Raises:
        ValueError: an image or a mask cannot be read, a mask has a value without a class or another size than its
            image, or no pixel of the split has a class.
    """
    classes, broken = len(class_names), BrokenFiles(len(examples), max_broken)
    pixels, image_pixels, ignored = np.zeros(classes, "int64"), np.zeros(classes, "int64"), 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = [pool.submit(_count, example, exif, broken) for example in examples]
        try:
            for future in tqdm(futures, f"masks of {split}", unit="mask", disable=None, leave=False):
                counts = future.result()
                labeled = counts[:classes]
                pixels += labeled
                image_pixels += np.where(labeled > 0, labeled.sum(), 0)
                ignored += int(counts[IGNORE_LABEL]) if classes <= IGNORE_LABEL else 0
        finally:
            pool.shutdown(cancel_futures=True)
    _check(pixels, class_names, split)
    return Survey(pixels, image_pixels, ignored)


def _count(example: Example, exif: bool, broken: BrokenFiles) -> np.ndarray:
    """The number of pixels with each label, i64[256]."""
    label = example.read_label()
    counts = np.bincount(label.ravel(), minlength=IGNORE_LABEL + 1)
    try:
        size = image_size(example.path, exif)
    except InputError:
        if not broken.allowed:
            raise
        if message := broken.report(np.array([os.fsencode(example.path)])):
            raise InputError(message) from None
        return counts
    if label.shape != size:
        hint = ""
        if image_size(example.path, not exif) == label.shape:
            hint = "; its EXIF orientation swaps them: " + ("leave out --exif" if exif else "give --exif")
        raise InputError(
            f"mask {example.mask!r} has {label.shape[0]}x{label.shape[1]} pixels (height x width), but its image "
            f"{example.path!r} has {size[0]}x{size[1]}{hint}."
        )
    return counts


def _check(pixels: np.ndarray, class_names: Sequence[str], split: str) -> None:
    """Refuse a split without labels, and name classes that never occur."""
    if not pixels.any():
        raise InputError(f"split {split!r} must have pixels with a class; all of its masks are to be ignored.")
    absent = [name for name, count in zip(class_names, pixels, strict=True) if not count]
    if absent:
        logger.warning("split %s has no pixel of %s; its IoU is not a number there", split, listed(absent))


def check_class_names(class_names: Sequence[str]) -> None:
    """Raise `InputError` for a single class: every network labels all pixels with it."""
    if len(class_names) < 2:
        raise InputError(
            f"dataset must have at least two classes to train on, the background included; it has {class_names[0]!r} "
            "only."
        )


def check_two_classes(found: Survey, class_names: Sequence[str], split: str) -> None:
    """Raise `InputError` if all pixels have one class; of two classes, many tools write 255 for the second one."""
    if len(class_names) == 2 and not found.pixels[1] and found.ignored:
        raise InputError(
            f"masks of split {split!r} have no values but 0 and {IGNORE_LABEL}, and {IGNORE_LABEL} is ignored; "
            f"--label_values=0,{IGNORE_LABEL} makes it the class {class_names[1]!r}."
        )
    if np.count_nonzero(found.pixels) == 1:
        (only,) = (name for name, count in zip(class_names, found.pixels, strict=True) if count)
        raise InputError(f"masks of split {split!r} must have pixels of two classes; all are of the class {only!r}.")
