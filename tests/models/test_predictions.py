"""Decoded scores."""

import numpy as np
import pytest

from keras_resnet import decode_predictions
from keras_resnet.models.predictions import imagenet_classes


def test_imagenet_classes():
    classes = imagenet_classes()
    assert len(classes) == len({wnid for wnid, _ in classes}) == 1000
    assert classes[0] == ("n01440764", "tench")
    assert classes[207][1] == "golden retriever"
    assert classes[999][0] == "n15075141"


def test_best_first():
    scores = np.zeros((2, 1000), "float32")
    scores[0, [207, 0]] = 0.7, 0.2
    scores[1, 1] = 1.0
    (first, second), (third, _) = decode_predictions(scores, top=2)
    assert first == ("n02099601", "golden_retriever", pytest.approx(0.7))
    assert second == ("n01440764", "tench", pytest.approx(0.2))
    assert third[1] == "goldfish"


def test_own_labels():
    assert decode_predictions([[0.1, 0.9]], top=1, labels=["cat", "dog"]) == [[(1, "dog", 0.9)]]
    for scores in (np.uint8([[0, 255, 3]]), np.int8([[-128, 127, 3]])):  # as integer networks give them
        assert [name for _, name, _ in decode_predictions(scores, 3, "abc")[0]] == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("preds", "options", "message"),
    [
        (np.zeros((1, 10)), {}, r"preds must have shape \[B,1000\], one column for each label; got \[1, 10\]"),
        (np.zeros(2), {"labels": ["a", "b"]}, r"preds must have shape \[B,2\]"),
        (np.zeros((1, 2)), {"labels": ["a", "b"], "top": 2.0}, "top must be an integer of at least 1; got 2.0"),
        (np.zeros((1, 2)), {"labels": ["a", "b"], "top": 0}, "top must be an integer of at least 1; got 0"),
    ],
)
def test_bad_arguments(preds, options, message):
    with pytest.raises(ValueError, match=message):
        decode_predictions(preds, **options)
