"""Synthetic images with boxes, red and blue rectangles on noise, and a detector that is small enough for tests."""

import numpy as np

from keras_resnet.detection import masks
from keras_resnet.detection.faster_rcnn import faster_rcnn
from keras_resnet.models.architectures import Architecture, Stage

# At least 16 filters: with 8, the weight gradient of a strided 1x1 convolution (`Conv2DBackpropFilter`) on maps of 8x12
# cells corrupts the heap in TensorFlow 2.21 with oneDNN on AVX-512.
STAGES = (Stage(16, 1, 1), Stage(32, 1, 2), Stage(64, 1, 2), Stage(64, 1, 2))
TINY = Architecture("Tiny", 10, "imagenet", "basic", STAGES, "B", 128, 2)
OPTIONS = {
    "anchor_scales": (32.0, 64.0),
    "straddle_thresh": -1.0,
    "min_proposal_size": 4.0,
    "rpn_filters": 64,
    "pre_nms_topk_train": 500,
    "post_nms_topk_train": 100,
    "pre_nms_topk_test": 300,
    "post_nms_topk_test": 50,
    "roi_batch_size_per_image": 32,
    "positive_fraction": 0.5,
    "roi_pooling": "align",
    "freeze_at": 0,
    "detections_per_image": 20,
    "policy": "float32",
}


def tiny(**options):
    return faster_rcnn(TINY, 2, **{**OPTIONS, **options})


def scenes(count, seed, size=(128, 128), most=3):
    """Return the inputs of a training step: `count` images with 1 to `most` rectangles each."""
    random = np.random.default_rng(seed)
    images = random.normal(0, 0.2, (count, *size, 3)).astype("float32")
    boxes, labels = np.zeros((count, 4, 4), "float32"), np.zeros((count, 4), "int32")
    for image in range(count):
        for number in range(random.integers(1, most + 1)):
            height, width = random.integers(24, 64, 2)
            top, left = random.integers(0, size[0] - height), random.integers(0, size[1] - width)
            label = random.integers(1, 3)
            images[image, top : top + height, left : left + width] = [[2, -1, -1], [-1, -1, 2]][label - 1]
            boxes[image, number] = top, left, top + height, left + width
            labels[image, number] = label
    return {
        "images": images,
        "image_size": np.full((count, 2), size, "float32"),
        "boxes": boxes,
        "labels": labels,
        "crowd": np.zeros((count, 4), "int32"),
        "seed": random.integers(0, 1000, (count, 2)).astype("int32"),
    }


def shapes(count, seed, size=(128, 128), most=3):
    """Return the inputs of a training step of masks: red ellipses and blue triangles, some partly behind others.

    A box surrounds the visible pixels of its shape, of which there are at least 150.
    """
    random = np.random.default_rng(seed)
    images = random.normal(0, 0.2, (count, *size, 3)).astype("float32")
    boxes, labels = np.zeros((count, most, 4), "float32"), np.zeros((count, most), "int32")
    visible = np.zeros((count, most, *size), bool)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    for image in range(count):
        for number in range(random.integers(2, most + 1)):
            center, radius = random.uniform(30, np.array(size) - 30), random.uniform(16, 28, 2)
            v, u = ((side - middle) / r for side, middle, r in zip((y, x), center, radius, strict=True))
            label = random.integers(1, 3)
            shape = v**2 + u**2 <= 1 if label == 1 else (v <= 1) & (v >= 2 * np.abs(u) - 1)
            hidden = visible[image] & ~shape
            if (hidden[:number].sum((1, 2)) < 150).any():
                continue  # it would hide another one
            visible[image, :number], visible[image, number] = hidden[:number], shape
            images[image][shape] = [[2, -1, -1], [-1, -1, 2]][label - 1]
            labels[image, number] = label
        for number in np.flatnonzero(labels[image]):
            rows, columns = (np.flatnonzero(visible[image, number].any(axis)) for axis in (1, 0))
            boxes[image, number] = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    return {
        "images": images,
        "image_size": np.full((count, 2), size, "float32"),
        "boxes": boxes,
        "labels": labels,
        "crowd": np.zeros((count, most), "int32"),
        "seed": random.integers(0, 1000, (count, 2)).astype("int32"),
        "masks": masks.packed(visible),
    }


def shown(inputs):
    """Return the part of a training batch that the detector gets in testing."""
    return {name: inputs[name] for name in ("images", "image_size")}


def assert_same(first, second, tolerance=1e-4):
    """Assert that two outputs of a detector are the same."""
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(first[name], second[name], atol=tolerance, rtol=tolerance, err_msg=name)
