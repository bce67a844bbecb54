"""Training of localizers: resume in both stages, replicas, and what options change."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_resnet import errors
from keras_resnet.errors import InputError
from keras_resnet.experiment.curves import read_metrics
from keras_resnet.localization import evaluate, train
from keras_resnet.localization.run import LocalizerRun
from keras_resnet.models import resnet, weights
from keras_resnet.training import loop
from tests.localization.nets import TINY
from tests.localization.runs import first, second
from tests.localization.sets import GOLDFISH, ilsvrc
from tests.runs import after_each_step, assert_equal, signal_at, variables_of

pytestmark = pytest.mark.usefixtures("without_curves")


def configs(trained_runs):
    return first(), second(trained_runs[0])


@pytest.mark.parametrize("stage", [0, 1])
def test_an_interrupted_run_resumes_exactly(stage, trained_runs, tmp_path, capsys, caplog, monkeypatch):
    config, whole = configs(trained_runs)[stage], LocalizerRun.open(trained_runs[stage])
    records = read_metrics(whole.metrics)
    assert [record["step"] for record in records] == [2, 4]
    assert {"val_error", "val_iou_loss", "class_loss", "box_loss", "loss"} <= set(records[0])
    config = dataclasses.replace(config, log=("csv",))
    with signal_at(3), pytest.raises(errors.Stopped, match="SIGTERM at step 3"):
        train.train(config, tmp_path / "parts")
    assert "starts from random weights" in caplog.text
    caplog.clear()
    monkeypatch.setattr(train.proposals, "collect", lambda *_, **__: pytest.fail("the folder has the proposals"))
    parts = train.train(config, tmp_path / "parts")
    assert "starts from random weights" not in caplog.text
    output = capsys.readouterr().out
    assert "resuming from step 3" in output
    assert f"stage {stage + 1}, {('per-class RPN', 'R-CNN')[stage]} on tiny" in output
    assert_equal(variables_of(whole), variables_of(parts))
    assert [line.split(",")[0] for line in parts.csv.read_text().splitlines()] == ["step", "2", "4"]
    assert [record["val_error"] for record in read_metrics(parts.metrics)] == [
        record["val_error"] for record in records
    ]


@pytest.mark.soak
@pytest.mark.parametrize("stage", [0, 1])
def test_a_run_that_is_killed_between_checkpoints_resumes_exactly(stage, trained_runs, tmp_path):
    """The step after the newest checkpoint is lost, and repeated."""

    def die(callback):
        if callback.checkpoints.step == 4:
            raise MemoryError

    config = (first(checkpoint_steps=3), second(trained_runs[0], checkpoint_steps=3))[stage]
    with after_each_step(die), pytest.raises(MemoryError):
        train.train(config, tmp_path / "run")
    run = train.train(config, tmp_path / "run")
    assert_equal(variables_of(LocalizerRun.open(trained_runs[stage])), variables_of(run))


def test_the_log_has_the_measures_of_the_saved_weights(trained_runs):
    for path in trained_runs:
        run = LocalizerRun.open(path)
        best = min(read_metrics(run.metrics), key=lambda record: (record["val_error"], -record["step"]))
        examples = run.dataset().examples(run.config.eval_split)
        result = evaluate.evaluate(run.localizer(), examples, run.transform()).error.result()
        assert result.true_class_error == pytest.approx(best["val_error"])
        assert result.mean_iou == pytest.approx(1 - best["val_iou_loss"], abs=1e-6)


@pytest.mark.parametrize(("select_by", "kept"), [("error", 3), ("mean_iou", 2)])
def test_the_weights_with_the_best_measure_are_kept(select_by, kept, tmp_path, tiny_backbone, monkeypatch):
    """The error is lowest at step 3, the IoU loss at step 2."""
    measures = {1: (40.0, 0.5), 2: (30.0, 0.1), 3: (20.0, 0.2), 4: (30.0, 0.3)}
    saved = {}

    def measure(self, epoch, logs):
        step = int(self.model.optimizer.iterations.numpy())
        saved[step] = self.model.get_weights()
        logs["val_error"], logs["val_iou_loss"] = measures[step]

    monkeypatch.setattr(train.Evaluation, "on_epoch_end", measure)
    run = train.train(first(select_by=select_by, eval_steps=1), tmp_path / "run")
    for ours, theirs in zip(run.load().get_weights(), saved[kept], strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.soak
def test_two_replicas_train_to_the_weights_of_one(tmp_path, two_replicas, tiny_backbone, capsys):
    config = first(synchronized_norm=True, steps=2)
    runs = [
        train.train(config, tmp_path / str(number), strategy) for number, strategy in enumerate((None, two_replicas))
    ]
    assert "float32 on 2 replicas (CPU), 1 of the 2 images of a batch on each" in capsys.readouterr().out
    single, replicated = (read_metrics(run.metrics)[0] for run in runs)
    assert replicated["loss"] == pytest.approx(single["loss"], abs=1e-4)
    for first_weights, second_weights in zip(*(run.load().get_weights() for run in runs), strict=True):
        np.testing.assert_allclose(second_weights, first_weights, atol=1e-4)


def test_backbone_weights_are_loaded_frozen_and_slow(tmp_path, tiny_backbone, monkeypatch):
    def constructor(**options):
        return resnet.ResNet(TINY.stages, block=TINY.block, classes=7, **{**options, "name": "tiny"})

    monkeypatch.setattr(resnet, "constructor", lambda name: constructor)
    keras.utils.set_random_seed(5)
    classifier = constructor()
    weights.save(classifier, tmp_path / "c.weights.h5")
    built = []
    monkeypatch.setattr(loop, "fit", lambda model, *rest, **options: built.append(model))
    options = {"freeze_stages": 2, "freeze_norm": True, "backbone_lr_mult": 0.1}
    train.train(first(backbone_weights=str(tmp_path / "c.weights.h5"), **options), tmp_path / "run")
    for layer in built[0].trunk.layers:
        for ours, theirs in zip(layer.get_weights(), classifier.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_images_of_eval_split_are_checked_before_training(tmp_path, tiny_backbone, caplog):
    root = ilsvrc(tmp_path / "data", blacklist=None)
    image = root / "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000001.JPEG"
    image.write_bytes(image.read_bytes()[:-20])
    config = first(dataset=f"folder:{root}", train_split="train[:1]", eval_split="val")
    with pytest.raises(InputError, match=r"val_00000001\.JPEG is missing, damaged"):
        train.train(config, tmp_path / "run")
    assert f"no image in train[:1] to learn {GOLDFISH}" in caplog.text
    assert not (tmp_path / "run").exists()


def test_mistakes(trained_runs, tmp_path):
    with pytest.raises(InputError, match="stage_one must be the folder of a run of stage 1"):
        train.train(second(trained_runs[1]), tmp_path / "run")
    with pytest.raises(InputError, match="stage_one must be a run with the classes of dataset"):
        train.train(second(trained_runs[0], dataset="synthetic:64x64x2"), tmp_path / "run")
    with pytest.raises(InputError, match="eval_split"):
        train.train(first(eval_split="none"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
