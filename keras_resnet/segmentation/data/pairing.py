"""Find the images of a folder and the mask of each, by the words that the names of folders and files begin or end with.

A file has a role, image or mask, and a key: its path without the words of the role. An image and a mask of one key are
a pair:

images/train/x.jpg       masks/train/x.png              also img_dir and ann_dir, annotations, labels, gt, ...
train/images/x.jpg       train/masks/x.png
train/x.png              trainannot/x.png               also train_labels, train_masks
train/x.jpg              train/x_mask.png
images/x.jpg             annotations/trimaps/x.png      without splits

The split of a pair is the folder that is named as one, wherever it is; without any, the first folder.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from keras_resnet.data import folders
from keras_resnet.data.dataset import SPLIT_NAMES, usual_split
from keras_resnet.data.finder import spelling

IMAGE_WORDS = ("images", "image", "imgs", "img", "jpegimages", "input", "inputs")
"""What names of folders of images have, in lower case."""

MASK_WORDS = (
    *("masks", "mask", "annotations", "annotation", "anns", "ann", "annot", "labels", "label", "trimaps"),
    *("segmentationclass", "segmentationclasspng", "groundtruth", "ground_truth", "ground truth", "gt"),
)
"""What names of folders of masks have, in lower case, in the order in which they are preferred."""

MASK_SUFFIXES = (".png", ".bmp", ".gif", ".tif", ".tiff", ".jpg", ".jpeg")
"""Endings of masks in lower case, in the order in which they are preferred."""

MASK_ENDINGS = (
    *("mask", "masks", "label", "labels", "gt", "groundtruth", "seg", "segmentation", "annotation"),
    *("gtfine_labeltrainids", "gtfine_labelids", "labeltrainids", "labelids", "l", "p"),
)
"""What the name of a mask may have after that of its image, separated by _ or -, or before it if it is no letter."""

IMAGE_ENDINGS = ("image", "img", "sat", "leftimg8bit", "rgb")
"""What the name of an image may have before or after that of its mask."""

DEFAULT_SPLIT = "train"
"""Split of the pairs of a folder without splits."""

PICTURES = ("human", "color", "colors", "rgb", "visualization")
"""What names of folders have whose masks are pictures for people; other masks of an image are preferred."""

_BEFORE = "|".join(word for word in (*MASK_ENDINGS, *IMAGE_ENDINGS) if len(word) > 1)
_AFTER = "|".join((*MASK_ENDINGS, *IMAGE_ENDINGS))
_ENDING = re.compile(rf"(?P<core>.+?)[_\-](?P<word>{_AFTER})", re.IGNORECASE)
_BEGINNING = re.compile(rf"(?P<word>{_BEFORE})[_\-](?P<core>.+)", re.IGNORECASE)
_SPLIT_WORDS = {name for names in SPLIT_NAMES.values() for name in names}


class Pair(NamedTuple):
    """An image and its mask.

    Attributes:
        name: path of the image relative to the folder of its split, without words of roles and ending.
        image: the image file.
        mask: the mask file.
    """

    name: str
    image: str
    mask: str


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The pairs of a folder and what it has besides them.

    Attributes:
        splits: split -> its pairs in the order of their names: training first, then validation, test and others.
        images: images without a mask.
        masks: masks without an image.
        others: files in the folders of images that are none.
    """

    splits: dict[str, list[Pair]]
    images: list[str]
    masks: list[str]
    others: list[str]


class _File(NamedTuple):
    """A file, and its path without the words of roles.

    Attributes:
        path: the file.
        parts: names of the folders that it is in, without words of roles.
        stem: its name without ending, and for a mask without that of the image: "x" of x.jpg.png.
        core: the stem without the words before or after the names of images and masks.
        word: what the core lacks, in lower case.
        rank: place of a mask among those of one image; the lowest is used.
        depth: number of the folders that it is in above the first one that tells a role or a split.
    """

    path: str
    parts: tuple[str, ...]
    stem: str
    core: str
    word: str
    rank: tuple[int, ...]
    depth: int

    @property
    def split(self) -> str:
        return next(filter(None, map(_split_of, self.parts)), self.parts[0] if self.parts else DEFAULT_SPLIT)

    @property
    def name(self) -> str:
        place = next((place for place, part in enumerate(self.parts) if _split_of(part)), 0)
        return "/".join((*self.parts[:place], *self.parts[place + 1 :], self.stem))


