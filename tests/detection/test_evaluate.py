"""The numbers of detectors are those of the devkits: pycocotools, and PASCAL VOC's loop, rewritten here."""

import contextlib
import dataclasses
import io
import json
import math
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from keras_resnet.detection import evaluate
from keras_resnet.detection.average_precision import Detections
from keras_resnet.detection.data import sources
from keras_resnet.detection.data.annotations import Annotation
from keras_resnet.ops.masks import ObjectMask
from tests.detection.data.folders import voc_folder

NAMES = ("ape", "bee", "cat", "dog")
SIZE = (375, 500)
SCENES = 25
"""Data sets of each setting, of four images each."""

SETTINGS = (
    "whole numbers",
    "fractions",
    "equal scores",
    "overlaps of exactly a threshold",
    "overlaps of exactly a threshold of boxes between pixels",
    "crowds",
    "difficult objects and classes without any",
    "many detections and areas at the limits",
)


class Scene(NamedTuple):
    """An image: boxes as left, top, width, height, labels and flags of its objects, and what is detected."""

    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    difficult: np.ndarray
    areas: np.ndarray
    detections: Detections


def truth(random, setting):
    """Left, top, width and height of the objects of an image, and their labels."""
    count = 5 if setting == "whole numbers" else random.integers(0, 9)
    boxes = np.stack(
        [random.integers(0, 300, count), random.integers(0, 200, count), *random.integers(2, 10, (2, count)) * 20], -1
    ).astype("float64")
    if setting in ("fractions", "overlaps of nearly a threshold"):
        boxes += random.uniform(0, 1, boxes.shape).round(2)
    elif setting.endswith("between pixels"):
        boxes += random.integers(0, 8, boxes.shape) * [1 / 8, 1 / 8, 2.5, 2.5]
    labels = np.arange(count) % 2 if setting == "whole numbers" else random.integers(0, 3, count)
    return boxes, labels


def found(random, setting, boxes):
    """Boxes near those of the objects, duplicates among them, and others anywhere."""
    near = np.repeat(boxes, random.integers(0, 4, len(boxes)), axis=0)
    if "threshold" in setting:
        # Narrower by a multiple of a twentieth, the overlap is the ratio of the widths.
        near[:, 2] *= random.integers(8, 21, len(near)) / 20
    else:
        near += random.normal(0, 8, near.shape)
        near[:, 2:] = np.maximum(near[:, 2:], 4)
    count = 110 if setting.startswith("many") else 4
    other = np.stack([*random.uniform(0, 200, (2, count)), *random.uniform(5, 120, (2, count))], -1)
    near = np.concatenate([near, other])
    return near.round() if setting in ("whole numbers", "equal scores", "crowds") else near


def scene(random, setting):
    boxes, labels = truth(random, setting)
    near = found(random, setting, boxes)
    scores = random.random(len(near)).astype("float32")
    if setting == "equal scores":
        scores = np.float32(np.ceil(scores * 4) / 4)
    order = np.argsort(-scores, kind="stable")
    left, top, width, height = near[order].T
    guesses = random.integers(0, 4, len(near))
    closest = np.argmin(np.abs(near[:, None] - boxes[None]).sum(-1), 1) if len(boxes) else None
    if closest is not None:
        guesses = np.where(random.random(len(near)) < 0.8, labels[closest], guesses)
    limits = np.array([31.9**2, 32**2, 32**2 + 1e-5, 96**2, 96**2 + 1e-5, 5e4])
    areas = random.choice(limits, len(boxes)) if setting.startswith("many") else boxes[:, 2] * boxes[:, 3]
    return Scene(
        boxes,
        labels,
        crowd=random.random(len(boxes)) < (0.3 if setting == "crowds" else 0),
        difficult=random.random(len(boxes)) < (0.4 if setting.startswith("difficult") else 0),
        areas=areas,
        detections=Detections(
            np.stack([top, left, top + height, left + width], -1), scores[order], guesses[order].astype("int32")
        ),
    )


