"""Metrics compared with values worked out by hand and with scikit-learn."""

import json

import numpy as np
import pytest
from sklearn import metrics as reference

from keras_resnet.evaluation import metrics
from keras_resnet.evaluation.metrics import Outcomes, Result


def test_errors_by_hand():
    scores = np.float32([[9, 8, 7, 6, 5, 4], [9, 8, 7, 6, 5, 4], [9, 8, 7, 6, 5, 4], [1, 0, 0, 0, 0, 2]])
    labels = np.array([0, 4, 5, 5])  # first, fifth, sixth, first
    result = metrics.evaluate(lambda x: x, [(scores[:3], labels[:3]), (scores[3:], labels[3:])])
    assert (result.top1_error, result.top5_error, result.count) == (50.0, 25.0, 4)
    np.testing.assert_array_equal(result.outcomes.rank, [0, 4, 5, 0])
    np.testing.assert_array_equal(result.outcomes.predicted, [0, 0, 0, 5])


def test_equal_scores_are_ordered_as_argmax_does():
    """A network with the same score for every class is as bad as chance, not perfect."""
    result = metrics.evaluate(lambda x: np.zeros((len(x), 10)), [(np.zeros((10, 1)), np.arange(10))])
    assert (result.top1_error, result.top5_error) == (90.0, 50.0)


def test_not_a_number_is_wrong():
    scores = np.float32([[np.nan, 2], [1, np.nan], [1, 2]])
    result = metrics.evaluate(lambda x: scores, [(np.zeros((3, 1)), np.array([0, 0, 1]))])
    assert (result.top1_error, result.not_a_number) == (pytest.approx(100 * 2 / 3), 2)
    assert np.isnan(result.loss)
    assert json.loads(json.dumps(result.numbers(), allow_nan=False))["loss"] is None
    assert metrics.confusion(result.outcomes).tolist() == [[0, 0], [0, 1]]


def test_against_scikit_learn(random):
    logits = random.normal(size=(500, 8))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([random.choice(8, p=row) for row in probabilities])
    images = np.arange(500)[:, None]
    of_logits, of_probabilities = (
        metrics.evaluate(
            lambda x, table=table: table[x[:, 0]], [(images[:300], labels[:300]), (images[300:], labels[300:])]
        )
        for table in (logits, probabilities)
    )
    for result in (of_logits, of_probabilities):
        assert result.count == 500
        assert result.loss == pytest.approx(reference.log_loss(labels, probabilities))
        assert result.top1_error == pytest.approx(100 * (1 - reference.accuracy_score(labels, logits.argmax(1))))
        assert result.top5_error == pytest.approx(100 * (1 - reference.top_k_accuracy_score(labels, logits, k=5)))
        assert result.kappa == pytest.approx(reference.cohen_kappa_score(labels, logits.argmax(1)))
        assert result.macro_f1 == pytest.approx(reference.f1_score(labels, logits.argmax(1), average="macro"))
        matrix = metrics.confusion(result.outcomes)
        np.testing.assert_array_equal(matrix, reference.confusion_matrix(labels, logits.argmax(1)))
        errors, counts = metrics.class_errors(result.outcomes)
        recall = reference.recall_score(labels, logits.argmax(1), average=None)
        np.testing.assert_allclose(errors, 100 * (1 - recall))
        np.testing.assert_array_equal(counts, np.bincount(labels))
        label, predicted, images_of_pair = metrics.frequent_confusions(result.outcomes, 1)[0]
        assert images_of_pair == matrix[label, predicted] == (matrix - np.diag(np.diag(matrix))).max()


def test_wilson_interval_by_hand():
    # p = 0.1, n = 100, z = 1.959964: centre (p + z^2/2n) / (1 + z^2/n) = 0.11480, half width 0.05957.
    assert metrics.interval(10, 100) == pytest.approx((5.523, 17.437), abs=1e-3)
    assert metrics.interval(0, 50)[0] == 0


def test_calibration_by_hand():
    def outcome(confidence, right):
        label = np.array([0])
        return Outcomes(3, label, label, np.array([0 if right else 1]), np.array([confidence]), np.log([confidence]))

    outcomes = Outcomes.joined([outcome(0.95, True), outcome(0.95, False), outcome(0.40, True), outcome(1.0, True)])
    # Bin (14/15, 1]: three images, confidence 0.96667, accuracy 0.66667; bin (5/15, 6/15]: one, 0.40 and 1.
    bins = metrics.calibration(outcomes)
    assert bins.count[14] == 3
    assert bins.count[5] == 1
    assert Result.of(outcomes).calibration_error == pytest.approx(100 * (3 * 0.3 + 1 * 0.6) / 4)


def test_confident_mistakes_are_sorted_by_confidence():
    labels = np.array([0, 1, 0, 0])
    log_probabilities = np.log([[0.4, 0.6], [0.9, 0.1], [0.7, 0.3], [0.2, 0.8]])
    outcomes = Outcomes.of(labels, log_probabilities)
    assert metrics.confident_mistakes(outcomes, 2).tolist() == [1, 3]


@pytest.mark.parametrize(
    ("scores", "batches", "message"),
    [
        (lambda x: x, [], "at least one image"),
        (lambda x: np.zeros((len(x), 3)), [(np.zeros((2, 1)), np.array([[0], [1]]))], r"of shape \[B\]; got \[2, 1\]"),
        (lambda x: np.zeros((len(x), 3)), [(np.zeros((2, 1)), np.array([0, 3]))], "labels must be from 0 to 2"),
        (lambda x: np.zeros((1, 3)), [(np.zeros((2, 1)), np.array([0, 1]))], r"shape \[2,K\]; got \[1, 3\]"),
    ],
)
def test_bad_input(scores, batches, message):
    with pytest.raises(ValueError, match=message):
        metrics.evaluate(scores, batches)


def test_against_tensorflow_addons(random):
    addons = pytest.importorskip("tensorflow_addons", reason="tensorflow-addons is for TensorFlow 2.15; docs/stacks.md")
    logits, labels = random.normal(size=(200, 5)), random.integers(0, 5, 200)
    result = metrics.evaluate(lambda x: logits[x[:, 0]], [(np.arange(200)[:, None], labels)])
    kappa = addons.metrics.CohenKappa(num_classes=5, sparse_labels=True)
    kappa.update_state(labels, logits.argmax(1))
    f1 = addons.metrics.F1Score(num_classes=5, average="macro")
    f1.update_state(np.eye(5, dtype="float32")[labels], logits)
    assert result.kappa == pytest.approx(float(kappa.result()), abs=1e-6)
    assert result.macro_f1 == pytest.approx(float(f1.result()), abs=1e-6)


def test_one_class_only():
    """No agreement beyond chance is defined where chance is always right."""
    result = metrics.evaluate(lambda x: np.eye(3)[x[:, 0]], [(np.zeros((4, 1), int), np.zeros(4, int))])
    assert np.isnan(result.kappa)
    assert (result.numbers()["kappa"], result.macro_f1) == (None, 1.0)
