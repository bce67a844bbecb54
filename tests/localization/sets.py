"""Small localization data sets in the layouts that people have, for tests."""

import pathlib

import numpy as np
from PIL import Image

TENCH, GOLDFISH = "n01440764", "n01443537"


def save(path: pathlib.Path, size=(40, 60), value=0) -> pathlib.Path:
    """Write a gray image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, "uint8")).save(path, "JPEG")
    return path


def xml(path: pathlib.Path, name: str, boxes, size=(40, 60)) -> pathlib.Path:
    """Write boxes (xmin, ymin, xmax, ymax) of a class in VOC's format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>"
        f"<ymax>{bottom}</ymax></bndbox></object>"
        for left, top, right, bottom in boxes
    )
    declared = f"<size><width>{size[1]}</width><height>{size[0]}</height></size>"
    path.write_text(f"<annotation>{declared}{objects}</annotation>")
    return path


TRAIN = {f"{TENCH}_7": (TENCH, [(10, 5, 29, 14)]), f"{GOLDFISH}_2": (GOLDFISH, [(0, 0, 59, 39), (1, 2, 3, 4)])}
VAL = {
    "ILSVRC2012_val_00000001": (GOLDFISH, [(0, 0, 9, 9)]),
    "ILSVRC2012_val_00000002": (TENCH, [(5, 5, 24, 24)]),
    "ILSVRC2012_val_00000003": (TENCH, [(0, 10, 59, 39)]),
}


def ilsvrc(root: pathlib.Path, kaggle=False, blacklist="2\n", folders_of_val=False) -> pathlib.Path:
    """Write ILSVRC's layout: two training images with boxes and one without, three validation images."""
    base = root / "ILSVRC"
    save(base / f"Data/CLS-LOC/train/{TENCH}/{TENCH}_1.JPEG")
    for split, content in (("train", TRAIN), ("val", VAL)):
        for name, (wnid, boxes) in content.items():
            folder = f"{wnid}/" if split == "train" or folders_of_val else ""
            save(base / f"Data/CLS-LOC/{split}/{folder}{name}.JPEG")
            if not kaggle:
                xml(
                    base / f"Annotations/CLS-LOC/{split}/{wnid + '/' if split == 'train' else ''}{name}.xml",
                    wnid,
                    boxes,
                )
        if kaggle:
            rows = [
                f"{name},{''.join(f'{wnid} {a} {b} {c} {d} ' for a, b, c, d in boxes)}"
                for name, (wnid, boxes) in content.items()
            ]
            (root / f"LOC_{split}_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows]) + "\n")
    if blacklist is not None:
        (base / "devkit/data").mkdir(parents=True)
        (base / "devkit/data/ILSVRC2015_clsloc_validation_blacklist.txt").write_text(blacklist)
    return root
