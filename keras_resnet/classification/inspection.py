"""What a folder of images with one subfolder per class holds, for `keras-resnet inspect`."""

from __future__ import annotations

import numpy as np

from keras_resnet.data import class_folders, folders
from keras_resnet.data.dataset import Files
from keras_resnet.data.finder import image_size
from keras_resnet.errors import counted
from keras_resnet.evaluation import inspection
from keras_resnet.evaluation.inspection import Inspection
from keras_resnet.ops import codecs


def recognizes(root: str) -> int:
    """Return how surely a folder is one of images in class folders: 0 or 1."""
    return 1 if folders.visible(root)[0] else 0


def inspect(root: str, pictures: int = 12, seed: int = 0, exif: bool = False) -> Inspection:
    """List the images of a folder and decode them.

    Args:
        root: the folder.
        pictures: most images of the contact sheet.
        seed: unused: the splits are those of the folder.
        exif: whether images are rotated by their EXIF orientation.

    Raises:
        ValueError: the folder cannot be read.
    """
    with inspection.warnings() as messages:
        dataset = class_folders.load(root)
    names = dataset.info.class_names
    faults = list(messages)
    splits: dict[str, Files] = {}
    for split in dataset.info.splits:
        examples = dataset.read(split)
        assert isinstance(examples, Files)
        splits[split] = examples
    labeled = [
        (split, str(path), int(label))
        for split, examples in splits.items()
        for path, label in zip(examples.paths, examples.labels, strict=True)
    ]
    broken = set(inspection.undecodable(sorted(path for _, path, _ in labeled), root, faults))
    usable = [each for each in labeled if each[1] not in broken]
    counts = {
        name: [int(np.sum(examples.labels == label)) for examples in splits.values()]
        for label, name in enumerate(names)
    }
    facts = {"splits": "; ".join(f"{split} {counted(each.count, 'image')}" for split, each in splits.items())}
    if usable:
        facts["images"] = inspection.sizes([image_size(path, exif) for _, path, _ in usable])
    layout = "one folder per class" + (" in each split" if len(splits) > 1 else "")
    chosen = [usable[index] for index in inspection.chosen(len(usable), pictures)]
    sheet = [(f"{split}: {names[label]}", _picture(path, exif)) for split, path, label in chosen]
    faults += [] if len(names) > 1 else [f"there is only one class, {names[0]!r}"]
    return Inspection(layout, (), facts, counts, list(splits), faults, sheet)


def _picture(path: str, exif: bool) -> np.ndarray:
    pixels = codecs.read(path, codecs.decode_upright if exif else codecs.decode).numpy()
    return np.asarray(inspection.thumbnail(pixels))
