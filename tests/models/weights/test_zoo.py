"""The weights that are part of this package: their cards, `results.csv` and what they predict."""

import csv

import numpy as np
import pytest

import keras_resnet
from keras_resnet import files
from keras_resnet.models import zoo
from keras_resnet.models.architectures import find
from keras_resnet.models.weights.info import CARD, WEIGHTS
from keras_resnet.paper import reproduction

with open(zoo.FOLDER / "results.csv", encoding="utf-8", newline="") as table:
    ROWS = list(csv.DictReader(table))


def test_results_list_every_folder():
    assert [f"{row['network']}_{row['weights']}" for row in ROWS] == [path.name for path in zoo.folders()]
    size = sum(path.stat().st_size for path in zoo.FOLDER.rglob("*") if path.is_file())
    assert size <= 20e6  # of the wheel


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['network']}_{row['weights']}")
def test_results_are_those_of_the_card_and_the_paper(row):
    info, network = keras_resnet.model_info(row["network"], row["weights"]), find(row["network"])
    stated = {"dataset": info.dataset, "steps": info.steps, "seed": info.seed, "top1_error": info.top1_error}
    assert {name: type(value)(row[name]) for name, value in stated.items()} == stated
    assert int(row["parameters"]) == network.parameters()
    assert int(row["multiply_adds"]) == network.multiply_adds()
    paper = dict(reproduction._TABLE_6) if info.dataset == "cifar10" else {}
    assert row["paper_top1_error"] == str(paper.get(row["network"], ""))
    for text in (info.command, info.commit, info.device, info.date):
        assert text
    folder = zoo.FOLDER / f"{row['network']}_{row['weights']}"
    assert info.digest == f"sha256:{files.digest(folder / WEIGHTS)}"
    assert f"{info.top1_error:.2f}" in (folder / "README.md").read_text(encoding="utf-8")
    assert (folder / CARD).is_file()


def test_cifar10_images_are_named(real_data):
    """Errors on JPEG copies are higher than on the original images, on which it has 8.37 %."""
    from keras_resnet.data import sources

    info = keras_resnet.model_info("resnet20", "cifar10")
    examples = sources.load("cifar10", data_dir=str(real_data / "tfds")).examples("test[:1000]")
    model = keras_resnet.ResNet20(weights="cifar10")
    scores = model.predict(keras_resnet.preprocess_input(examples.images, mode=info.normalization), verbose=0)
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-5)
    error = 100 * np.mean(scores.argmax(1) != examples.labels)
    assert error < 25
