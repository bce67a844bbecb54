"""Average precision: worked by hand, and beside COCO's own code."""

import numpy as np
import pytest

from keras_resnet.detection import evaluate as detection
from keras_resnet.detection.average_precision import Detections, GroundTruth, curves, mean
from keras_resnet.detection.data.annotations import Annotation


def found(*rows):
    """Rows of (top, left, bottom, right, score, label)."""
    rows = np.array(rows, "float32").reshape(-1, 6)
    return Detections(rows[:, :4], rows[:, 4], rows[:, 5].astype(int))


def truth(*rows, ignored=()):
    rows = np.array(rows, "float32").reshape(-1, 5)
    flags = np.isin(np.arange(len(rows)), ignored)
    return GroundTruth(rows[:, :4], rows[:, 4].astype(int), flags)


BOX, FAR = (0, 0, 10, 10), (50, 50, 60, 60)


def test_by_hand():
    # Of three boxes two are found: right, wrong, right.
    there = [truth((*BOX, 0), (*FAR, 0)), truth((*BOX, 0))]
    seen = [found((*BOX, 0.9, 0), (20, 20, 30, 30, 0.8, 0)), found((*BOX, 0.7, 0))]
    (curve,) = curves(seen, there, 1)
    np.testing.assert_allclose(curve.recall, [1 / 3, 1 / 3, 2 / 3])
    np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 3])
    assert curve.average() == pytest.approx(1 / 3 + 1 / 3 * 2 / 3)
    # Recalls 0 to 0.3 have precision 1, 0.4 to 0.6 have 2/3, 0.7 and on have none.
    assert curve.average(11) == pytest.approx((4 + 3 * 2 / 3) / 11)


def test_a_second_detection_of_a_box_is_wrong():
    (curve,) = curves([found((*BOX, 0.9, 0), (*BOX, 0.8, 0))], [truth((*BOX, 0))], 1)
    assert curve.precision.tolist() == [1, 0.5]


def test_difficult_boxes_count_neither_way():
    there = [truth((*BOX, 0), (*FAR, 0), ignored=[1])]
    (curve,) = curves([found((*FAR, 0.9, 0), (*FAR, 0.8, 0), (*BOX, 0.7, 0))], there, 1)
    assert (curve.expected, curve.average()) == (1, 1)


def test_an_overlap_of_exactly_the_threshold_is_enough():
    half = found((0, 0, 10, 5, 0.9, 0))
    assert curves([half], [truth((*BOX, 0))], 1)[0].average() == 1
    assert curves([half], [truth((*BOX, 0))], 1, overlap=0.51)[0].average() == 0


def test_classes_are_apart_and_one_without_boxes_is_no_number():
    averages = [curve.average() for curve in curves([found((*BOX, 0.9, 1))], [truth((*BOX, 0))], 3)]
    assert averages[0] == 0
    assert np.isnan(averages[1:]).all()
    assert mean(averages) == 0
    assert np.isnan(mean([float("nan")]))


def test_nothing_found_at_all():
    assert curves([found()], [truth((*BOX, 0))], 1)[0].average() == 0


@pytest.fixture
def scene(random):
    """Random boxes, and detections near them, at random, and missing."""
    pictures, seen = [], []
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
        seen.append(Detections(rows[order].astype("float32"), scores[order].astype("float32"), guess[order]))
        flags = np.zeros(count, bool)
        areas = np.prod(boxes[:, 2:] - boxes[:, :2], -1)
        crowd = flags.copy()
        pictures.append(Annotation("", number, (500, 500), boxes.astype("float32") / 500, labels, flags, crowd, areas))
    return seen, pictures


def test_voc_is_close_to_pycocotools(scene):
    pytest.importorskip("pycocotools")
    seen, pictures = scene
    ours = detection.voc(seen, pictures, "abc")
    theirs = detection.coco(seen, pictures, "abc")
    assert list(theirs) == list(detection.COCO_STATISTICS)
    # The area under the curve, beside the mean of 101 points of it.
    assert ours.mean() == pytest.approx(theirs["AP50"], abs=1)
    assert 0 < theirs["AP"] < theirs["AP50"] < 100


def test_without_detections_pycocotools_says_zero_where_there_are_boxes(scene):
    pytest.importorskip("pycocotools")
    _, pictures = scene
    pictures = [picture for picture in pictures if min(picture.areas) > 32**2]
    values = detection.coco([found()] * len(pictures), pictures, "abc")
    assert values["AP"] == values["AR_100"] == values["AP_large"] == 0
    assert np.isnan(values["AP_small"])


def test_pycocotools_sees_what_it_would_see_in_files(scene, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    import contextlib
    import io
    import json

    from pycocotools.cocoeval import COCOeval

    seen, pictures = scene
    annotations = []
    for picture in pictures:
        for (top, left, bottom, right), label in zip(picture.boxes * 500.0, picture.labels, strict=True):
            side = {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
            side = {key: np.asarray(value, float).tolist() for key, value in side.items()}
            row = {"id": len(annotations) + 1, "image_id": picture.id, "category_id": int(label) + 1, "iscrowd": 0}
            annotations.append(row | side)
    images = [{"id": picture.id} for picture in pictures]
    categories = [{"id": number} for number in (1, 2, 3)]
    file = tmp_path / "truth.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories, "info": {}}))
    with contextlib.redirect_stdout(io.StringIO()):
        own = coco.COCO(str(file))
        results = detection.results_list(seen, [picture.id for picture in pictures], (1, 2, 3))
        evaluation = COCOeval(own, own.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ours = list(detection.coco(seen, pictures, "abc").values())
    np.testing.assert_allclose(ours, [100 * v if v >= 0 else np.nan for v in evaluation.stats], atol=1e-3)


def test_table_curves_and_pictures(scene, tmp_path, random):
    from PIL import Image

    seen, pictures = scene
    result = detection.voc(seen, pictures, ("a", "b", "c"))
    table = result.table().splitlines()
    assert len(table) == 6
    assert table[-1].startswith("| mean |")
    detection.plot(result, tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").size[0] > 300
    pixels = np.zeros((100, 100, 3), "uint8")
    drawn = np.asarray(detection.draw(pixels, found((10, 20, 60, 70, 0.9, 0), (80, 80, 90, 90, 0.1, 1)), "ab"))
    assert drawn[10:60, 20].any(-1).all()
    assert not drawn[82:95, 75:95].any()