def find(root: pathlib.Path) -> Pairs:
    """Find the pairs of a folder; none for a folder in another layout.

    Raises:
        ValueError: a folder cannot be read, or images that have masks are of a format that cannot be read.
    """
    images, masks = _roles(root, list(folders.walk(root)))
    listing = folders.Listing.of(image.path for image in images)
    unreadable = {path for paths in listing.unreadable.values() for path in paths}
    readable = {*listing.images, *unreadable}
    matches = _match([image for image in images if image.path in readable], masks)
    top = min((image.depth for image, _ in matches), default=0)
    matches = [match for match in matches if match[0].depth == top]  # others are another data set in the folder
    paired = {image.path for image, _ in matches}
    if wrong := unreadable & paired:
        folders.check_readable(os.path.commonpath(map(os.path.dirname, wrong)), [listing])
    used = {os.path.dirname(image.path) for image, _ in matches}
    splits: dict[str, list[Pair]] = {}
    for image, mask in sorted(_without_common(matches), key=lambda match: match[0].path):
        splits.setdefault(image.split, []).append(Pair(image.name, image.path, mask.path))
    return Pairs(
        {split: splits[split] for split in sorted(splits, key=order)},
        sorted(image.path for image in images if image.path in readable - paired),
        sorted({mask.path for mask in masks} - {mask.path for _, mask in matches}),
        [path for path in listing.others if os.path.dirname(path) in used],
    )


def order(split: str) -> tuple[int, str]:
    """Return a key by which splits are sorted: training first, then validation, test and others."""
    usual, names = usual_split(split), list(SPLIT_NAMES)
    return (names.index(usual) if usual in names else len(names)), split


def _roles(root: pathlib.Path, paths: Sequence[str]) -> tuple[list[_File], list[_File]]:
    """Sort the files of a folder into those that may be images and those that may be masks."""
    parsed = {path: _parse(root, path) for path in paths}
    masks = [file for role, file in parsed.values() if role == "mask" and _suffix(file.path) in MASK_SUFFIXES]
    rest = [(role, file) for role, file in parsed.values() if role != "mask"]
    named = any(role == "image" for role, _ in rest)
    images = [file for role, file in rest if role == "image" or not named]
    if not masks:
        masks = _masks_among(images)
        images = [image for image in images if image not in masks]
    return images, masks


def _masks_among(files: Sequence[_File]) -> list[_File]:
    """The masks among files whose folders do not tell: x_mask.png with x.jpg or x_sat.jpg, or else x.png with x.jpg."""

    def chosen(is_mask: Callable[[_File], bool], key: Callable[[_File], tuple[str, ...]]) -> list[_File]:
        groups: dict[tuple[str, ...], list[_File]] = {}
        for file in files:
            if _suffix(file.path) in MASK_SUFFIXES:
                groups.setdefault(key(file), []).append(file)
        found = [(group, [file for file in group if is_mask(file)]) for group in groups.values()]
        return [mask for group, masks in found if len(masks) < len(group) for mask in masks]

    def in_folder(file: _File) -> tuple[str, ...]:
        return os.path.dirname(file.path), spelling(file.core)

    def ends_as_mask(file: _File) -> bool:
        return file.word in MASK_ENDINGS

    return (
        chosen(ends_as_mask, in_folder)
        or chosen(ends_as_mask, lambda file: (spelling(file.core),))
        or chosen(lambda file: _suffix(file.path) == ".png", in_folder)
    )


