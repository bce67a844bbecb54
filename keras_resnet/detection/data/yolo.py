"""Folders in YOLO's layout: `labels/*.txt` next to `images/`, with the classes in `data.yaml` or `classes.txt`.

Each line of a label file is an object: the number of its class and the center, width and height of its box, or the
corners x, y of a polygon, all as fractions of the image. An image without a label file has no objects.
"""

from __future__ import annotations

import functools
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from keras_resnet.data import folders
from keras_resnet.data.dataset import SPLIT_NAMES, DatasetInfo, log_similar, usual_split
from keras_resnet.data.finder import FileFinder, image_size, read_text
from keras_resnet.detection.data import simple_yaml
from keras_resnet.detection.data.annotations import Annotation, AnnotationCollector, DetectionDataset, logger
from keras_resnet.errors import InputError, counted, listed
from keras_resnet.ops.masks import ObjectMask

NAMES_FILES = ("classes.txt", "labels/classes.txt", "obj.names", "_darknet.labels")
"""Files with one class name a line, which tools write instead of data.yaml."""

SLACK = 0.1
"""How far coordinates may be outside the image, as fractions of it: some tools round boxes outwards."""

DECIMALS = 3
"""Decimals of pixels that are kept, since files have six decimals of fractions."""


def names_file(root: pathlib.Path) -> pathlib.Path | None:
    """Return the file with the classes; None for a folder in another layout."""
    yamls = sorted(path for path in root.iterdir() if path.suffix.lower() in (".yaml", ".yml") and path.is_file())
    yamls.sort(key=lambda path: path.stem.lower() != "data")
    found = next((path for path in yamls if "names" in _keys(path)), None)
    found = found or next((root / name for name in NAMES_FILES if (root / name).is_file()), None)
    return found or _inner_names_file(root)


def _inner_names_file(root: pathlib.Path) -> pathlib.Path | None:
    """The file with the classes in a subfolder; None if there is none, or files that differ."""
    names = {pathlib.Path(name).name for name in NAMES_FILES}
    paths = sorted(path for path in map(pathlib.Path, folders.walk(root)) if path.name in names)
    return paths[0] if len({path.read_bytes() for path in paths}) == 1 else None


def is_layout(root: pathlib.Path) -> bool:
    """Return whether a folder has a data.yaml that names classes, or label files."""
    file = names_file(root)
    if file and file.suffix.lower() in (".yaml", ".yml"):
        return True
    texts = (pathlib.Path(path) for path in folders.walk(root) if path.lower().endswith(".txt"))
    return any(_is_label_file(path) for path in texts)


def _is_label_file(path: pathlib.Path) -> bool:
    """Whether the first line of a text file is an object."""
    with path.open("rb") as file:
        return re.match(rb"\s*\d+(\s+[\d.e+-]+){4,}\s*$", file.readline(4096)) is not None


def _keys(path: pathlib.Path) -> Mapping[str, object]:
    try:
        return simple_yaml.parse(read_text(path), str(path))
    except InputError:
        return {}


def open_folder(root: pathlib.Path, class_names: Sequence[str] = (), exif: bool = False) -> DetectionDataset:
    """Open a folder in YOLO's layout.

    Args:
        root: the folder.
        class_names: classes in the order of their numbers; by default those of the file that names them.
        exif: whether images are rotated by their EXIF orientation.

    Raises:
        ValueError: the classes cannot be read, or there are no images.
    """
    file = names_file(root)
    if file is None and not class_names:
        raise InputError(
            f"dataset folder {str(root)!r} has label files as YOLO, and must name their classes: in data.yaml under "
            "names, or one a line in classes.txt; it has neither. --class_names of train may name them."
        )
    is_yaml = file is not None and file.suffix.lower() in (".yaml", ".yml")
    content = simple_yaml.parse(read_text(file), str(file)) if file and is_yaml else {}
    names = tuple(class_names) or (_class_names(file, content) if file else ())
    log_similar(str(root), names)
    images = {split: found for split, found in _images(root, content, file).items() if found}
    if not images:
        folders.check_readable(str(root), [folders.Listing.of(folders.walk(root))])
        raise InputError(
            f"dataset folder {str(root)!r} must have images next to its labels, such as images/train and labels/train; "
            "it has none."
        )

    @functools.cache
    def read(split: str) -> list[Annotation]:
        collector = AnnotationCollector(f"{root}, split {split}", exif)
        labels = label_files()
        for path in images[split]:
            _add(collector, path, labels.get(path), names, str(file or "--class_names"), "kpt_shape" in content)
        return collector.finish()

    @functools.cache
    def label_files() -> dict[pathlib.Path, pathlib.Path | None]:
        return _label_files(root, [path for found in images.values() for path in found])

    splits = {split: len(found) for split, found in images.items()}
    info = DatasetInfo(f"folder:{root}", names, None, splits)
    return DetectionDataset(info, read, layout=f"YOLO ({file.relative_to(root) if file else '--class_names'})")


