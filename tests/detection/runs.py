"""A small data set and the configuration of a run on it, for tests that train."""

import json
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from keras_resnet.detection.config import DetectorConfig
from keras_resnet.ops.masks import ObjectMask
from tests.detection.data.folders import voc_folder
from tests.detection.scenes import scenes, shapes


def write_scenes(root: pathlib.Path) -> pathlib.Path:
    """Write six synthetic images in VOC's layout."""
    inputs = scenes(6, 0, (64, 96))
    content = {}
    for number, (boxes, labels) in enumerate(zip(inputs["boxes"], inputs["labels"], strict=True)):
        content[f"p{number}"] = [
            (("red", "blue")[label - 1], (int(left) + 1, int(top) + 1, int(right), int(bottom)), 0)
            for (top, left, bottom, right), label in zip(boxes, labels, strict=True)
            if label
        ]
    voc_folder(root, content, (64, 96), {"train": list(content), "val": ["p0", "p1"]})
    for number, image in enumerate(inputs["images"]):
        pixels = np.uint8(np.clip(image * 60 + 100, 0, 255))
        Image.fromarray(pixels).save(root / f"JPEGImages/p{number}.jpg", quality=95)
    return root


def write_shapes(root: pathlib.Path) -> pathlib.Path:
    """Write six synthetic images with masks in COCO's layout."""
    inputs = shapes(6, 0, (64, 96), most=2)
    pixels = np.uint8(np.clip(inputs["images"] * 60 + 100, 0, 255))
    drawn = np.unpackbits(inputs["masks"], axis=-1).astype(bool)
    (root / "annotations").mkdir(parents=True)
    for split, numbers in {"train": range(4), "val": range(4, 6)}.items():
        (root / split).mkdir()
        images, annotations = [], []
        for number in numbers:
            Image.fromarray(pixels[number]).save(root / split / f"s{number}.png")
            images.append({"id": number, "file_name": f"s{number}.png", "height": 64, "width": 96})
            rows = zip(inputs["boxes"][number].tolist(), inputs["labels"][number], drawn[number], strict=True)
            annotations += [
                {
                    "image_id": number,
                    "category_id": int(label),
                    "bbox": [left, top, right - left, bottom - top],
                    "segmentation": ObjectMask.of_pixels(mask).to_coco(),
                    "area": int(mask.sum()),
                }
                for (top, left, bottom, right), label, mask in rows
                if label
            ]
        categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    return root


def config(root: pathlib.Path | str, **options: Any) -> DetectorConfig:
    """Return the configuration of a run of four steps on the data set in `root`; requires the backbone "tiny"."""
    defaults: dict[str, Any] = {
        "dataset": f"folder:{root}",
        "train_split": "train",
        "eval_split": "val",
        "min_size": 64,
        "max_size": 96,
        "mean": (100.0,) * 3,
        "std": (60.0,) * 3,
        "backbone": "tiny",
        "anchor_scales": (32.0, 64.0),
        "straddle_thresh": -1.0,
        "min_proposal_size": 4.0,
        "pre_nms_topk_train": 100,
        "post_nms_topk_train": 20,
        "pre_nms_topk_test": 100,
        "post_nms_topk_test": 10,
        "roi_batch_size_per_image": 8,
        "roi_pooling": "align",
        "freeze_at": 0,
        "detections_per_image": 5,
        "steps": 4,
        "eval_steps": 2,
        "decay_steps": (),
    }
    return DetectorConfig(**{**defaults, **options})
