"""The options of an evaluation, and which transform and split it uses."""

import dataclasses
import pathlib
import subprocess
import sys

import pytest

from keras_resnet.classification import evaluate
from keras_resnet.classification.config import ClassifierConfig
from keras_resnet.classification.eval_config import EvalConfig
from keras_resnet.classification.run import ClassifierRun
from keras_resnet.data.dataset import Dataset, DatasetInfo


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": ()}, "views must name at least one view; got none"),
        (
            {"views": ("single", "all")},
            "views must be one of 'single', 'ten_crop', 'multi_scale'; got 'all'",
        ),
        ({"average": "votes"}, "average must be one of 'probabilities', 'logits'; got 'votes'"),
        ({"resize": 0}, "resize must be at least 1; got 0"),
        ({"recalibrate": -1}, "recalibrate must be 0 or more; got -1"),
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
    ],
)
def test_invalid_options(options, message):
    with pytest.raises(ValueError, match=message):
        EvalConfig(**options)


def test_options_are_read_without_tensorflow():
    command = "import sys, keras_resnet.classification.eval_config; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command]).returncode == 0


def dataset(*splits, image_size=None):
    return Dataset(DatasetInfo("images", ("a", "b"), image_size, dict.fromkeys(splits, 1)), lambda split: None)


def test_the_default_split():
    assert evaluate.default_split(dataset("train", "val", "test")) == "test"
    assert evaluate.default_split(dataset("train", "val")) == "val"
    with pytest.raises(ValueError, match="split must be given for a data set without test or validation: one of train"):
        evaluate.default_split(dataset("train"))
    config = ClassifierConfig(train_split="train[:80%]", eval_split="train[80%:]")
    run = ClassifierRun(pathlib.Path("run"), config, dataset("train").info)
    assert evaluate.default_split(dataset("train"), [run]) == "train[80%:]"
    assert evaluate.default_split(dataset("train", "test"), [run]) == "test"
    other = dataclasses.replace(run, dataset_info=dataclasses.replace(run.dataset_info, name="other images"))
    with pytest.raises(ValueError, match="split must be given"):
        evaluate.default_split(dataset("train"), [other])
    with pytest.raises(ValueError, match="dataset must be given if no run is evaluated"):
        evaluate.open_dataset([], None, None)


def test_the_transform_depends_on_the_size_of_the_images(tmp_path):
    info = DatasetInfo("small", ("a", "b"), (32, 32), {"test": 1}, (1.0,) * 3, (2.0,) * 3)
    run = ClassifierRun(tmp_path, ClassifierConfig(), info)
    assert evaluate.eval_transform(run, dataset("test", image_size=(32, 32))).resize == 0
    assert evaluate.eval_transform(run, dataset("test")).resize == 32
    assert evaluate.eval_transform(run, dataset("test"), 40).resize == 40


def test_recalibration_requires_a_run():
    with pytest.raises(ValueError, match="recalibrate requires a run"):
        evaluate._loader(object(), dataset("test"), 100)