def pycocotools_numbers(file, ids, scenes):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    results = [
        {"image_id": id, "category_id": int(label) + 1, "bbox": [left, top, right - left, bottom - top], "score": score}
        for id, scene in zip(ids, scenes, strict=True)
        for (top, left, bottom, right), score, label in zip(
            scene.detections.boxes.tolist(), scene.detections.scores.tolist(), scene.detections.labels, strict=True
        )
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(file))
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [100 * value if value >= 0 else math.nan for value in evaluation.stats]


def devkit_average_precision(scenes, label, minimum=0.5):
    """VOC's devkit: pixels are counted from 1 and the last is included; area under the curve, and 11 points."""
    objects, positives, results = [], 0, []
    for number, scene in enumerate(scenes):
        of_class = scene.labels == label
        left, top, width, height = scene.boxes[of_class].T
        flags = scene.difficult[of_class]
        objects.append(
            {
                "boxes": np.stack([left + 1, top + 1, left + width, top + height], -1),
                "difficult": flags,
                "detected": [False] * len(flags),
            }
        )
        positives += int(np.sum(~flags))
        for box, score, guess in zip(*scene.detections[:3], strict=True):
            if guess == label:
                results.append((float(score), number, (box[1] + 1, box[0] + 1, box[3], box[2])))
    right, wrong = [], []
    for _, number, box in sorted(results, key=lambda result: -result[0]):
        best, best_overlap = -1, -math.inf
        for index, other in enumerate(objects[number]["boxes"]):
            width = min(box[2], other[2]) - max(box[0], other[0]) + 1
            height = min(box[3], other[3]) - max(box[1], other[1]) + 1
            if width > 0 and height > 0:
                union = (box[2] - box[0] + 1) * (box[3] - box[1] + 1) - width * height
                union += (other[2] - other[0] + 1) * (other[3] - other[1] + 1)
                if width * height / union > best_overlap:
                    best, best_overlap = index, width * height / union
        hit = best_overlap >= minimum
        ignored = hit and objects[number]["difficult"][best]
        taken = hit and objects[number]["detected"][best]
        right.append(hit and not ignored and not taken)
        wrong.append(not hit or (not ignored and taken))
        if hit and not ignored:
            objects[number]["detected"][best] = True
    if not positives:
        return math.nan, math.nan
    right, wrong = np.cumsum(right), np.cumsum(wrong)
    recall, precision = right / positives, right / np.maximum(right + wrong, 1)
    eleven = [max(precision[recall >= point], default=0.0) for point in np.arange(0.0, 1.1, 0.1)]
    recalls, envelope = np.array([0.0, *recall, 1.0]), np.array([0.0, *precision, 0.0])
    for index in range(len(envelope) - 2, -1, -1):
        envelope[index] = max(envelope[index], envelope[index + 1])
    steps = np.where(recalls[1:] != recalls[:-1])[0] + 1
    return 100 * np.sum((recalls[steps] - recalls[steps - 1]) * envelope[steps]), 100 * np.mean(eleven)


def coco_difference(root, random, scenes):
    ids = random.permutation(100)[: len(scenes)].tolist()  # in another order than the images
    annotations = [
        {
            "id": 0,
            "image_id": id,
            "category_id": int(label) + 1,
            "bbox": box.tolist(),
            "area": float(area),
            "iscrowd": int(crowd),
        }
        for id, scene in zip(ids, scenes, strict=True)
        for box, label, area, crowd in zip(scene.boxes, scene.labels, scene.areas, scene.crowd, strict=True)
    ]
    for number, annotation in enumerate(annotations, start=1):  # pycocotools takes an id of 0 as no match
        annotation["id"] = number
    content = {
        "info": {},
        "images": [{"id": id, "file_name": f"{id}.png", "height": SIZE[0], "width": SIZE[1]} for id in ids],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(NAMES, start=1)],
    }
    (root / "annotations").mkdir(parents=True)
    (root / "val").mkdir()
    for id in ids:
        Image.new("1", SIZE[::-1]).save(root / f"val/{id}.png")
    file = root / "annotations/instances_val.json"
    file.write_text(json.dumps(content))
    dataset = sources.load(f"folder:{root}")
    ours = evaluate.coco([scene.detections for scene in scenes], dataset.annotations("val"), dataset.info.class_names)
    theirs = pycocotools_numbers(file, ids, scenes)
    np.testing.assert_array_equal(np.isnan(list(ours.values())), np.isnan(theirs))
    return np.nanmax(np.abs(np.subtract(list(ours.values()), theirs)), initial=0)