def _parse(root: pathlib.Path, path: str) -> tuple[str, _File]:
    """The role of a file by its folders, "image", "mask" or "", and the file."""
    relative = pathlib.PurePath(os.path.relpath(path, root))
    role, place, is_picture, parts = "", 0, False, []
    telling = (level for level, part in enumerate(relative.parts[:-1]) if tells(part))
    depth = next(telling, len(relative.parts) - 1)
    for part in relative.parts[:-1]:
        rest = part
        for named, words in (("image", IMAGE_WORDS), ("mask", MASK_WORDS)):
            if found := _without_word(part, words):
                role, place, rest = named, words.index(found[0]), found[1]
                is_picture = part.lower().endswith(PICTURES)
                break
        if rest:
            parts.append(rest)
    stem, suffix = relative.stem, relative.suffix.lower()
    if pathlib.PurePath(stem).suffix.lower() in folders.SUFFIXES:  # x.jpg.png
        stem = pathlib.PurePath(stem).stem
    core, word = _core(stem)
    ending = 1 + MASK_ENDINGS.index(word) if word in MASK_ENDINGS else 0
    kind = MASK_SUFFIXES.index(suffix) if suffix in MASK_SUFFIXES else len(MASK_SUFFIXES)
    return role, _File(path, tuple(parts), stem, core, word, (is_picture, place, ending, kind), depth)


def tells(folder: str) -> bool:
    """Return whether the name of a folder tells the role of its files or their split."""
    return bool(_without_word(folder, IMAGE_WORDS) or _without_word(folder, MASK_WORDS) or _split_of(folder))


def _core(stem: str) -> tuple[str, str]:
    """The name of a file without the word that it ends or begins with, and the word in lower case, "" for none."""
    match = _ENDING.fullmatch(stem) or _BEGINNING.fullmatch(stem)
    return (match["core"], match["word"].lower()) if match else (stem, "")


def _without_word(part: str, words: Sequence[str]) -> tuple[str, str] | None:
    """The word that a folder's name is, or begins or ends with, and the rest of the name; None without any."""
    name = part.lower()
    for word in words:
        if name == word:
            return word, ""
        if match := re.fullmatch(rf"{word}[_\- ](\w+)", name):
            rest = match[1]
            return word, (part[-len(rest) :] if rest in _SPLIT_WORDS else "")
        if name.endswith(word):
            rest = part[: -len(word)]
            if rest[-1] in "_- " or rest.lower() in _SPLIT_WORDS:
                return word, rest.rstrip("_- ")
    return None


def _split_of(part: str) -> str:
    """The split that the name of a folder is or has as one of its words; "" for none or several."""
    if part.lower() in _SPLIT_WORDS:
        return part
    words = [word for word in re.split(r"[_\- ]+", part) if word.lower() in _SPLIT_WORDS]
    return words[0] if len(words) == 1 else ""


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _match(images: Sequence[_File], masks: Sequence[_File]) -> list[tuple[_File, _File]]:
    """Pair images and masks of one path, in any spelling, and without words in names.

    If none has the path of another, those of one split and name are a pair, or of one name if there are no splits.
    """
    matches: list[tuple[_File, _File]] = []
    keys: tuple[Callable[[_File], tuple[str, ...]], ...] = (
        lambda file: (*file.parts, file.stem),
        lambda file: tuple(map(spelling, (*file.parts, file.stem))),
        lambda file: tuple(map(spelling, (*file.parts, file.core))),
        lambda file: (usual_split(file.split), spelling(file.core)),
        lambda file: (*filter(None, map(_split_of, file.parts)), spelling(file.core)),
    )
    for place, key in enumerate(keys):
        loose = place > 2
        if loose and matches:
            break
        groups: dict[tuple[str, ...], tuple[list[_File], list[_File]]] = {}
        for side, files in enumerate((images, masks)):
            for file in files:
                groups.setdefault(key(file), ([], []))[side].append(file)
        taken = set()
        for one, many in groups.values():
            if one and many and not (loose and len({file.parts for file in one}) > 1):
                image, mask = min(one, key=lambda file: file.path), min(many, key=lambda file: (file.rank, file.path))
                matches.append((image, mask))
                taken |= {file.path for file in (*one, *many)}
        images = [image for image in images if image.path not in taken]
        masks = [mask for mask in masks if mask.path not in taken]
    return matches


def _without_common(matches: Sequence[tuple[_File, _File]]) -> list[tuple[_File, _File]]:
    """The pairs without the folders that all images are in and that are not named as a split."""
    count = 0
    for level in zip(*(image.parts for image, _ in matches), strict=False):
        if len({*level}) > 1 or _split_of(level[0]):
            break
        count += 1
    return [(image._replace(parts=image.parts[count:]), mask) for image, mask in matches]