def _class_names(file: pathlib.Path, content: Mapping[str, object]) -> tuple[str, ...]:
    """The names of the classes in the order of their numbers."""
    if not content:
        names: object = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    else:
        names = content["names"]
    if isinstance(names, Mapping):
        try:
            names = {int(number): name for number, name in names.items()}
        except ValueError:
            raise InputError(f"names of {str(file)!r} must be numbered from 0; got {listed(names)}.") from None
        if sorted(names) != list(range(len(names))):
            raise InputError(f"names of {str(file)!r} must be numbered from 0; got {listed(sorted(names))}.")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise InputError(f"{str(file)!r} must name the classes under names; got {names!r}.")
    count = content.get("nc", len(names))
    if str(count) != str(len(names)):
        raise InputError(f"{str(file)!r} must name its nc classes; nc is {count}, but it names {len(names)}.")
    return tuple(map(str, names))


def _images(
    root: pathlib.Path, content: Mapping[str, object], file: pathlib.Path | None
) -> dict[str, list[pathlib.Path]]:
    """Split -> its images: those that data.yaml lists, or else those of folders named as splits, or all."""
    listed_images: dict[str, list[pathlib.Path]] = {}
    for key in SPLIT_NAMES:
        places = content.get(key)
        places = places if isinstance(places, list) else [places] if places else []
        for place in map(str, places):
            found = _place(root, str(content.get("path") or ""), place)
            if found is None:
                logger.warning("%s: left out %s %r, which does not exist", file, key, place)
            else:
                listed_images.setdefault(key, []).extend(_images_at(root, found))
    return listed_images or _by_lists(root) or _by_folder(root)


