"""Two folders, one of images and one of masks, whose files have the same names but for their endings.

images/train/x.jpg     masks/train/x.png      also annotations/ or labels/ for masks
train/images/x.jpg     train/masks/x.png      the same the other way around
train/x.png            trainannot/x.png       as SegNet's CamVid
images/x.jpg           masks/x.png            one split, "train"

`classes.txt` names the classes, one a line; a table of colors, see `colors.TABLES`, says what the colors of masks mean.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from keras_resnet.data import folders
from keras_resnet.data.dataset import SPLIT_NAMES, usual_split
from keras_resnet.errors import InputError
from keras_resnet.segmentation.choices import IGNORE_LABEL
from keras_resnet.segmentation.data import colors, masks
from keras_resnet.segmentation.data.colors import to_hex
from keras_resnet.segmentation.data.examples import Example, SegmentationDataset, SegmentationInfo
from keras_resnet.segmentation.data.labels import LabelOptions, read_names

IMAGES = ("images", "image", "imgs", "img")
MASKS = ("masks", "mask", "annotations", "annotation", "labels", "label")
ANNOT = "annot"
"""What SegNet appends to the name of a split for its masks."""

MASK_SUFFIXES = (".png", ".bmp", ".gif", ".tif", ".tiff", ".jpg", ".jpeg")
"""Endings of masks in lower case, in the order in which they are preferred."""

MASK_ENDINGS = ("", "_mask", "_masks", "_label", "_labels", "_L", "_gt", "_seg", "_segmentation")
"""What the name of a mask may have after the name of its image."""

CLASSES = "classes.txt"


def split_folders(root: pathlib.Path) -> dict[str, tuple[pathlib.Path, pathlib.Path]]:
    """Return split -> (folder of its images, folder of its masks); empty for a folder in another layout."""
    found: dict[str, tuple[pathlib.Path, pathlib.Path]] = {}
    for images in _named(root, IMAGES):
        for labels in _named(root, MASKS):
            common = {path.name: path for path in _folders(images)}
            splits = {path.name: (common[path.name], path) for path in _folders(labels) if path.name in common}
            if not splits and not _folders(labels):
                splits = {"train": (images, labels)}
            found |= splits
    for split in _folders(root):
        inner = [(images, labels) for images in _named(split, IMAGES) for labels in _named(split, MASKS)]
        annot = split.with_name(split.name + ANNOT)
        if inner:
            found.setdefault(split.name, inner[0])
        elif annot.is_dir():
            found.setdefault(split.name, (split, annot))
    order = list(SPLIT_NAMES)
    return dict(sorted(found.items(), key=lambda item: (_rank(item[0], order), item[0])))


def _rank(split: str, order: Sequence[str]) -> int:
    """The place of a split: training first, then validation, test and others."""
    usual = usual_split(split)
    return order.index(usual) if usual in order else len(order)


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    return [folder / name for name in folders.visible(folder)[0]]


def _named(folder: pathlib.Path, names: Sequence[str]) -> list[pathlib.Path]:
    """The subfolders with one of some names, in any case."""
    return [path for name in names for path in _folders(folder) if path.name.lower() == name]


def open_folder(root: pathlib.Path, options: LabelOptions) -> SegmentationDataset:
    """Open two folders of images and masks.

    Images without a mask and masks without an image are left out; they are counted and named in one line of the log.

    Args:
        root: the folder.
        options: classes and values of the masks; by default those of `classes.txt` or of a table of colors, and
            without them as many classes as the values of the first split have.

    Raises:
        ValueError: there are no such folders, a split is empty, or the classes are unknown.
    """
    splits = split_folders(root)
    if not splits:
        raise InputError(f"dataset folder {str(root)!r} must have images/SPLIT and masks/SPLIT; it has neither.")
    found = {split: _match(*both) for split, both in splits.items()}
    if not any(matches.pairs for matches in found.values()):
        images, labels = next(iter(splits.values()))
        raise InputError(
            f"dataset folder {str(root)!r} is empty: no image of {str(images)!r} has a mask of the same name in "
            f"{str(labels)!r}."
        )
    left_out = {
        "files that are not images": [path for matches in found.values() for path in matches.others],
        "images without a mask": [path for matches in found.values() for path in matches.images],
        "masks without an image": [path for matches in found.values() for path in matches.masks],
    }
    used = {folder for both in splits.values() for folder in both}
    unused = [path for parent in _named(root, IMAGES) if parent not in used for path in _folders(parent)]
    names_of_unused = [path.relative_to(root).as_posix() for path in unused if path not in used]
    folders.log_left_out(str(root), left_out, names_of_unused)
    first = next(matches.pairs for matches in found.values() if matches.pairs)
    names = options.class_names or read_names(root / CLASSES)
    table = options.label_colors or next((root / name for name in colors.TABLES if (root / name).is_file()), None)
    if table is None:
        names = names or _numbered([mask for _, _, mask in first], options)
        format, palette = options.format(len(names)), colors.palette(names)
    else:
        names, format, palette = options.of_table(pathlib.Path(table), names)

    @functools.cache
    def read(split: str) -> list[Example]:
        return [
            Example(image, name, functools.partial(format.read, mask), mask) for name, image, mask in found[split].pairs
        ]

    counts = {split: len(matches.pairs) for split, matches in found.items()}
    return SegmentationDataset(SegmentationInfo(f"folder:{root}", names, None, counts, colors=to_hex(palette)), read)


class _Matches(NamedTuple):
    """What the two folders of a split hold.

    Attributes:
        pairs: (name, image, mask) of each image with a mask.
        images: images without a mask.
        masks: masks without an image.
        others: files in the folder of images that are none.
    """

    pairs: list[tuple[str, str, str]]
    images: list[str]
    masks: list[str]
    others: list[str]


def _match(image_folder: pathlib.Path, mask_folder: pathlib.Path) -> _Matches:
    listing = folders.Listing.of(folders.walk(image_folder))
    folders.check_readable(str(image_folder), [listing])
    paths = [path for path in folders.walk(mask_folder) if path.lower().endswith(MASK_SUFFIXES)]
    # Of masks with one name, the one whose ending comes first.
    paths.sort(key=lambda path: -MASK_SUFFIXES.index(pathlib.Path(path).suffix.lower()))
    by_name = _by_name(mask_folder, paths)
    matches = _Matches([], [], [], listing.others)
    used = set()
    for name, image in _by_name(image_folder, listing.images).items():
        mask = next((by_name[name + ending] for ending in MASK_ENDINGS if name + ending in by_name), None)
        if mask:
            matches.pairs.append((name, image, mask))
            used.add(mask)
        else:
            matches.images.append(image)
    matches.masks.extend(sorted(set(by_name.values()) - used))
    return matches


def _by_name(folder: pathlib.Path, paths: Sequence[str]) -> dict[str, str]:
    """Name relative to a folder, without ending -> file."""
    return {pathlib.Path(path).relative_to(folder).with_suffix("").as_posix(): path for path in paths}


def _numbered(paths: Sequence[str], options: LabelOptions) -> tuple[str, ...]:
    """Names of as many classes as the masks have values: "0", "1", ..."""
    if options.label_values:
        return tuple(map(str, range(len(options.label_values))))
    values = {int(value) for path in paths for value in masks.read_values(path)}
    if values == {0, IGNORE_LABEL} and IGNORE_LABEL not in options.ignore_labels:
        raise InputError(
            f"masks such as {paths[0]!r} have no values but 0 and {IGNORE_LABEL}, and {IGNORE_LABEL} is ignored; "
            f"--label_values=0,{IGNORE_LABEL} makes it a class."
        )
    values -= {IGNORE_LABEL, *options.ignore_labels}
    return tuple(map(str, range(max(values, default=0) + 1)))
