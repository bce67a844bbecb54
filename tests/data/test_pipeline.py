"""Batches."""

import itertools

import numpy as np
import pytest

from keras_resnet.data import datasets, pipeline


def batches(count, **options):
    dataset = datasets.load("digits")
    return [(x.numpy(), y.numpy()) for x, y in itertools.islice(pipeline.train(dataset, 100, **options), count)]


def test_training_batches():
    for images, labels in batches(3):
        assert images.shape == (100, 32, 32, 3)
        assert images.dtype == np.float32
        assert labels.shape == (100,)
        assert labels.dtype == np.int32


def test_same_seed_same_batches():
    one, two, other = batches(15, seed=1), batches(15, seed=1), batches(15, seed=2)
    assert all(np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) for a, b in zip(one, two, strict=True))
    assert not np.array_equal(one[0][1], other[0][1])


def test_without_augmentation_an_epoch_is_the_split():
    dataset = datasets.load("digits")
    images, _ = dataset.arrays("train")
    normal = (images - np.float32(dataset.facts.mean)) / np.float32(dataset.facts.std)
    seen = np.concatenate([x for x, _ in batches(11, pad=0, mirror=False)])
    keys = {image.tobytes() for image in normal.round(3)}
    found = {image.tobytes() for image in seen.round(3)}
    assert len(found) == 1100
    assert len(found & keys) > 1080  # all but what rounding parts


def test_evaluation_sees_each_image_once():
    dataset = datasets.load("digits")
    labels = dataset.arrays("test")[1]
    for size in (1, 100, 599, 1000):
        seen = [y.numpy() for _, y in pipeline.evaluate(dataset, size)]
        np.testing.assert_array_equal(np.concatenate(seen), labels)


def test_batch_size_is_checked():
    with pytest.raises(ValueError, match="batch_size must be from 1 to the 1198 images of 'train'; got 1199"):
        pipeline.train(datasets.load("digits"), 1199)
