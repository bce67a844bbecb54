"""Run folders of version 0.1 still resume, evaluate and export; see tests/fixtures/README.md."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from keras_resnet.cli import main as cli
from keras_resnet.experiment import tasks
from keras_resnet.experiment.curves import read_metrics
from tests.conftest import KERAS_2

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures" / "v0_1"

pytestmark = pytest.mark.skipif(KERAS_2, reason="the checkpoints are of Keras 3")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the folders, and the cut-down networks that their runs have in the place of the real ones."""
    from keras_resnet.detection.config import BACKBONES
    from keras_resnet.models import resnet
    from keras_resnet.models.architectures import Architecture, Stage

    def one_block(**options):
        return resnet.ResNet([(8, 1, 1)], block="basic", stem="cifar", **options)

    stages = (Stage(16, 1, 1), Stage(16, 1, 2), Stage(16, 1, 2), Stage(16, 1, 2))
    monkeypatch.setitem(resnet.CONSTRUCTORS, "resnet20", one_block)
    monkeypatch.setitem(BACKBONES, "tiny", Architecture("Tiny", 10, "imagenet", "basic", stages, "B", 128, 2))
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)  # the detector's data set is folder:voc
    return tmp_path


def weights_of(run):
    return run.load().get_weights()


def test_a_classifier_of_version_0_1(folder, capsys):
    from keras_resnet.classification.run import ClassifierRun
    from keras_resnet.classification.train import train

    old = json.loads((folder / "classifier/config.json").read_text())["config"]
    run = ClassifierRun.open("classifier")
    config = run.config
    assert (config.pca_noise, config.random_erase_prob, config.backbone_lr_mult) == (
        old["color"],
        old["erase"],
        old["backbone_rate"],
    )
    assert (config.average_weights, config.scale_range) == (old["average"], tuple(old["scales"]))
    train(config, "classifier")
    assert "from step 7" in capsys.readouterr().out
    with np.load("classifier_expected.npz") as expected:
        for index, value in enumerate(weights_of(run)):
            np.testing.assert_allclose(value, expected[f"w{index}"], rtol=2e-4, atol=2e-5)
    records, expected = read_metrics(run.metrics), json.loads(pathlib.Path("classifier_expected.json").read_text())
    assert [record["step"] for record in records] == [record["step"] for record in expected] == [5, 10, 12]
    for record, other in zip(records, expected, strict=True):
        for name in ("val_loss", "val_top1_error", "learning_rate"):  # training means start anew on resume
            assert record[name] == pytest.approx(other[name], rel=1e-3)
    assert json.loads((folder / "classifier/config.json").read_text())["task"] == "classification"
    assert cli.run("evaluate", ["--workdir=classifier", "--split=test[:64]"]) == 0
    assert f"| {expected[-1]['val_top1_error']:.2f} |" in capsys.readouterr().out
    assert cli.run("export", ["--workdir=classifier", "--out=exported"]) == 0
    assert (folder / "exported/1/saved_model.pb").is_file()


def test_a_detector_of_version_0_1(folder, capsys):
    from keras_resnet.detection.run import DetectorRun

    old = json.loads((folder / "detector/config.json").read_text())["config"]
    config = DetectorRun.open("detector").config
    assert (config.min_size, config.max_size, config.bg_iou_low) == (old["shorter"], old["longer"], old["background"])
    assert [config.pre_nms_topk_train, config.post_nms_topk_train] == old["train_proposals"]
    assert cli.run("train", ["--config=detector/config.json", "--workdir=detector"]) == 0
    assert "from step 3" in capsys.readouterr().out
    run = DetectorRun.open("detector")
    with np.load("detector_expected.npz") as expected:
        for index, value in enumerate(weights_of(run)):
            np.testing.assert_allclose(value, expected[f"w{index}"], rtol=2e-3, atol=2e-4)
    assert [record["step"] for record in read_metrics(run.metrics)] == [2, 4]
    assert cli.run("evaluate", ["--workdir=detector"]) == 0
    assert cli.run("export", ["--workdir=detector", "--out=exported"]) == 0
    assert (folder / "exported/1/saved_model.pb").is_file()


def test_a_folder_of_another_task_is_refused(folder):
    from keras_resnet.classification.run import ClassifierRun
    from keras_resnet.detection.run import DetectorRun

    with pytest.raises(ValueError, match="must be the folder of a classification run; 'detector' holds a detection"):
        ClassifierRun.open("detector")
    with pytest.raises(ValueError, match="must be the folder of a detection run; 'classifier' holds a classif"):
        DetectorRun.open("classifier")
    assert tasks.name_of({"config": {"steps": 5}}) == "classification"
    known = "'classification', 'detection', 'segmentation', 'localization'"
    with pytest.raises(ValueError, match=f"task must be one of {known}; got 'poetry'"):
        tasks.name_of({"task": "poetry"})
