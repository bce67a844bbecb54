"""Drawn images: tight boxes, every class, and the same files in every process."""

import numpy as np
import pytest
from PIL import Image

from keras_resnet import files
from keras_resnet.localization.data import sources, synthetic


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(synthetic, "SPLITS", {"train": 10, "val": 4})
    return sources.load("synthetic:32x48x5")


def test_examples(dataset, tmp_path):
    examples = dataset.examples("train") + dataset.examples("val")
    assert dataset.info.class_names == synthetic.SHAPES
    assert [example.label for example in examples[:10]] == [0, 1, 2, 3, 4] * 2
    for example in examples:
        pixels = np.asarray(Image.open(example.path))
        assert example.path.startswith(str(tmp_path))
        assert pixels.shape == (32, 48, 3)
        (top, left, bottom, right), *others = example.boxes.astype(int)
        assert not others
        assert 0 <= top < bottom <= 32
        assert 0 <= left < right <= 48
        color = pixels[top:bottom, left:right].reshape(-1, 3)
        values, counts = np.unique(color, axis=0, return_counts=True)
        shape = (pixels == values[counts.argmax()]).all(-1)
        rows, columns = np.flatnonzero(shape.any(1)), np.flatnonzero(shape.any(0))
        assert (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1) == (top, left, bottom, right)


def test_files_are_written_once(dataset):
    first = dataset.examples("val")
    times = [Image.open(example.path).tobytes() for example in first]
    again = sources.load("synthetic:32x48x5").examples("val")
    assert [example.path for example in again] == [example.path for example in first]
    assert [Image.open(example.path).tobytes() for example in again] == times
    np.testing.assert_array_equal(again[0].boxes, first[0].boxes)


def test_more_classes_than_shapes():
    labels = {synthetic.scene("train", number, (32, 32), 12)[1] for number in range(12)}
    assert labels == set(range(12))
    assert synthetic.class_name(11) == "square 2"
