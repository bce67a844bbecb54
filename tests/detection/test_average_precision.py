"""Average precision: worked by hand, and compared with COCO's own code."""

import numpy as np
import pytest

from keras_resnet.detection import evaluate as detection
from keras_resnet.detection.average_precision import Detections, GroundTruth, curves, mean
from keras_resnet.detection.data.annotations import Annotation


def detections(*rows):
    """Rows of (top, left, bottom, right, score, label)."""
    rows = np.array(rows, "float32").reshape(-1, 6)
    return Detections(rows[:, :4], rows[:, 4], rows[:, 5].astype(int))


def truth(*rows, ignored=()):
    rows = np.array(rows, "float32").reshape(-1, 5)
    flags = np.isin(np.arange(len(rows)), ignored)
    return GroundTruth(rows[:, :4], rows[:, 4].astype(int), flags)


BOX, FAR = (0, 0, 10, 10), (50, 50, 60, 60)


def test_by_hand():
    # Two of three boxes are found; the detections are right, wrong, right.
    expected = [truth((*BOX, 0), (*FAR, 0)), truth((*BOX, 0))]
    detected = [detections((*BOX, 0.9, 0), (20, 20, 30, 30, 0.8, 0)), detections((*BOX, 0.7, 0))]
    (curve,) = curves(detected, expected, 1)
    np.testing.assert_allclose(curve.recall, [1 / 3, 1 / 3, 2 / 3])
    np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 3])
    assert curve.average() == pytest.approx(1 / 3 + 1 / 3 * 2 / 3)
    # Recalls 0 to 0.3 have precision 1, 0.4 to 0.6 have 2/3, 0.7 and on have none.
    assert curve.average(11) == pytest.approx((4 + 3 * 2 / 3) / 11)


def test_a_second_detection_of_a_box_is_wrong():
    (curve,) = curves([detections((*BOX, 0.9, 0), (*BOX, 0.8, 0))], [truth((*BOX, 0))], 1)
    assert curve.precision.tolist() == [1, 0.5]


def test_difficult_boxes_count_neither_way():
    expected = [truth((*BOX, 0), (*FAR, 0), ignored=[1])]
    (curve,) = curves([detections((*FAR, 0.9, 0), (*FAR, 0.8, 0), (*BOX, 0.7, 0))], expected, 1)
    assert (curve.expected, curve.average()) == (1, 1)


def test_an_overlap_of_exactly_the_threshold_is_enough():
    half = detections((0, 0, 10, 5, 0.9, 0))
    assert curves([half], [truth((*BOX, 0))], 1)[0].average() == 1
    assert curves([half], [truth((*BOX, 0))], 1, iou_thresh=0.51)[0].average() == 0


def test_classes_are_separate_and_the_average_of_one_without_boxes_is_nan():
    averages = [curve.average() for curve in curves([detections((*BOX, 0.9, 1))], [truth((*BOX, 0))], 3)]
    assert averages[0] == 0
    assert np.isnan(averages[1:]).all()
    assert mean(averages) == 0
    assert np.isnan(mean([float("nan")]))


def test_nothing_found_at_all():
    assert curves([detections()], [truth((*BOX, 0))], 1)[0].average() == 0


@pytest.fixture
def scene(random):
    """Random boxes, and detections near them, at random, and missing."""
    annotations, detected = [], []
    for number in range(30):
        count = random.integers(1, 8)
        corner = random.uniform(0, 300, (count, 2))
        boxes = np.concatenate([corner, corner + random.uniform(20, 150, (count, 2))], -1)
        labels = random.integers(0, 3, count)
        near = boxes[random.random(count) < 0.8]
        near = near + random.normal(0, 6, near.shape)
        extra = random.uniform(0, 250, (3, 2))
        rows = np.concatenate([near, np.concatenate([extra, extra + 50], -1)])
        guess = np.concatenate([labels[: len(near)], random.integers(0, 3, 3)])
        order = np.argsort(-(scores := random.random(len(rows))))
        detected.append(Detections(rows[order].astype("float32"), scores[order].astype("float32"), guess[order]))
        flags = np.zeros(count, bool)
        areas = np.prod(boxes[:, 2:] - boxes[:, :2], -1)
        crowd = flags.copy()
        annotations.append(Annotation("", number, (500, 500), boxes, labels, flags, crowd, areas))
    return detected, annotations


def test_voc_is_close_to_pycocotools(scene):
    pytest.importorskip("pycocotools")
    detected, annotations = scene
    ours = detection.voc(detected, annotations, "abc")
    theirs = detection.coco(detected, annotations, "abc")
    assert list(theirs) == list(detection.COCO_STATISTICS)
    # Ours is the area under the curve, COCO's the mean of 101 points of it.
    assert ours.mean() == pytest.approx(theirs["AP50"], abs=1)
    assert 0 < theirs["AP"] < theirs["AP50"] < 100


def test_without_detections_pycocotools_reports_zero_for_sizes_with_boxes(scene):
    pytest.importorskip("pycocotools")
    _, annotations = scene
    annotations = [annotation for annotation in annotations if min(annotation.areas) > 32**2]
    values = detection.coco([detections()] * len(annotations), annotations, "abc")
    assert values["AP"] == values["AR_100"] == values["AP_large"] == 0
    assert np.isnan(values["AP_small"])


def test_pycocotools_sees_what_it_would_see_in_files(scene, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    import contextlib
    import io
    import json

    from pycocotools.cocoeval import COCOeval

    detected, annotations = scene
    entries = []
    for annotation in annotations:
        for (top, left, bottom, right), label in zip(annotation.boxes, annotation.labels, strict=True):
            side = {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
            side = {key: np.asarray(value, float).tolist() for key, value in side.items()}
            row = {"id": len(entries) + 1, "image_id": annotation.id, "category_id": int(label) + 1, "iscrowd": 0}
            entries.append(row | side)
    images = [{"id": annotation.id} for annotation in annotations]
    categories = [{"id": number} for number in (1, 2, 3)]
    file = tmp_path / "truth.json"
    file.write_text(json.dumps({"images": images, "annotations": entries, "categories": categories, "info": {}}))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO(str(file))
        results = detection.results_list(detected, [annotation.id for annotation in annotations], (1, 2, 3))
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ours = list(detection.coco(detected, annotations, "abc").values())
    np.testing.assert_allclose(ours, [100 * v if v >= 0 else np.nan for v in evaluation.stats], atol=1e-3)


def test_table_curves_and_drawings(scene, tmp_path, random):
    from PIL import Image

    detected, annotations = scene
    result = detection.voc(detected, annotations, ("a", "b", "c"))
    table = result.table().splitlines()
    assert len(table) == 6
    assert table[-1].startswith("| mean |")
    detection.plot(result, tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").size[0] > 300
    pixels = np.zeros((100, 100, 3), "uint8")
    drawn = np.asarray(detection.draw(pixels, detections((10, 20, 60, 70, 0.9, 0), (80, 80, 90, 90, 0.1, 1)), "ab"))
    assert drawn[10:60, 20].any(-1).all()
    assert not drawn[82:95, 75:95].any()