def voc_difference(root, scenes):
    content = {}
    for number, scene in enumerate(scenes):
        corners = np.concatenate([scene.boxes[:, :2] + 1, scene.boxes[:, :2] + scene.boxes[:, 2:]], -1).tolist()
        rows = zip(scene.labels, corners, scene.difficult, strict=True)
        content[f"a{number}"] = [(NAMES[label], corner, int(flag)) for label, corner, flag in rows]
    root = voc_folder(root, content, SIZE)
    annotations = sources.load(f"folder:{root}", class_names=NAMES).annotations("train")
    result = evaluate.voc([scene.detections for scene in scenes], annotations, NAMES)
    ours = np.stack([result.averages(), result.averages(11)], -1)
    theirs = np.array([devkit_average_precision(scenes, label) for label in range(len(NAMES))])
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    return np.nanmax(np.abs(ours - theirs), initial=0)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_numbers_are_those_of_the_devkits(setting, tmp_path):
    pytest.importorskip("pycocotools")
    random = np.random.default_rng(SETTINGS.index(setting))
    coco, voc = [], []
    for number in range(SCENES):
        scenes = [scene(random, setting) for _ in range(4)]
        if not any(len(scene.labels) for scene in scenes):
            continue
        coco.append(coco_difference(tmp_path / f"coco{number}", random, scenes))
        voc.append(voc_difference(tmp_path / f"voc{number}", scenes))
    assert len(coco) > SCENES / 2
    assert max(coco) <= 1e-6
    assert max(voc) <= 1e-9


def test_rounding_decides_overlaps_of_nearly_a_threshold_as_in_pycocotools(tmp_path):
    """The widths of the annotation file are used, not differences of its sides."""
    pytest.importorskip("pycocotools")
    random = np.random.default_rng(0)
    for number in range(SCENES):
        scenes = [scene(random, "overlaps of nearly a threshold") for _ in range(4)]
        assert coco_difference(tmp_path / str(number), random, scenes) <= 1e-6


def test_a_box_of_whole_numbers_overlaps_by_exactly_one_half(tmp_path, random):
    pytest.importorskip("pycocotools")
    found = Detections(np.array([[210, 376, 258, 480.0]]), np.float32([0.9]), np.int32([0]))
    one = Scene(
        np.array([[376, 210, 104, 96.0]]), np.array([0]), np.array([False]), np.array([False]), np.array([1.0]), found
    )
    assert coco_difference(tmp_path / "coco", random, [one]) == 0
    assert voc_difference(tmp_path / "voc", [one]) == 0
    annotations = sources.load(f"folder:{tmp_path / 'coco'}").annotations("val")
    assert evaluate.coco([found], annotations, NAMES)["AP50"] == pytest.approx(100)


def test_a_recall_of_three_tenths_is_below_its_point():
    """In double precision 3 * 0.1 is above 3 / 10, so the devkit's fourth point sees the fourth object at best."""
    boxes = np.array([[40.0 * number, 0, 30, 30] for number in range(10)])
    corners = np.stack([boxes[:, 1], boxes[:, 0], boxes[:, 1] + 30, boxes[:, 0] + 30], -1)
    wrong = np.array([[200, 200, 230, 230.0]])
    found = Detections(np.concatenate([corners[:3], wrong, corners[3:4]]), np.linspace(1, 0.5, 5), np.zeros(5, int))
    flags = np.zeros(10, bool)
    one = Scene(boxes, np.zeros(10, int), flags, flags, np.full(10, 900.0), found)
    _, eleven = devkit_average_precision([one], 0)
    assert eleven == pytest.approx(100 * (3 + 0.8 + 0.8) / 11)
    from keras_resnet.detection.average_precision import GroundTruth, curves

    (curve,) = curves([found], [GroundTruth(corners, np.zeros(10, int), flags)], 1)
    assert 100 * curve.average(11) == pytest.approx(eleven, abs=1e-9)


