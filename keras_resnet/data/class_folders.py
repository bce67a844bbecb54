"""A folder of images with one subfolder per class: what the folders in it mean is decided by what they hold.

photos/cat/1.jpg                          one folder per class: the split "train"
photos/train/cat/1.jpg, photos/val/...    the same in folders named as splits, in any case: `dataset.SPLIT_NAMES`
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping

import numpy as np

from keras_resnet.data import folders
from keras_resnet.data.dataset import SPLIT_NAMES, Dataset, DatasetInfo, Files, log_similar, usual_split
from keras_resnet.data.folders import Listing
from keras_resnet.errors import InputError, counted, did_you_mean
from keras_resnet.ops import codecs

Contents = Mapping[str, Listing]
"""Class folder -> the files in it and its subfolders."""


def load(root: str) -> Dataset:
    """Open a folder of images.

    What is left out is logged in one line: files that are not images, images outside the class folders, and folders
    that are neither a split nor a class.

    Args:
        root: absolute path of the folder.

    Raises:
        ValueError: the folder has no images, images outside class folders or one level too deep, images of a format
            that cannot be read, or splits with different classes.
    """
    roots, unused = _split_roots(root)
    contents = {split: _contents(path) for split, path in roots.items()}
    outside = Listing.of(file for path in {root, *roots.values()} for file in _files(path))
    first = next(iter(roots))
    for split in list(roots):
        if split != first and not contents[split]:  # images without labels, such as those of a competition
            del roots[split]
    class_names = _class_names(roots[first], contents[first], outside)
    for split, path in roots.items():
        _check_classes(path, contents[split], class_names, roots[first])
    listings = [outside, *(listing for each in contents.values() for listing in each.values())]
    folders.check_readable(root, listings)
    others = sorted(path for listing in listings for path in listing.others)
    groups = {"files that are not images": others, "images in no class folder": outside.images}
    folders.log_left_out(root, groups, unused)
    log_similar(root, class_names)
    splits = {split: _files_of_classes(contents[split], class_names) for split in roots}
    counts = {split: examples.count for split, examples in splits.items()}
    return Dataset(DatasetInfo(f"folder:{root}", class_names, None, counts), splits.__getitem__)


def _split_roots(root: str) -> tuple[dict[str, str], list[str]]:
    """Return the folder of each split, the root itself without splits, and the folders that are left out.

    A folder named as a split is one if it has subfolders; classes can have such names too.

    Raises:
        ValueError: two folders are the same split, or the folders named as splits hold images directly.
    """
    subfolders = folders.visible(root)[0]
    named = {name: usual_split(name) for name in subfolders if usual_split(name) in SPLIT_NAMES}
    with_classes = [name for name in named if folders.visible(os.path.join(root, name))[0]]
    only_splits = len(named) == len(subfolders)
    if not named or not (only_splits or any(named[name] == "train" for name in with_classes)):
        return {"train": root}, []
    for split in SPLIT_NAMES:
        same = [name for name in named if named[name] == split]
        if len(same) > 1:
            raise InputError(f"dataset folder {root!r} must have one folder for the split {split!r}; it has {same}.")
    by_split = {split: name for name, split in named.items()}
    roots = {split: os.path.join(root, by_split[split]) for split in SPLIT_NAMES if split in by_split}
    return roots, [name for name in subfolders if name not in named]


def _files(folder: str) -> list[str]:
    return [os.path.join(folder, name) for name in folders.visible(folder)[1]]


def _contents(folder: str) -> dict[str, Listing]:
    """Return what each subfolder of a folder holds."""
    subfolders = folders.visible(folder)[0]
    # macOS decomposes letters such as ö in names and other systems do not: the same class in both is one.
    contents = {unicodedata.normalize("NFC", name): name for name in subfolders}
    if len(contents) < len(subfolders):
        twice = next(name for name in subfolders if name not in contents.values())
        raise InputError(f"dataset folder {folder!r} has two folders of the name {twice!r}, spelled with other bytes.")
    return {name: Listing.of(folders.walk(os.path.join(folder, own))) for name, own in contents.items()}


def _class_names(root: str, contents: Contents, outside: Listing) -> tuple[str, ...]:
    """Return the names of the classes, those of the subfolders of a split.

    Raises:
        ValueError: there are none, their folders hold only folders, or a name has a line break.
    """
    if not contents:
        there = [path for path in outside.images if os.path.dirname(path) == root]
        got = f"it has {counted(len(there), 'image')} outside of any" if there else "it has none"
        hint = "; move the images of each class to a folder named as the class" if there else ""
        raise InputError(f"dataset folder {root!r} must have one subfolder for each class; {got}{hint}.")
    with_images = {name: _folders_with_images(os.path.join(root, name), each) for name, each in contents.items()}
    if not any("." in found for found in with_images.values()):
        _check_depth(root, with_images)
    if broken := [name for name in contents if "".join(name.splitlines()) != name]:
        raise InputError(
            f"class folders of {root!r} must have names without line breaks, because exports list classes by lines; "
            f"rename {broken[0]!r}."
        )
    return tuple(contents)


def _folders_with_images(folder: str, listing: Listing) -> set[str]:
    """Return the folders inside a class folder that hold images, such as "train/close"; "." is the folder itself."""
    paths = [*listing.images, *(path for found in listing.unreadable.values() for path in found)]
    return {os.path.relpath(os.path.dirname(path), folder) for path in paths}


def _check_depth(root: str, with_images: Mapping[str, set[str]]) -> None:
    """Check that folders that only hold folders are classes, and neither splits nor what an archive has around them.

    Args:
        root: the folder.
        with_images: class folder -> the folders inside it that hold images; none of these is the class folder itself.

    Raises:
        ValueError: the images of a class folder are in several folders.
    """
    for name, found in with_images.items():
        way = os.path.commonpath(found) if found else ""
        if len(found) < 2 or way in found:
            continue
        parent = os.path.join(name, way) if way else name
        inner = sorted({os.path.relpath(path, way or ".").split(os.sep)[0] for path in found})
        some = " and ".join(repr(os.path.join(parent, path)) for path in inner[:2])
        splits = all(usual_split(path) in SPLIT_NAMES for each in with_images.values() for path in each)
        if splits and len(with_images) > 1:
            raise InputError(
                f"dataset folder {root!r} must have the splits above the classes; it has {some}. Move the images, such "
                f"as those in {os.path.join(name, inner[0])!r} to {os.path.join(inner[0], name)!r}."
            )
        if way and len(with_images) == 1:
            raise InputError(
                f"dataset folder {root!r} has one class folder, {name!r}; did you mean folder:{root}/{parent}?"
            )
        raise InputError(
            f"class folders of {root!r} must hold images; they only hold folders with images, such as {some}. Name the "
            f"folder whose subfolders are the classes, such as folder:{os.path.join(root, parent)}, or rename the "
            "folders to train, val and test if they are splits."
        )


def _check_classes(root: str, contents: Contents, class_names: tuple[str, ...], first: str) -> None:
    """Check that a split has the class folders of the first one.

    Raises:
        ValueError: it has others, or a class of the first split has no images.
    """
    extra = [name for name, listing in contents.items() if name not in class_names and listing.images]
    if extra:
        hint = did_you_mean(extra[0], class_names)
        raise InputError(f"dataset folder {root!r} has classes {extra} that {first!r} does not have{hint}.")
    for name in class_names:
        listing = contents.get(name)
        if listing is None or (root == first and not (listing.images or listing.unreadable)):
            there = f"; it has {counted(len(listing.others), 'other file')}" if listing and listing.others else ""
            raise InputError(f"class folder {os.path.join(root, name)!r} must hold images ({codecs.FORMATS}){there}.")


def _files_of_classes(contents: Contents, class_names: tuple[str, ...]) -> Files:
    """Return the image files of a split.

    The classes alternate, so that a part such as train[:90%] has the same fraction of each.
    """
    paths: list[str] = []
    labels: list[int] = []
    positions: list[float] = []
    for label, name in enumerate(class_names):
        images = contents[name].images
        paths += images
        labels += [label] * len(images)
        positions += [(number + 0.5) / len(images) for number in range(len(images))]
    order = np.argsort(positions, kind="stable")
    return Files(np.array(paths, dtype=str)[order], np.array(labels, "int32")[order])
