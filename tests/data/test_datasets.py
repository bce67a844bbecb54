"""Data sets by name."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from keras_resnet.data import datasets


def test_digits():
    dataset = datasets.load("digits")
    facts = dataset.facts
    assert facts.splits == {"train": 1198, "test": 599}
    assert facts.class_names == tuple("0123456789")
    images, labels = dataset.arrays("test")
    assert images.shape == (599, 32, 32, 3)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(labels, load_digits().target[2::3])
    # Enlarged four times: the mean over each 4x4 patch stays near the pixel it came from.
    small = images[..., 0].reshape(599, 8, 4, 8, 4).mean((2, 4)) / 255 * 16
    assert np.abs(small - load_digits().images[2::3]).mean() < 1.2
    train, _ = dataset.arrays("train")
    np.testing.assert_allclose(facts.mean, train.mean((0, 1, 2)))
    np.testing.assert_allclose(facts.std, train.std((0, 1, 2)))


def test_no_digit_is_in_both_splits():
    dataset = datasets.load("digits")
    train = {image.tobytes() for image in dataset.arrays("train")[0]}
    assert not any(image.tobytes() in train for image in dataset.arrays("test")[0])


def test_facts_round_trip():
    import dataclasses
    import json

    facts = datasets.load("digits").facts
    assert datasets.Facts.from_dict(json.loads(json.dumps(dataclasses.asdict(facts)))) == facts


def test_unknown_names_and_splits(tmp_path):
    with pytest.raises(ValueError, match="dataset must be 'digits' or a name of tensorflow-datasets; got 'nothing'"):
        datasets.load("nothing")
    with pytest.raises(ValueError, match=r"dataset 'cifar10' is not prepared in .*; set download, or data_dir"):
        datasets.load("cifar10", data_dir=str(tmp_path))
    with pytest.raises(ValueError, match="split must be one of 'train', 'test'; got 'validation'"):
        datasets.load("digits").arrays("validation")


def test_cifar10_of_tensorflow_datasets(real_data):
    dataset = datasets.load("cifar10", data_dir=str(real_data / "tfds"))
    assert dataset.facts.splits == {"train": 50_000, "test": 10_000}
    assert dataset.facts.class_names[:2] == ("airplane", "automobile")
    images, labels = dataset.arrays("test")
    assert images.shape == (10_000, 32, 32, 3)
    assert set(np.bincount(labels)) == {1000}
    # The stored statistics are those of the training split; the test split's are close.
    assert np.abs(images.mean((0, 1, 2)) - dataset.facts.mean).max() < 2
