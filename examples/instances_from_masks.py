"""Make a detection data set with masks from one for segmentation: each connected component of a class is an object.

    python examples/instances_from_masks.py --data=CamVid --classes=car,pedestrian --out=camvid_instances
    keras-resnet train --preset=camvid_mask_resnet50 --data=camvid_instances --backbone_weights=imagenet

--data has `images/SPLIT/x.jpg`, `masks/SPLIT/x.png` with a class number in each pixel, and `classes.txt`, a class a
line. The result is a folder in COCO's layout. Objects of a class that touch each other become one, and an object behind
a pole becomes two: such objects are an approximation of instances. Components below --min_pixels are crowds, which
training and evaluation ignore.
"""

import argparse
import json
import pathlib
import shutil
import sys

import numpy as np
from PIL import Image

from keras_resnet.ops.masks import ObjectMask


def components(mask: np.ndarray) -> list[np.ndarray]:
    """Return the connected components of a mask bool[H,W], whose pixels share a side, as masks."""
    parents: list[int] = []
    runs: list[tuple[int, int, int]] = []  # row, first column, end

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = run = parents[parents[run]]
        return run

    above: list[int] = []
    for row, pixels in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], pixels, [False]]).astype(int)))
        below = []
        for start, end in edges.reshape(-1, 2).tolist():
            number = len(runs)
            runs.append((row, start, end))
            parents.append(number)
            below.append(number)
            for other in above:
                if runs[other][1] < end and start < runs[other][2]:
                    parents[root(number)] = root(other)
        above = below
    found: dict[int, np.ndarray] = {}
    for number, (row, start, end) in enumerate(runs):
        found.setdefault(root(number), np.zeros_like(mask))[row, start:end] = True
    return list(found.values())


def image_of(data: pathlib.Path, mask: pathlib.Path) -> pathlib.Path | None:
    """Return the image of a mask, which has its name with any ending."""
    folder = data / "images" / mask.parent.name
    return next((path for path in sorted(folder.glob("*")) if path.stem == mask.stem), None)


def split_content(data: pathlib.Path, split: str, classes: dict[str, int], min_pixels: int) -> dict[str, list]:
    """Return the content of an annotation file in COCO's format for a split."""
    images, annotations = [], []
    for path in sorted((data / "masks" / split).glob("*.png")):
        labels = np.asarray(Image.open(path))
        image = image_of(data, path)
        assert image is not None
        images.append({"id": len(images) + 1, "file_name": image.name, "height": len(labels), "width": len(labels[0])})
        for category, value in enumerate(classes.values(), start=1):
            for component in components(labels == value):
                mask = ObjectMask.of_pixels(component)
                top, left, bottom, right = mask.box()
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": len(images),
                        "category_id": category,
                        "bbox": [left, top, right - left, bottom - top],
                        "area": int(component.sum()),
                        "iscrowd": int(component.sum() < min_pixels),
                        "segmentation": mask.to_coco(),
                    }
                )
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def main(arguments: list[str] | None = None) -> int:
    """Write the data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--classes", default="car,pedestrian", help="names in classes.txt, separated by commas")
    parser.add_argument("--min_pixels", type=int, default=200)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder to create")
    options = parser.parse_args(arguments)
    for needed in ("classes.txt", "images", "masks"):
        if not (options.data / needed).exists():
            parser.error(f"--data must have classes.txt, images/ and masks/; {str(options.data)!r} has no {needed}")
    folders = sorted(path for path in (options.data / "masks").iterdir() if path.is_dir())
    if not folders:
        parser.error(f"--data must have a folder for each split in masks/; {str(options.data / 'masks')!r} has none")
    names = [line.strip() for line in (options.data / "classes.txt").read_text(encoding="utf-8").splitlines()]
    if unknown := [name for name in options.classes.split(",") if name not in names]:
        parser.error(f"--classes must be among {', '.join(names)}; got {unknown[0]!r}")
    if options.out.exists():
        parser.error(f"--out must be a folder that does not exist yet; {str(options.out)!r} does")
    for mask in (path for folder in folders for path in sorted(folder.glob("*.png"))):
        if image_of(options.data, mask) is None:
            parser.error(f"--data must have an image for each mask; there is none for {str(mask)!r}")
        if Image.open(mask).mode not in ("L", "P", "I;16"):
            parser.error(f"--data must have masks with a class number in each pixel; {str(mask)!r} has colors")
    classes = {name: names.index(name) for name in options.classes.split(",")}
    (options.out / "annotations").mkdir(parents=True)
    for folder in folders:
        content = split_content(options.data, folder.name, classes, options.min_pixels)
        shutil.copytree(options.data / "images" / folder.name, options.out / folder.name)
        file = options.out / "annotations" / f"instances_{folder.name}.json"
        file.write_text(json.dumps(content), encoding="utf-8")
        crowds = sum(entry["iscrowd"] for entry in content["annotations"])
        objects = len(content["annotations"]) - crowds
        print(f"{folder.name}: {len(content['images'])} images, {objects} objects, {crowds} crowds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
