"""Folders of images and masks in any of the layouts of `pairing`.

A file, see `labels.NAMES_FILES`, names the classes; a table of colors, see `colors.TABLES`, says what the colors of
masks mean. Lists as in `split_lists` divide images that are in one folder.
"""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Sequence

from keras_resnet.data import folders
from keras_resnet.errors import InputError, counted, listed
from keras_resnet.segmentation.choices import IGNORE_LABEL
from keras_resnet.segmentation.data import colors, masks, pairing, split_lists
from keras_resnet.segmentation.data.examples import Example, SegmentationDataset, SegmentationInfo
from keras_resnet.segmentation.data.labels import NAMES_FILES, ROBOFLOW, LabelOptions, find_names
from keras_resnet.segmentation.data.pairing import Pairs


def open_folder(root: pathlib.Path, options: LabelOptions) -> SegmentationDataset:
    """Open a folder of images and masks.

    Images without a mask and masks without an image are left out; they are counted and named in one line of the log.

    Args:
        root: the folder.
        options: classes and values of the masks; by default those of a file of names or of a table of colors, and
            without them as many classes as the masks have values.

    Raises:
        ValueError: no image has a mask, a file cannot be read, or the classes are unknown.
    """
    pairs = pairing.find(root)
    if not pairs.splits:
        raise InputError(_no_pairs(root, pairs))
    splits, missing = pairs.splits, ""
    if len(splits) == 1:
        by_list, missing = split_lists.find(root, next(iter(splits.values())))
        splits = by_list or splits
    _log_left_out(root, pairs, missing)
    paths = [pair.mask for found in splits.values() for pair in found]
    names = options.class_names or find_names(root)
    if table := options.table_of(root):
        names, format, palette = options.of_table(table, names, paths)
    else:
        masks.warn_of_palettes(paths)
        names = names or _numbered(paths, options)
        format, palette = options.format(len(names)), colors.palette(names)

    @functools.cache
    def read(split: str) -> list[Example]:
        return [
            Example(pair.image, pair.name, functools.partial(format.read, pair.mask), pair.mask)
            for pair in splits[split]
        ]

    counts = {split: len(found) for split, found in splits.items()}
    return SegmentationDataset(
        SegmentationInfo(f"folder:{root}", names, None, counts, colors=colors.to_hex(palette)), read
    )


def _log_left_out(root: pathlib.Path, pairs: Pairs, missing: str) -> None:
    """Log what of a folder is left out: files of the folders that are used, and the names of other folders."""
    used = {os.path.dirname(path) for found in pairs.splits.values() for pair in found for path in pair[1:]}
    kinds = {
        "files that are not images": [path for path in pairs.others if os.path.basename(path) != ROBOFLOW],
        "images without a mask": pairs.images,
        "masks without an image": pairs.masks,
    }
    files = {kind: [path for path in paths if os.path.dirname(path) in used] for kind, paths in kinds.items()}
    unused = {os.path.dirname(path) for paths in kinds.values() for path in paths} - used - {str(root)}
    names = sorted(pathlib.Path(folder).relative_to(root).as_posix() for folder in unused)
    folders.log_left_out(str(root), files, names)
    if missing:
        folders.log.warning("%s: no image and mask of %s", root, missing)


def _no_pairs(root: pathlib.Path, pairs: Pairs) -> str:
    """Say that no image has a mask, with an image and a mask if there are some."""
    found = [
        f"{counted(len(paths), kind)} such as {os.path.relpath(paths[0], root)!r}"
        for kind, paths in {"image": pairs.images, "mask": pairs.masks}.items()
        if paths
    ]
    return (
        f"dataset folder {str(root)!r} must have masks with the names of their images, such as images/SPLIT/x.jpg and "
        f"masks/SPLIT/x.png (or {', '.join(pairing.MASK_SUFFIXES[1:])}); it has {' and '.join(found) or 'neither'}"
        f"{_other_annotation(root, pairs)}."
    )


def _other_annotation(root: pathlib.Path, pairs: Pairs) -> str:
    """Say that the first image has an annotation that is no mask, such as a polygon of labelme or YOLO."""
    if not pairs.images:
        return ""
    image = pathlib.Path(pairs.images[0])
    paths = (pathlib.Path(path) for path in folders.walk(root))
    same = (path for path in paths if path.stem in (image.stem, image.name))
    other = next((path for path in same if path.suffix.lower() not in folders.SUFFIXES), None)
    return f"; {other.relative_to(root).as_posix()!r} is no mask: export masks as PNG from your tool" if other else ""


def _numbered(paths: Sequence[str], options: LabelOptions) -> tuple[str, ...]:
    """Names of as many classes as the masks have values: "0", "1", ..."""
    if options.label_values:
        return tuple(map(str, range(len(options.label_values))))
    values = masks.read_all_values(paths)
    known = sorted(values - {IGNORE_LABEL, *options.ignore_labels})
    count = max(known, default=0) + 1
    own = ",".join(str(value) for value in sorted(values - {*options.ignore_labels})[:10])
    if values == {0, IGNORE_LABEL} and IGNORE_LABEL not in options.ignore_labels:
        raise InputError(
            f"masks such as {paths[0]!r} have no values but 0 and {IGNORE_LABEL}, and {IGNORE_LABEL} is ignored; "
            f"--label_values=0,{IGNORE_LABEL} makes it a class."
        )
    if count > 2 * len(known) or set(options.ignore_labels) & set(range(count)):
        raise InputError(
            f"masks such as {paths[0]!r} have the values {listed(sorted(values), 10)}: give the value of each class, "
            f"such as --label_values={own}, or the names of all from 0 to {count - 1}, with --class_names or "
            f"{NAMES_FILES[0]} in the folder."
        )
    if known and known[0] > 0:
        folders.log.warning(
            "no mask has the value 0, the first class; --label_values=%s leaves it out", ",".join(map(str, known))
        )
    return tuple(map(str, range(count)))
