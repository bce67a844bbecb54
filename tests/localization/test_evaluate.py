"""The errors of a localizer over a split, with the true class given and with predicted classes."""

import numpy as np
import pytest

from keras_resnet.data.transforms import WholeImageTransform
from keras_resnet.errors import InputError
from keras_resnet.localization import evaluate
from keras_resnet.localization.data import sources

IDENTITY = WholeImageTransform((0.0,) * 3, (1.0,) * 3)


@pytest.fixture
def examples(cache):
    return sources.load("synthetic:64x64x3").examples("val[:4]")


def oracle(examples, wrong=()):
    """A localizer that knows the box of the true class, except of some images; other classes get a corner."""
    asked = []

    def localize(pixels, classes):
        example = examples[len(asked)]
        asked.append(classes.numpy().tolist())
        corner = np.array([0.0, 0.0, 2.0, 2.0])
        right = len(asked) - 1 not in wrong
        boxes = [example.boxes[0] if label == example.label and right else corner for label in asked[-1]]
        return np.array(boxes), np.linspace(0.9, 0.1, len(boxes))

    return localize, asked


def test_errors_and_the_classes_that_are_localized(examples):
    labels = [example.label for example in examples]
    others = [(label + 1) % 3 for label in labels]
    classes = np.array([[labels[0], others[0]], [others[1], labels[1]], [others[2], others[2]], [labels[3], others[3]]])
    localize, asked = oracle(examples, wrong=[3])
    evaluation = evaluate.evaluate(localize, examples, IDENTITY, classes)
    result = evaluation.error.result()
    assert result.true_class_error == 25.0
    assert result.localization_error == 50.0
    assert result.top1_localization_error == 75.0
    assert result.classification_error == 25.0
    assert result.top1_classification_error == 50.0
    assert [row[0] for row in asked] == labels
    assert asked[1] == [labels[1], others[1]]
    assert evaluation.predictions[0].box_of(labels[0]).tolist() == examples[0].boxes[0].tolist()


def test_the_box_at_the_center_is_the_baseline(examples):
    localize, _ = oracle(examples)
    evaluation = evaluate.evaluate(localize, examples, IDENTITY)
    assert evaluation.error.result().true_class_error == 0
    margin = 32 * (1 - 0.5**0.5)
    center = np.array([margin, margin, 64 - margin, 64 - margin])
    wrong = []
    for example in examples:
        box = example.boxes[0]
        sides = np.minimum(box[2:], center[2:]) - np.maximum(box[:2], center[:2])
        shared = np.prod(np.maximum(sides, 0))
        wrong.append(shared / (np.prod(box[2:] - box[:2]) + 2048 - shared) < 0.5)
    assert evaluation.baseline.result().true_class_error == pytest.approx(100 * np.mean(wrong))


def test_mistakes(examples):
    with pytest.raises(InputError, match="at least one image"):
        evaluate.evaluate(None, [], IDENTITY)
    with pytest.raises(InputError, match="got classes for 1 of 4"):
        evaluate.evaluate(None, examples, IDENTITY, np.zeros((1, 5), int))
