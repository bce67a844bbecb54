"""What a folder of localization data holds, for `keras-resnet inspect`."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np

from keras_resnet.detection.data import sources as detection
from keras_resnet.detection.data.annotations import clip
from keras_resnet.errors import counted, listed
from keras_resnet.evaluation import inspection
from keras_resnet.evaluation.inspection import Inspection
from keras_resnet.localization import pictures as drawing
from keras_resnet.localization.data import ilsvrc, sources
from keras_resnet.localization.data.examples import Example, areas
from keras_resnet.ops import codecs


def recognizes(root: str) -> int:
    """Return how surely a folder is one of localization data: 4 for ILSVRC's layout, 1 for detection data, or 0."""
    path = pathlib.Path(root)
    return 4 if ilsvrc.base_of(path) else int(bool(detection.layout(path)))


def inspect(root: str, pictures: int = 12, seed: int = 0, exif: bool = False) -> Inspection:
    """Read all boxes of a folder and decode its images.

    Args:
        root: the folder.
        pictures: most images of the contact sheet.
        seed: seed of splits that are made.
        exif: whether images are rotated by their EXIF orientation.

    Raises:
        ValueError: the folder cannot be read.
    """
    faults: list[str] = []
    with inspection.warnings() as messages:
        dataset = sources.load(f"folder:{root}", exif=exif, seed=seed)
        read = inspection.read_splits(dataset.info.splits, dataset.read, faults)
    found = {split: [example for example in examples if example is not None] for split, examples in read.items()}
    left_out = sum(len(read[split]) - len(found[split]) for split in found)
    names = dataset.info.class_names
    paths = [example.path for examples in found.values() for example in examples]
    broken = inspection.undecodable(paths, root, faults)
    usable = [(split, each) for split, examples in found.items() for each in examples if each.path not in broken]
    counts = {
        name: [sum(each.label == label for each in examples) for examples in found.values()]
        for label, name in enumerate(names)
    }
    if outside := sum(int(_beyond(example, exif).sum()) for _, example in usable):
        faults.append(f"{counted(outside, 'box', 'boxes')} with more than a pixel beyond the image")
    missing = [name for name, numbers in counts.items() if not any(numbers)]
    if missing:
        faults.append(f"{counted(len(missing), 'class', 'classes')} without an image: {listed(missing)}")
    facts = {"splits": "; ".join(f"{split} {counted(len(each), 'image')}" for split, each in found.items())}
    if left_out:
        facts["left out"] = f"{counted(left_out, 'image')} {dataset.left_out}"
    facts |= _sizes(usable, exif) | {"counts below": "images of each class"}
    layout = (
        "ILSVRC (images with one class and boxes)"
        if ilsvrc.base_of(pathlib.Path(root))
        else "boxes; the largest has the class"
    )
    sheet = [_picture(*usable[index], names, exif) for index in inspection.chosen(len(usable), pictures)]
    return Inspection(layout, (), facts, counts, list(found), [*messages, *faults], sheet)


def _beyond(example: Example, exif: bool) -> np.ndarray:
    """Whether more than a pixel of each box is beyond the image, bool[n]."""
    height, width = example.image_size(exif)
    outside = (example.boxes < -1) | (example.boxes > np.array([height, width] * 2) + 1)
    return np.any(outside, axis=1)


def _sizes(usable: Sequence[tuple[str, Example]], exif: bool) -> dict[str, str]:
    """The sizes of images that can be decoded, and of their boxes."""
    if not usable:
        return {}
    examples = [example for _, example in usable]
    sizes = [example.image_size(exif) for example in examples]
    counts = [len(example.boxes) for example in examples]
    shares = np.concatenate(
        [areas(clip(example.boxes, size)) / np.prod(size) for example, size in zip(examples, sizes, strict=True)]
    )
    facts = {"images": inspection.sizes(sizes)}
    if len(shares):
        low, middle, high = 100 * np.quantile(shares, (0, 0.5, 1))
        facts["boxes"] = (
            f"{min(counts)} to {max(counts)} of the class of an image, median {np.median(counts):g}; "
            f"{low:.0f} % to {high:.0f} % of its area, median {middle:.0f} %"
        )
    if blacklisted := sum(example.blacklisted for example in examples):
        facts["blacklist"] = counted(blacklisted, "image")
    return facts


def _picture(split: str, example: Example, class_names: Sequence[str], exif: bool) -> tuple[str, np.ndarray]:
    """Caption and picture of an image with its boxes."""
    pixels = codecs.read(example.path, codecs.decode_upright if exif else codecs.decode).numpy()
    drawn = drawing.draw(pixels, example.boxes, np.zeros((0, 4)), [])
    return f"{split}: {class_names[example.label]}, {example.id}", np.asarray(inspection.thumbnail(np.asarray(drawn)))
