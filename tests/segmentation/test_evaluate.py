"""The evaluation of a split and its report."""

import csv
import itertools
import json

import numpy as np
import pytest
from PIL import Image

from keras_resnet.errors import InputError
from keras_resnet.segmentation import evaluate, inference, metrics
from tests.segmentation.nets import Transform, normalized, striped, tiny

NAMES = ("red", "green", "blue")
PALETTE = np.uint8([[255, 0, 0], [0, 255, 0], [0, 0, 255]])


@pytest.fixture(scope="module")
def images():
    return striped(9)


def batches(images, labels, size):
    """The batches of a split, as the data's pipeline yields them."""
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        yield np.arange(len(images))[part], normalized(images[part]), labels[part]


def test_the_same_numbers_for_any_batch_size(images):
    """Equal to one confusion matrix of all pixels."""
    predict = inference.predictor(tiny())
    evaluations = [evaluate.evaluate(predict, batches(*images, size), NAMES, Transform) for size in (1, 7)]
    predictions = predict(normalized(images[0])).argmax(-1)
    expected = metrics.confusion_matrix(images[1], predictions, 3)
    for evaluation in evaluations:
        np.testing.assert_array_equal(evaluation.result.confusion, expected)
        assert evaluation.result.images == 9
    np.testing.assert_array_equal(evaluations[0].image_ious, evaluations[1].image_ious)


def test_the_same_numbers_on_two_replicas(images, two_replicas):
    one = evaluate.evaluate(inference.predictor(tiny()), batches(*images, 4), NAMES, Transform)
    with two_replicas.scope():
        model = tiny()
    predict = inference.predictor(model, strategy=two_replicas)
    two = evaluate.evaluate(predict, batches(*images, 5), NAMES, Transform)
    np.testing.assert_array_equal(two.result.confusion, one.result.confusion)


def wrong_in(*rows):
    """A function that predicts the brightest channel, but the next class in the first rows of each image in turn."""
    remaining = itertools.cycle(rows)

    def predict(images):
        probabilities = np.eye(3)[images.argmax(-1)]
        for image, wrong in zip(probabilities, remaining, strict=False):
            image[:wrong] = image[:wrong, :, [1, 2, 0]]
        return probabilities

    return predict


def test_worst_images_first(images):
    predict = wrong_in(5, 40, 2, 30, 2, 2, 2, 2, 2)
    evaluation = evaluate.evaluate(predict, batches(*images, 1), NAMES, Transform, samples=3)
    assert [sample.index for sample in evaluation.worst] == [1, 3, 0]
    scores = [sample.mean_iou for sample in evaluation.worst]
    assert scores == sorted(scores) == [evaluation.image_ious[index] for index in (1, 3, 0)]
    worst = evaluation.worst[0]
    np.testing.assert_array_equal(worst.pixels, images[0][1])  # restored to the byte
    np.testing.assert_array_equal(worst.labels, images[1][1])
    assert evaluation.image_ious[2] == 100  # its wrong rows are ignored


def test_report(images, tmp_path):
    evaluation = evaluate.evaluate(wrong_in(20), batches(*images, 4), NAMES, Transform, samples=2)
    names = [f"city/{number}" for number in range(9)]
    evaluate.write(tmp_path / "out", evaluation, names, PALETTE, {"split": "val"})
    values = json.loads((tmp_path / "out/results.json").read_text())
    assert values["split"] == "val"
    assert values["mean_iou"] == pytest.approx(evaluation.result.mean_iou)
    assert values["images"] == 9
    with open(tmp_path / "out/images.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["image", "mean_iou"]
    assert [row[0] for row in rows[1:]] == names
    text = (tmp_path / "out/results.md").read_text()
    found = sorted(path.name for path in (tmp_path / "out/pictures").iterdir())
    assert len(found) == 2
    assert all(f"pictures/{name}" in text for name in found)
    picture = np.asarray(Image.open(tmp_path / "out/pictures" / found[0]))
    assert picture.shape == (48, 4 * 64 + 3 * 4, 3)
    assert (tmp_path / "out/legend.png").stat().st_size > 0
    assert (tmp_path / "out/confusion.png").stat().st_size > 0
    with pytest.raises(InputError, match="out must be a folder that does not exist yet"):
        evaluate.write(tmp_path / "out", evaluation, names, PALETTE, {})


def test_images_without_labels_have_no_score(images):
    labels = np.full_like(images[1], 255)
    labels[0] = images[1][0]
    evaluation = evaluate.evaluate(wrong_in(0), batches(images[0], labels, 3), NAMES, Transform)
    assert np.isnan(evaluation.image_ious).sum() == 8
    assert [sample.index for sample in evaluation.worst] == [0]
    assert evaluation.result.mean_iou == 100


def test_wrong_splits(images):
    with pytest.raises(InputError, match="the split must have at least one image"):
        evaluate.evaluate(wrong_in(0), [], NAMES, Transform)
    with pytest.raises(InputError, match="the network must have the 4 classes of the data; it has 3"):
        evaluate.evaluate(wrong_in(0), batches(*images, 1), (*NAMES, "x"), Transform)