def rectangles(random, count, masks=True):
    """Objects that are rectangles of whole pixels in images of `SIZE`, and detections near them, with their masks."""
    annotations, detections = [], []
    for number in range(count):
        objects = random.integers(1, 5)
        corner = random.integers(0, 200, (objects, 2))
        boxes = np.concatenate([corner, corner + random.integers(5, 150, (objects, 2))], -1).astype("float64")
        near = (np.repeat(boxes, 2, 0) + random.integers(-8, 9, (2 * objects, 4))).clip(0)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 2)
        labels, flags = random.integers(0, 2, objects).astype("int32"), random.random((2, objects)) < 0.2
        areas = np.prod(boxes[:, 2:] - boxes[:, :2], -1)
        of_boxes, of_near = (tuple(ObjectMask.of_box(box, SIZE) for box in rows) for rows in (boxes, near))
        annotations.append(Annotation("", number, SIZE, boxes, labels, *flags, areas, masks=of_boxes))
        scores = np.sort(random.random(2 * objects).astype("float32"))[::-1]
        detections.append(Detections(near, scores, np.repeat(labels, 2), of_near))
    return detections, annotations


def test_the_numbers_of_rectangular_masks_are_those_of_boxes(random):
    """By both rules, crowds and difficult objects included: masks only differ from boxes in their shape."""
    pytest.importorskip("pycocotools")
    detections, annotations = rectangles(random, 12)
    boxes, masks = (evaluate.coco(detections, annotations, ("a", "b"), masks=masks) for masks in (False, True))
    assert 20 < boxes["AP"] < 90
    assert masks == pytest.approx(boxes, abs=1e-9)
    boxes, masks = (evaluate.voc(detections, annotations, ("a", "b"), masks=masks) for masks in (False, True))
    assert 20 < boxes.mean() < 99
    assert masks.averages() == pytest.approx(boxes.averages(), abs=1e-9)


def test_masks_decide_where_boxes_are_equal(random):
    """Masks that fill half of their boxes: each is half of the object, or all of it, and an object has no mask."""
    pytest.importorskip("pycocotools")
    box = np.float64([[10, 10, 50, 90]])
    flags, labels = np.zeros(1, bool), np.zeros(1, "int32")
    left, whole = (ObjectMask.of_box((10, 10, 50, right), SIZE) for right in (49, 90))
    annotation = Annotation("", 0, SIZE, box, labels, flags, flags, np.float64([3200]), masks=(whole,))
    for mask, expected in ((left, 0), (whole, 100)):
        found = [Detections(box, np.float32([0.9]), labels, (mask,))]
        assert evaluate.coco(found, [annotation], "a")["AP"] == pytest.approx(100)
        assert evaluate.coco(found, [annotation], "a", masks=True)["AP50"] == pytest.approx(expected)
        assert evaluate.voc(found, [annotation], "a", masks=True).mean() == pytest.approx(expected)
    other = dataclasses.replace(
        annotation,
        boxes=np.concatenate([box, box + 100]),
        labels=np.zeros(2, "int32"),
        difficult=np.zeros(2, bool),
        crowd=np.zeros(2, bool),
        areas=np.float64([3200, 3200]),
        masks=(whole, None),
    )
    assert evaluate.coco(found, [other], "a", masks=True)["AP50"] == pytest.approx(100)
    assert evaluate.voc(found, [other], "a", masks=True).mean() == pytest.approx(100)


def test_pictures_show_masks():
    pixels = np.full((*SIZE, 3), 100, "uint8")
    box = np.float64([[100, 100, 200, 300]])
    mask = ObjectMask.of_box((120, 120, 180, 280), SIZE)
    drawn = np.asarray(evaluate.draw(pixels, Detections(box, np.float32([0.9]), np.int32([0]), (mask,)), ("a",)))
    assert (drawn[121:179, 121:279] == drawn[150, 200]).all()
    assert tuple(drawn[120, 150]) == (230, 25, 75)
    assert not (drawn[110:118, 110:290] != 100).any()
    assert (drawn[150, 200] != 100).all()
