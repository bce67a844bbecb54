"""Write small detection data sets in the layouts of PASCAL VOC and COCO."""

import json
import pathlib

import numpy as np
from PIL import Image

DOG = ("dog", (11, 21, 30, 40), 0)
"""An object for `voc_folder`."""


def voc_folder(root: pathlib.Path, content, size=(60, 80), splits=None) -> pathlib.Path:
    """Write a folder in VOC's layout; `content` is name -> objects (class, (xmin, ymin, xmax, ymax), difficult)."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for number, (name, objects) in enumerate(content.items()):
        Image.fromarray(np.full((*size, 3), 20 * number, "uint8")).save(root / "JPEGImages" / f"{name}.jpg")
        entries = "".join(
            f"<object><name>{label}</name><difficult>{difficult}</difficult><bndbox><xmin>{box[0]}</xmin>"
            f"<ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
            for label, box, difficult in objects
        )
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{entries}</annotation>")
    for split, names in (splits or {"train": list(content)}).items():
        (root / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root


def coco_folder(root: pathlib.Path, annotations, categories=((7, "cat"), (3, "dog"))) -> pathlib.Path:
    """Write a folder in COCO's layout with one image, whose id is 42."""
    (root / "annotations").mkdir(parents=True)
    (root / "train").mkdir()
    Image.fromarray(np.zeros((60, 80, 3), "uint8")).save(root / "train/x.png")
    content = {
        "images": [{"id": 42, "file_name": "x.png", "height": 60, "width": 80}],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in categories],
    }
    (root / "annotations/instances_train.json").write_text(json.dumps(content))
    return root
