"""Tables and figures of reports."""

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.data.dataset import Dataset, DatasetInfo, Files, Images, Stream
from keras_resnet.data.transforms import EvalTransform
from keras_resnet.evaluation import figures, metrics, report


@pytest.mark.parametrize("kind", ["images", "files", "stream"])
def test_images_at_indices(random, tmp_path, kind):
    """In the order of the indices for every kind of data set, and not normalized."""
    images = random.integers(0, 256, (6, 9, 9, 3)).astype("uint8")
    labels = np.zeros(6, "int64")
    contents = [tf.io.encode_png(image).numpy() for image in images]
    paths = [str(tmp_path / f"{number}.png") for number in range(6)]
    for path, content in zip(paths, contents, strict=True):
        tf.io.write_file(path, content)
    examples = {
        "images": Images(images, labels.astype("int32")),
        "files": Files(np.array(paths), labels.astype("int32")),
        "stream": Stream.of("test", [4, 2], lambda block, first: iter([(c, 0) for c in contents[4 * block + first :]])),
    }[kind]
    dataset = Dataset(DatasetInfo("some", ("a",), None, {"test": 6}), {"test": examples}.__getitem__)
    transform = EvalTransform((9, 9), (100.0,) * 3, (10.0,) * 3)
    np.testing.assert_array_equal(figures.read_images(dataset, "test", [4, 1, 5], transform), images[[4, 1, 5]])
    assert figures.read_images(dataset, "test", [], transform).shape == (0, 9, 9, 3)


def test_table():
    scores = np.eye(6)[[0, 1, 2, 3]]
    result = metrics.evaluate(lambda x: x, [(scores, np.array([0, 1, 2, 4]))], from_logits=True)
    lines = report.table([report.Row("net", "single", result)]).splitlines()
    # Wilson's interval of 1 in 4 by hand: (0.25 + z^2/8 -+ z sqrt(0.25 * 0.75 / 4 + z^2/64)) / (1 + z^2/4).
    assert lines[2].startswith("| net | single | 25.00 | 4.56-69.94 | 0.00 | 0.00-48.99 | ")
    assert lines[2].endswith(" | 4 |")
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")


def test_figures_of_a_perfect_network(tmp_path):
    """No mistakes, one bin, classes without images."""
    log_probabilities = np.log(np.eye(50)[[3, 7]] * 0.9 + 0.002)
    outcomes = metrics.Outcomes.of(np.array([3, 7]), log_probabilities)
    names = tuple(map(str, range(50)))
    images = Images(np.zeros((2, 8, 8, 3), "uint8"), np.array([3, 7], "int32"))
    dataset = Dataset(DatasetInfo("some", names, (8, 8), {"test": 2}), {"test": images}.__getitem__)
    figures.confusion_matrix(outcomes, names, tmp_path / "confusion.png")
    figures.reliability(outcomes, tmp_path / "reliability.png")
    transform = EvalTransform((8, 8), (0.0,) * 3, (1.0,) * 3)
    figures.mistakes(outcomes, dataset, "test", transform, names, tmp_path / "mistakes.png")
    assert {path.name for path in tmp_path.iterdir()} == {"confusion.png", "reliability.png", "mistakes.png"}
