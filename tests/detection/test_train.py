"""Training of detectors: resume, alternating training and replicas."""

import dataclasses
import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import errors
from keras_resnet.cli import main as cli
from keras_resnet.detection import train as detection
from keras_resnet.detection.data import sources
from keras_resnet.detection.run import DetectorRun
from keras_resnet.errors import InputError
from keras_resnet.experiment.curves import read_metrics
from keras_resnet.training.optimizers import SGD
from tests.detection.data.folders import voc_folder
from tests.detection.runs import config
from tests.detection.scenes import scenes, tiny
from tests.runs import signal_at

pytestmark = pytest.mark.usefixtures("without_curves")


def test_an_interrupted_run_resumes_exactly(trained_run, tmp_path, capsys, caplog):
    whole, options = DetectorRun.open(trained_run), config(trained_run.parent / "voc")
    records = read_metrics(whole.metrics)
    assert [record["step"] for record in records] == [2, 4]
    assert {"val_map50", "val_error", "val_ap50_red", "val_ap50_blue", "rpn_box_loss", "loss"} <= set(records[0])
    assert whole.curves.exists()

    options = dataclasses.replace(options, log=("csv",))
    with signal_at(3), pytest.raises(errors.Stopped, match="SIGTERM at step 3"):
        detection.train(options, tmp_path / "parts")
    assert "starts from random weights" in caplog.text
    parts = detection.train(options, tmp_path / "parts")
    output = capsys.readouterr().out
    assert "resuming from step 3" in output
    assert "4 steps of 1 image: " in output
    assert re.search(r"step 4/4: training loss \d+\.\d+; val mAP \d+\.\d\d %; ", output)
    records_of_parts = read_metrics(parts.metrics)
    assert [record["step"] for record in records_of_parts] == [2, 4]
    assert [line.split(",")[0] for line in parts.csv.read_text().splitlines()] == ["step", "2", "4"]
    assert records_of_parts[1]["val_map50"] == records[1]["val_map50"]
    for first, second in zip(whole.load().get_weights(), parts.load().get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
    with pytest.raises(InputError, match="holds a run with a different configuration: steps 4 there, 6 here"):
        detection.train(dataclasses.replace(options, steps=6), tmp_path / "parts")


@pytest.mark.soak
def test_alternating_training_changes_what_each_step_may_change(data, tmp_path):
    run = detection.train(config(data, training="alternating", steps=1, eval_steps=1), tmp_path / "run")
    steps = [dataclasses.replace(run, path=run.path / f"step{number}").load() for number in (1, 2, 3, 4)]

    def equal(first, second, part):
        pairs = zip(getattr(first, part).get_weights(), getattr(second, part).get_weights(), strict=True)
        return all(np.array_equal(*pair) for pair in pairs)

    first, second, third, fourth = steps
    # The detector of step 2 starts from the backbone again, not from step 1.
    assert not equal(first, second, "trunk")
    assert equal(first, second, "rpn")
    assert not equal(first, second, "siblings")
    assert equal(second, third, "trunk")
    assert equal(second, third, "siblings")
    assert not equal(second, third, "rpn")
    assert equal(third, fourth, "trunk")
    assert equal(third, fourth, "rpn")
    assert not equal(third, fourth, "region_network")
    assert not equal(third, fourth, "siblings")
    for part in ("trunk", "rpn", "region_network", "siblings"):
        assert equal(fourth, run.load(), part)
    # Only a detector with proposals of its own is evaluated.
    records = [json.loads((run.path / f"step{number}/metrics.jsonl").read_text()) for number in (1, 2, 3, 4)]
    assert ["val_map50" in record for record in records] == [False, False, False, True]


def test_a_given_detector_is_trained_jointly(data, tmp_path):
    with pytest.raises(InputError, match="training must be 'joint' for a detector that is given; got 'alternating'"):
        detection.fit(tiny(), sources.load(f"folder:{data}"), config(data, training="alternating"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.soak
def test_two_replicas_train_to_the_weights_of_one(two_replicas):
    batches = tf.data.Dataset.from_tensor_slices(scenes(8, 0, (64, 64))).repeat().batch(4)
    options = {
        "roi_batch_size_per_image": 8,
        "pre_nms_topk_train": 60,
        "post_nms_topk_train": 20,
        "anchor_scales": (32.0,),
    }
    weights = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = tiny(**options)
            model.compile(SGD(1e-3, momentum=0.9, l2=1e-4), jit_compile=False)
        before = model.get_weights()
        model.fit(batches, steps_per_epoch=20, verbose=0, shuffle=False)
        weights.append(model.get_weights())
    assert max(np.abs(new - old).max() for old, new in zip(before, weights[0], strict=True)) > 1e-2
    for single, replicated in zip(*weights, strict=True):
        np.testing.assert_allclose(replicated, single, atol=1e-4)


@pytest.mark.slow
def test_two_replicas_through_the_loop(data, tmp_path, two_replicas, capsys):
    """Replicas share batches, each image is evaluated once, and the weights are those of one device."""
    runs = [
        detection.train(config(data, batch_size=2, steps=2), tmp_path / str(number), strategy)
        for number, strategy in enumerate((None, two_replicas))
    ]
    assert "float32 on 2 replicas (CPU), 1 of the 2 images of a batch on each" in capsys.readouterr().out
    single, replicated = (json.loads(run.metrics.read_text()) for run in runs)
    assert replicated["val_map50"] == pytest.approx(single["val_map50"], abs=1e-3)
    assert replicated["loss"] == pytest.approx(single["loss"], abs=1e-4)
    for first, second in zip(*(run.load().get_weights() for run in runs), strict=True):
        np.testing.assert_allclose(second, first, atol=1e-4)


def test_classes_of_a_second_data_set_must_be_the_same(data, tmp_path):
    other = voc_folder(tmp_path / "other", {"a": [("green", (1, 1, 20, 20), 0)]})
    with pytest.raises(InputError, match="has class 'green'; allowed are blue, red"):
        detection.train(config(data, extra_dataset=f"folder:{other}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_recipe_is_chosen_once_and_resumed(data, tmp_path, capsys):
    classifier = tmp_path / "tiny.weights.h5"
    command = ["train", "--task=detection", f"--data={data}", f"--workdir={tmp_path / 'run'}", "--steps=2"]
    small = [
        "--backbone=tiny",
        "--min_size=64",
        "--max_size=96",
        "--mean=100,100,100",
        "--std=60,60,60",
        "--freeze_at=1",
        "--eval_steps=2",
    ]
    assert cli.main([*command, *small, "--batch_size=2"]) == 0
    output = capsys.readouterr().out
    assert "settings for 6 training images" in output
    assert "backbone" not in output, "it was given"
    config = DetectorRun.open(tmp_path / "run").config
    assert (config.steps, config.batch_size, config.eval_split, config.schedule) == (2, 2, "val", "cosine")
    assert cli.main([*command, *small, "--batch_size=2"]) == 0
    output = capsys.readouterr().out
    assert "settings for" not in output
    assert "finished at step 2" in output
    assert cli.main([*command, f"--weights={classifier}"]) == 1
    assert f"backbone_weights must be the path of an existing file; there is no file {str(classifier)!r}" in (
        capsys.readouterr().err
    )
    assert cli.main([*command, "--weights=imagenet", "--backbone_weights=imagenet"]) == 1
    assert "only one of weights and backbone_weights may be given" in capsys.readouterr().err
