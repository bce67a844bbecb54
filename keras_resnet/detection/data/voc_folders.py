"""Folders with VOC's XML files and no image lists: XML next to the images, or in a second folder of any name.

An XML file and an image belong together if they have the same name without ending. A folder named as a split in the
path of either, such as `train`, is the split of both.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Iterable, Sequence

from keras_resnet.data import folders
from keras_resnet.data.dataset import SPLIT_NAMES, DatasetInfo, log_similar, usual_split
from keras_resnet.detection.data import voc
from keras_resnet.detection.data.annotations import Annotation, AnnotationCollector, DetectionDataset, logger
from keras_resnet.errors import InputError, counted, listed

WHOLE = "all"
"""Split of files without a split in their path."""

MARK = b"<annotation"
"""The root of VOC's XML files."""


def annotation_files(root: pathlib.Path) -> list[pathlib.Path]:
    """Return the XML files in VOC's format of a folder and its subfolders, sorted."""
    paths = sorted(pathlib.Path(path) for path in folders.walk(root) if path.lower().endswith(".xml"))
    return [path for path in paths if _is_annotation(path)]


def _is_annotation(path: pathlib.Path) -> bool:
    with path.open("rb") as file:
        start = file.read(4096)
    return MARK in start.replace(b"\0", b"").replace(b"<annotations", b"")


def open_folder(root: pathlib.Path, class_names: Sequence[str] = (), exif: bool = False) -> DetectionDataset:
    """Open such a folder.

    Args:
        root: the folder.
        class_names: classes in the order of their labels; by default all that occur, sorted.
        exif: whether images are rotated by their EXIF orientation.

    Raises:
        ValueError: an annotation cannot be read, or may belong to several images.
    """
    listing = folders.Listing.of(folders.walk(root))
    if not listing.images:
        folders.check_readable(str(root), [listing])
    pairs, notes = _pairs(root, annotation_files(root), map(pathlib.Path, listing.images))
    files = {split: [(voc.read_file(xml), image) for xml, image in found] for split, found in pairs.items()}
    occurring = {obj.class_name for found in files.values() for file, _ in found for obj in file.objects}
    classes = tuple(class_names) or tuple(sorted(occurring))
    if not classes:
        raise InputError(f"no annotation under {str(root)!r} has a box.")
    log_similar(str(root), classes)

    @functools.cache
    def read(split: str) -> list[Annotation]:
        collector = AnnotationCollector(f"{root}, split {split}", exif)
        for file, image in files[split]:
            voc.add(collector, file, image, image.stem, classes)
        return collector.finish()

    splits = {split: len(found) for split, found in files.items()}
    places = sorted({str(xml.parent.relative_to(root)) for found in pairs.values() for xml, _ in found})
    layout = f"PASCAL VOC's XML without image lists, in {listed(places)}"
    return DetectionDataset(DatasetInfo(f"folder:{root}", classes, None, splits), read, layout=layout, notes=notes)


def _pairs(
    root: pathlib.Path, files: Sequence[pathlib.Path], images: Iterable[pathlib.Path]
) -> tuple[dict[str, list[tuple[pathlib.Path, pathlib.Path]]], tuple[str, ...]]:
    """Split -> XML files with their images; and what is left out, in words."""
    by_name: dict[str, list[pathlib.Path]] = {}
    for image in images:
        by_name.setdefault(image.stem, []).append(image)
    pairs: dict[str, list[tuple[pathlib.Path, pathlib.Path]]] = {}
    used: set[pathlib.Path] = set()
    alone: list[pathlib.Path] = []
    for file in files:
        own = _image_of(root, file, by_name.get(file.stem, []))
        if own is None:
            alone.append(file)
            continue
        split = _split(root, file) or _split(root, own) or WHOLE
        pairs.setdefault(split, []).append((file, own))
        used.add(own)
    if not pairs:
        raise InputError(
            f"dataset folder {str(root)!r} must have an image of the same name for each XML file; there is none for "
            f"{alone[0].name!r}."
        )
    named = {image.stem for image in used}
    unlabeled = [
        image
        for found in by_name.values()
        for image in found
        if image not in used and not (image.stem in named and image.suffix.lower() == ".png")  # a mask
    ]
    notes = []
    for count, what, paths in (
        (len(alone), "XML file without an image of the same name", alone),
        (len(unlabeled), "image without an XML file", unlabeled),
    ):
        if count:
            kind, rest = what.split(" without", 1)
            notes.append(f"left out {counted(count, kind)} without{rest}: {listed(path.name for path in paths)}")
            logger.warning("%s: %s", root, notes[-1])
    return pairs, tuple(notes)


def _split(root: pathlib.Path, path: pathlib.Path) -> str:
    """The split in the folders of a path, or ""."""
    parts = path.relative_to(root).parts[:-1]
    return next((usual_split(part) for part in parts if usual_split(part) in SPLIT_NAMES), "")


def _image_of(root: pathlib.Path, file: pathlib.Path, candidates: Sequence[pathlib.Path]) -> pathlib.Path | None:
    """The image of an XML file: the only one of its name, the one next to it, the one of its split, or the only JPEG.

    Others than the JPEG may be masks, such as the PNGs of `SegmentationObject`.

    Raises:
        ValueError: there are several.
    """
    for chosen in (
        candidates,
        [path for path in candidates if path.parent == file.parent],
        [path for path in candidates if _split(root, path) == _split(root, file)],
        [path for path in candidates if path.suffix.lower() in (".jpg", ".jpeg")],
    ):
        if len(chosen) == 1:
            return chosen[0]
    if candidates:
        names = listed([repr(str(path)) for path in candidates], 2)
        raise InputError(f"annotation {str(file)!r} must belong to one image; there are {names}.")
    return None
