"""Folders in the layout of PASCAL VOC: `JPEGImages/`, `SegmentationClass/` and `ImageSets/Segmentation/SPLIT.txt`.

The masks are palette PNGs whose indices are the classes, 0 for the background; 255 is ignored. The additional masks of
Hariharan et al. (2011), 10,582 training images in all, are found in `SegmentationClassAug/` as they are usually
distributed, with the list `trainaug.txt`.
"""

from __future__ import annotations

import functools
import pathlib

from keras_resnet.data.finder import FileFinder, read_text
from keras_resnet.errors import InputError
from keras_resnet.segmentation.data import colors
from keras_resnet.segmentation.data.examples import Example, SegmentationDataset, SegmentationInfo
from keras_resnet.segmentation.data.labels import LabelOptions, find_names

CLASS_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""Classes of PASCAL VOC 2012 in the order of their indices."""

LISTS = "ImageSets/Segmentation"
MASKS = ("SegmentationClass", "SegmentationClassAug")
"""Folders of masks; the first one that has a mask decides."""


def open_folder(root: pathlib.Path, options: LabelOptions) -> SegmentationDataset:
    """Open a folder in VOC's layout.

    Args:
        root: the folder.
        options: classes and values of the masks; by default those of a file of names or a table
            of colors in the folder, such as CVAT's `labelmap.txt`, or else VOC's.

    Raises:
        ValueError: there are no lists of images.
    """
    lists = _lists(root)
    names = options.class_names or find_names(root)
    if table := options.table_of(root):
        names, format, palette = options.of_table(table, names, sorted(map(str, (root / MASKS[0]).glob("*.png"))))
    else:
        names = names or CLASS_NAMES
        format, palette = options.format(len(names)), colors.palette(names)

    @functools.cache
    def read(split: str) -> list[Example]:
        finder = FileFinder()
        examples = []
        for line in lists[split]:
            image, mask = _pair(root, line, finder)
            examples.append(Example(str(image), image.stem, functools.partial(format.read, str(mask)), str(mask)))
        return examples

    counts = {split: len(lines) for split, lines in lists.items()}
    info = SegmentationInfo(f"voc:{root}", names, None, counts, colors=colors.to_hex(palette))
    return SegmentationDataset(info, read)


def _lists(root: pathlib.Path) -> dict[str, list[str]]:
    """Split -> the lines of its list, without the empty lists."""
    folder = root / LISTS
    paths = sorted(folder.glob("*.txt")) if folder.is_dir() else []
    lists = {path.stem: [line.strip() for line in read_text(path).splitlines() if line.strip()] for path in paths}
    if not lists:
        raise InputError(f"dataset folder {str(root)!r} must have lists of images {LISTS}/*.txt; it has none.")
    return lists


def _pair(root: pathlib.Path, line: str, finder: FileFinder) -> tuple[pathlib.Path, pathlib.Path]:
    """The image and the mask of a line: a name, or the paths of both in the folder."""
    paths = [part.lstrip("/") for part in line.split()]
    if len(paths) == 2 and all("/" in path for path in paths):
        image, mask = (finder.find(root / path) for path in paths)
    else:
        image = finder.find_image(root / "JPEGImages", line)
        found = (finder.find(root / folder / f"{line}{suffix}") for folder in MASKS for suffix in (".png", ".jpg"))
        mask = next((path for path in found if path), None)
    if image is None:
        raise InputError(f"an image list names {line!r}, but {str(root / 'JPEGImages')!r} has no such image.")
    if mask is None:
        raise InputError(f"an image list names {line!r}, but {str(root / MASKS[0])!r} has no such mask.")
    return image, mask
