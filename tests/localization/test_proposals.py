"""Files of proposals, and their recall."""

import numpy as np
import pytest

from keras_resnet.errors import InputError
from keras_resnet.localization import proposals
from keras_resnet.localization.data.examples import Example
from keras_resnet.localization.run import LocalizerRun


def test_they_are_read_as_they_were_written(tmp_path):
    written = [np.arange(8, dtype="float32").reshape(2, 4), np.zeros((0, 4), "float32"), np.ones((1, 4), "float32")]
    proposals.save(tmp_path / "p.npz", written)
    for first, second in zip(written, proposals.read(tmp_path / "p.npz", 3), strict=True):
        np.testing.assert_array_equal(first, second)
    with pytest.raises(InputError, match="must have the proposals of 2 images; it has 3"):
        proposals.read(tmp_path / "p.npz", 2)
    (tmp_path / "p.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="cannot be read"):
        proposals.read(tmp_path / "p.npz", 3)


def test_recall_counts_images_with_a_proposal_that_overlaps_a_true_box():
    def example(*boxes):
        return Example("", 0, (100, 100), 0, np.array(boxes, "float64").reshape(-1, 4))

    found = [np.array([[0, 0, 10, 10], [50, 50, 60, 60]]), np.zeros((0, 4)), np.array([[0, 0, 10, 4]]), np.ones((1, 4))]
    examples = [example([50, 50, 60, 65]), example([0, 0, 9, 9]), example([0, 0, 10, 10]), example()]
    assert proposals.recall(found, examples) == pytest.approx(100 / 3)


def test_collected_are_those_of_the_true_class(trained_runs):
    run = LocalizerRun.open(trained_runs[1])
    examples = run.dataset().examples("train[:6]")
    again = proposals.collect(run.localizer(), examples, run.transform())
    for first, second in zip(proposals.read(run.proposals, 6), again, strict=True):
        np.testing.assert_array_equal(first, second)
        assert len(first) <= 6
        assert (first[:, 2:] > first[:, :2]).all()