def _by_lists(root: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Split -> the images in darknet's lists, such as train.txt and valid.txt; none if a list names a missing image."""
    found: dict[str, list[pathlib.Path]] = {}
    for path in sorted(root.glob("*.txt")):
        split = usual_split(path.stem)
        if split in SPLIT_NAMES and not _is_label_file(path):
            try:
                found.setdefault(split, []).extend(_images_at(root, path))
            except InputError as error:
                logger.warning("%s: left out the lists of images: %s", root, error)
                return {}
    return found


def _place(root: pathlib.Path, base: str, place: str) -> pathlib.Path | None:
    """The folder or list of images that data.yaml names, often relative to another folder than that of the file."""
    parts = [part for part in place.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    candidates = [root / base / place, root / place, *(root.joinpath(*parts[start:]) for start in range(len(parts)))]
    return next((path for path in candidates if path.exists() and path != root), None)


def _images_at(root: pathlib.Path, place: pathlib.Path) -> list[pathlib.Path]:
    """The images of a folder, or those that a text file lists."""
    if place.is_dir():
        return [pathlib.Path(path) for path in folders.Listing.of(folders.walk(place)).images]
    finder, found = FileFinder(), []
    for line in filter(None, map(str.strip, read_text(place).splitlines())):
        path = finder.find_named((place.parent, root), line) or _place(root, "", line)
        if path is None:
            raise InputError(f"image list {str(place)!r} names the missing image {line!r}.")
        found.append(path)
    return found


def _by_folder(root: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """The images of a folder by the split in their path; those without one are of "all"."""
    found: dict[str, list[pathlib.Path]] = {}
    for path in map(pathlib.Path, folders.Listing.of(folders.walk(root)).images):
        found.setdefault(_split(root, path) or "all", []).append(path)
    return found


def _split(root: pathlib.Path, path: pathlib.Path) -> str:
    """The split in the folders of a path, or ""."""
    parts = path.relative_to(root).parts[:-1] if path.is_relative_to(root) else ()
    return next((usual_split(part) for part in parts if usual_split(part) in SPLIT_NAMES), "")


def _label_file(image: pathlib.Path) -> pathlib.Path:
    """The label file of an image: in the folder `labels` next to `images`, or next to the image."""
    parts = list(image.parts)
    for place in reversed(range(len(parts) - 1)):
        if parts[place].lower() == "images":
            parts[place] = "labels"
            inside = pathlib.Path(*parts).with_suffix(".txt")
            return inside if inside.parent.is_dir() else image.with_suffix(".txt")
    return image.with_suffix(".txt")


def _label_files(root: pathlib.Path, images: Sequence[pathlib.Path]) -> dict[pathlib.Path, pathlib.Path | None]:
    """The label file of each image, by its place; or by its name, in folders such as Images and Labels."""
    finder = FileFinder()
    found = {image: finder.find(_label_file(image)) for image in images}
    paths = (pathlib.Path(path) for path in folders.walk(root) if path.lower().endswith(".txt"))
    unused = sorted(set(filter(_is_label_file, paths)) - set(found.values()))
    by_name: dict[tuple[str, str], list[pathlib.Path]] = {}
    for path in unused:
        by_name.setdefault((_split(root, path), path.stem), []).append(path)
    if unused and not any(found.values()):
        for image in images:
            same = by_name.get((_split(root, image), image.stem), [])
            if len(same) > 1:
                raise InputError(
                    f"image {str(image)!r} must have one label file; there are {listed(map(str, same), 2)}."
                )
            found[image] = same[0] if same else None
        unused = sorted(set(unused) - set(found.values()))
    stems = {pathlib.Path(path).stem for path in folders.walk(root) if path.lower().endswith(folders.SUFFIXES)}
    if alone := [path.name for path in unused if path.stem not in stems]:
        count = counted(len(alone), "label file")
        logger.warning("%s: left out %s without an image of the same name: %s", root, count, listed(alone))
    return found


def _add(
    collector: AnnotationCollector,
    path: pathlib.Path,
    label_file: pathlib.Path | None,
    class_names: Sequence[str],
    names_from: str,
    keypoints: bool,
) -> None:
    """Add an image with the objects of its label file."""
    size = image_size(path, collector.exif)
    scale = np.array([size[1], size[0]], "float64")
    labels: list[int] = []
    corners: list[np.ndarray] = []
    masks: list[ObjectMask | None] = []
    for label, points, is_polygon in _objects(label_file, keypoints) if label_file else ():
        if not 0 <= label < len(class_names):
            raise InputError(
                f"label file {str(label_file)!r} has class {label}; {names_from!r} names the classes 0 to "
                f"{len(class_names) - 1}."
            )
        pixels = np.round(points * scale, DECIMALS)
        (left, top), (right, bottom) = pixels.min(0), pixels.max(0)
        labels.append(label)
        corners.append(np.array([top, left, bottom, right]))
        masks.append(ObjectMask.of_polygons([pixels.ravel()], size) if is_polygon else None)
    boxes = np.array(corners, "float64").reshape(-1, 4)
    collector.add(
        path,
        path.stem,
        corners=boxes,
        labels=np.array(labels, "int32"),
        valid=(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]),
        masks=masks if any(masks) else None,
    )


def _objects(file: pathlib.Path, keypoints: bool) -> Iterator[tuple[int, np.ndarray, bool]]:
    """Class, points f64[n,2] as fractions (x, y), and whether they are a polygon, of each line of a label file.

    With keypoints, which follow a box, the box alone is read.
    """
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        where = f"line {number} of label file {str(file)!r}"
        try:
            label, values = int(float(words[0])), np.array(list(map(float, words[1:])))
        except (ValueError, OverflowError):
            raise InputError(f"{where} must be numbers; got {line.strip()[:80]!r}.") from None
        if keypoints:
            values = values[:4]
        if len(values) != 4 and (len(values) < 6 or len(values) % 2):
            raise InputError(
                f"{where} must have a class and the center, width and height of a box, or the corners of a polygon; "
                f"got {counted(len(words), 'number')}."
            )
        if not np.all((values >= -SLACK) & (values <= 1 + SLACK)):
            raise InputError(f"{where} must have fractions of the image, from 0 to 1; got {line.strip()[:80]!r}.")
        if len(values) == 4:
            center, extent = values[:2], values[2:]
            yield label, np.stack([center - extent / 2, center + extent / 2]), False
        else:
            yield label, values.reshape(-1, 2), True
