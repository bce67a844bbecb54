"""Matching and sampling: Detectron2's published example, counts, and purity."""

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.detection.matching import gather_sampled, match, ranks, sample

VALID = np.array([[True, True, True]])


def test_example_of_detectron2():
    overlaps = tf.constant([[0.15, 0.45, 0.2, 0.6], [0.3, 0.65, 0.05, 0.1], [0.05, 0.4, 0.25, 0.4]])
    index, label = match(tf.transpose(overlaps)[None], VALID, (0.0, 0.3), 0.7, allow_low_quality=True)
    assert index.numpy().tolist() == [[1, 1, 2, 0]]
    assert label.numpy().tolist() == [[-1, 1, 0, 1]]


def test_without_the_best_ones_only_high_overlaps_are_positive():
    overlaps = tf.constant([[[0.4, 0.0, 0.0], [0.05, 0.0, 0.0], [0.5, 0.8, 0.0]]])
    index, label = match(overlaps, VALID, (0.1, 0.5), 0.5)
    assert label.numpy().tolist() == [[0, -1, 1]]
    assert index.numpy().tolist() == [[0, 0, 1]]


def test_padding_and_crowds_match_nothing():
    overlaps = tf.constant([[[0.9, 0.0], [0.9, 0.2]]])
    index, label = match(overlaps, tf.constant([[False, False]]), (0.0, 0.3), 0.7, allow_low_quality=True)
    assert label.numpy().tolist() == [[0, 0]]
    index, label = match(overlaps, tf.constant([[False, True]]), (0.0, 0.3), 0.7, allow_low_quality=True)
    assert label.numpy().tolist() == [[0, 1]]
    assert index.numpy()[0, 1] == 1


def test_ranks_are_a_permutation_with_candidates_first(random):
    candidates = random.random((3, 40)) < 0.5
    rank_of_each = np.asarray(ranks(tf.constant(candidates), tf.constant([[1, 2], [1, 3], [1, 2]])))
    for rank, chosen in zip(rank_of_each, candidates, strict=True):
        assert sorted(rank) == list(range(40))
        assert max(rank[chosen]) < chosen.sum()
    assert not np.array_equal(rank_of_each[0], rank_of_each[1])


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"), [(40, 500, (32, 32)), (3, 500, (3, 61)), (40, 10, (32, 10)), (0, 0, (0, 0))]
)
def test_counts(positives, negatives, expected):
    label = np.full((1, 600), -1, "int32")
    label[0, :positives] = 1
    label[0, 50 : 50 + negatives] = 0
    positive, negative = sample(tf.constant(label), 32, 64, tf.constant([[7, 8]]))
    assert (int(np.sum(positive)), int(np.sum(negative))) == expected
    assert (label[np.asarray(positive)] == 1).all()
    assert (label[np.asarray(negative)] == 0).all()
    index, chosen = gather_sampled(positive, negative, 64)
    assert index.shape == chosen.shape == (1, 64)
    taken = index.numpy()[0][chosen.numpy()[0]]
    assert sorted(taken) == sorted(np.flatnonzero(np.asarray(positive | negative)[0]))
    assert (label[0, taken[: expected[0]]] == 1).all()


def test_more_places_than_boxes():
    index, chosen = gather_sampled(tf.constant([[True, False]]), tf.constant([[False, True]]), 5)
    assert index.numpy().tolist() == [[0, 1, 0, 0, 0]]
    assert chosen.numpy().tolist() == [[True, True, False, False, False]]


def test_every_candidate_is_chosen_equally_often():
    label = tf.zeros([2000, 10], tf.int32)
    seeds = tf.stack([tf.range(2000), tf.zeros([2000], tf.int32)], -1)
    _, negative = tf.function(sample)(label, 2, 4, seeds)
    share = np.asarray(negative).mean(0)
    # Six standard deviations of a mean of 2,000 draws with probability 0.4.
    np.testing.assert_allclose(share, 0.4, atol=6 * np.sqrt(0.4 * 0.6 / 2000))
