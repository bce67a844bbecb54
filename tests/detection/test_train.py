"""Detectors through the loop: resume, alternating training, replicas, and the command line on top."""

import dataclasses
import json
import os
import re
import shutil
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet import errors
from keras_resnet.cli import main as cli
from keras_resnet.detection import train as detection
from keras_resnet.detection.config import PRESETS, DetectorConfig
from keras_resnet.detection.data import sources
from keras_resnet.detection.faster_rcnn import BACKBONES
from keras_resnet.detection.run import DetectorRun
from keras_resnet.errors import InputError
from keras_resnet.models import weights
from keras_resnet.training import loop
from keras_resnet.training.optimizers import SGD
from tests.detection.data.folders import voc_folder
from tests.detection.scenes import TINY, scenes, tiny


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Six synthetic pictures in VOC's layout, and a backbone small enough."""
    monkeypatch.setitem(BACKBONES, "tiny", TINY)
    inputs = scenes(6, 0, (64, 96))
    content = {}
    for number, (found, labels) in enumerate(zip(inputs["boxes"], inputs["labels"], strict=True)):
        content[f"p{number}"] = [
            (("red", "blue")[label - 1], (int(left) + 1, int(top) + 1, int(right), int(bottom)), 0)
            for (top, left, bottom, right), label in zip(found, labels, strict=True)
            if label
        ]
    root = voc_folder(tmp_path / "voc", content, (64, 96), {"train": list(content), "val": ["p0", "p1"]})
    for number, image in enumerate(inputs["images"]):
        pixels = np.uint8(np.clip(image * 60 + 100, 0, 255))
        Image.fromarray(pixels).save(root / f"JPEGImages/p{number}.jpg", quality=95)
    return root


def config(root, **options):
    return DetectorConfig(
        **{
            "dataset": f"folder:{root}",
            "train_split": "train",
            "eval_split": "val",
            "min_size": 64,
            "max_size": 96,
            "mean": (100.0,) * 3,
            "std": (60.0,) * 3,
            "backbone": "tiny",
            "anchor_scales": (32.0, 64.0),
            "straddle_thresh": -1.0,
            "min_proposal_size": 4.0,
            "pre_nms_topk_train": 100,
            "post_nms_topk_train": 20,
            "pre_nms_topk_test": 100,
            "post_nms_topk_test": 10,
            "roi_batch_size_per_image": 8,
            "roi_pooling": "align",
            "freeze_at": 0,
            "detections_per_image": 5,
            "steps": 4,
            "eval_steps": 2,
            "decay_steps": (),
            **options,
        }
    )


def test_a_killed_run_goes_on_as_if_nothing_had_been(data, tmp_path, monkeypatch, capsys):
    whole = detection.train(config(data), tmp_path / "whole")
    records = [json.loads(line) for line in whole.metrics.read_text().splitlines()]
    assert [record["step"] for record in records] == [2, 4]
    assert {"val_map50", "val_error", "val_ap50_red", "val_ap50_blue", "rpn_box_loss", "loss"} <= set(records[0])
    assert whole.curves.exists()

    monkeypatch.setattr(loop, "StopOnSignal", lambda saver, average: _stopping(saver, 3))
    with pytest.raises(errors.Stopped, match="SIGTERM at step 3"):
        detection.train(config(data), tmp_path / "parts")
    monkeypatch.undo()
    monkeypatch.setitem(BACKBONES, "tiny", TINY)
    parts = detection.train(config(data), tmp_path / "parts")
    assert "resuming from step 3" in capsys.readouterr().out
    again = [json.loads(line) for line in parts.metrics.read_text().splitlines()]
    assert [record["step"] for record in again] == [2, 4]
    assert again[1]["val_map50"] == records[1]["val_map50"]
    for first, second in zip(whole.load().get_weights(), parts.load().get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
    with pytest.raises(InputError, match="holds a run with a different configuration: steps 4 there, 6 here"):
        detection.train(config(data, steps=6), tmp_path / "parts")


def _stopping(saver, step):
    """A `StopOnSignal` that gets its signal in a step."""
    from keras_resnet.training.checkpoints import StopOnSignal

    class Stopping(StopOnSignal):
        def on_train_batch_end(self, batch, logs=None):
            if self.checkpoints.step == step:
                os.kill(os.getpid(), signal.SIGTERM)
            super().on_train_batch_end(batch, logs)

    return Stopping(saver)


@pytest.mark.slow
def test_alternating_training_changes_what_each_step_may_change(data, tmp_path):
    run = detection.train(config(data, training="alternating", steps=1, eval_steps=1), tmp_path / "run")
    steps = [dataclasses.replace(run, path=run.path / f"step{number}").load() for number in (1, 2, 3, 4)]

    def equal(first, second, part):
        pairs = zip(getattr(first, part).get_weights(), getattr(second, part).get_weights(), strict=True)
        return all(np.array_equal(one, other) for one, other in pairs)

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
    # What has no proposals of its own is not judged by them.
    records = [json.loads((run.path / f"step{number}/metrics.jsonl").read_text()) for number in (1, 2, 3, 4)]
    assert ["val_map50" in record for record in records] == [False, False, False, True]


def test_a_given_detector_is_trained_jointly(data, tmp_path):
    with pytest.raises(InputError, match="training must be 'joint' for a detector that is given; got 'alternating'"):
        detection.fit(tiny(), sources.load(f"folder:{data}"), config(data, training="alternating"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
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
    assert max(np.abs(one - two).max() for one, two in zip(before, weights[0], strict=True)) > 1e-2
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-4)


@pytest.mark.slow
def test_two_replicas_through_the_loop(data, tmp_path, two_replicas, capsys):
    """Batches are shared, each picture is evaluated once, and the end is that of one device."""
    runs = [
        detection.train(config(data, batch_size=2, steps=2), tmp_path / str(number), strategy)
        for number, strategy in enumerate((None, two_replicas))
    ]
    assert "float32 on 2 replicas (CPU), 1 of the 2 images of a batch on each" in capsys.readouterr().out
    one, two = (json.loads(run.metrics.read_text()) for run in runs)
    assert two["val_map50"] == pytest.approx(one["val_map50"], abs=1e-3)
    assert two["loss"] == pytest.approx(one["loss"], abs=1e-4)
    for first, second in zip(*(run.load().get_weights() for run in runs), strict=True):
        np.testing.assert_allclose(second, first, atol=1e-4)


def test_the_command_line(data, tmp_path, capsys, caplog):
    """Train, evaluate, predict and export, told to be about a detector by the workdir alone."""
    file = tmp_path / "config.json"
    file.write_text(config(data, steps=1, eval_steps=1).to_json())
    run, photo = tmp_path / "run", str(data / "JPEGImages/p0.jpg")
    assert cli.main(["train", f"--config={file}", f"--workdir={run}"]) == 0
    assert cli.main(["evaluate", f"--workdir={run}", "--split=train[:3]", "--refine", "--score_thresh=0.0"]) == 0
    assert "starts from random weights" in caplog.text
    said = capsys.readouterr().out
    assert "| red |" in said
    assert "| mean |" in said
    record = json.loads((run / "evaluation_train_3" / "results.json").read_text())
    assert (record["images"], record["score_thresh"]) == (3, 0.0)
    assert len(list((run / "evaluation_train_3/pictures").iterdir())) == 3
    arguments = ["--scales=64,96", f"--ensemble={run}", "--show=0.0", "--score_thresh=0.0", f"--out={tmp_path}"]
    assert cli.main(["predict", f"--workdir={run}", *arguments, photo]) == 0
    assert Image.open(tmp_path / "p0_boxes.png").size == (96, 64)
    assert re.search(r"(red|blue) 0\.\d+: left", capsys.readouterr().out)
    other = tmp_path / "other/p0.jpg"
    other.parent.mkdir()
    Image.open(photo).resize((48, 64)).save(other)
    shutil.copy(photo, other.with_name("p0_2.jpg"))
    photos = [photo, str(other), str(other.with_name("p0_2.jpg"))]
    assert cli.main(["predict", f"--workdir={run}", f"--out={tmp_path}", *photos]) == 0
    assert Image.open(tmp_path / "p0_boxes.png").size == (96, 64)
    assert Image.open(tmp_path / "p0_2_boxes.png").size == (48, 64)
    assert (tmp_path / "p0_2_2_boxes.png").exists()
    assert cli.main(["evaluate", f"--workdir={run}", f"--out={tmp_path / 'other'}"]) == 1
    assert "out must be a folder that does not exist yet" in capsys.readouterr().err
    arguments = ["export", f"--workdir={run}", f"--out={tmp_path / 'model.tflite'}", "--format=tflite"]
    assert cli.main([*arguments, "--style=tf_od"]) == 1
    assert "style has no meaning for --format=tflite" in capsys.readouterr().err
    assert cli.main(arguments) == 0
    assert (tmp_path / "model.tflite").stat().st_size > 100_000


def test_what_a_split_does_not_have_is_null(data, tmp_path):
    (data / "ImageSets/Main/one.txt").write_text("p0\n")
    (data / "Annotations/p0.xml").write_text(
        "<annotation><object><name>red</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
        "</object></annotation>"
    )
    run = DetectorRun(tmp_path / "run", config(data), sources.load(f"folder:{data}").info)
    run.create()
    weights.save(run.build(), run.weights)
    assert cli.main(["evaluate", f"--workdir={run.path}", "--split=one"]) == 0
    record = json.loads((run.path / "evaluation_one/results.json").read_text(), parse_constant=pytest.fail)
    assert record["ap50"] == {"blue": None, "red": 0.0}


def test_a_damaged_picture_is_named_on_the_command_line(data, tmp_path, capsys):
    path = data / "JPEGImages/p1.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    file = tmp_path / "config.json"
    file.write_text(config(data).to_json())
    assert cli.main(["train", f"--config={file}", f"--workdir={tmp_path / 'run'}"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith(f"keras-resnet train: image {path} is missing, damaged, too large or no")


def test_mistakes_on_the_command_line(data, tmp_path, capsys):
    def said(*arguments):
        assert cli.run(arguments[0], [*arguments[1:], "--task=detection"]) == 1
        return capsys.readouterr().err

    assert "preset must be one of" in said("train", "--preset=x", f"--workdir={tmp_path}")
    assert "workdir must be given" in said("train", "--preset=bccd_resnet50")
    assert "anchor_scales must be a list of numbers" in said("train", "--anchor_scales=a", "--workdir=x")
    assert "got '/nowhere'" in said("train", "--data=/nowhere", f"--workdir={tmp_path / 'run'}")
    assert "config.json' cannot be read" in said("evaluate", f"--workdir={tmp_path}")
    assert not (tmp_path / "run").exists()


def test_presets_go_through_json_and_have_the_papers_numbers():
    for preset in PRESETS.values():
        assert DetectorConfig.from_dict(json.loads(preset.to_json())) == preset
    coco = PRESETS["coco_resnet101"]
    assert (coco.learning_rate, coco.steps, coco.decay_steps, coco.batch_size) == (1e-3, 320_000, (240_000,), 8)
    assert len(coco.anchor_scales) * len(coco.anchor_ratios) == 12
    voc = PRESETS["voc07_resnet101"]
    assert (voc.min_size, voc.max_size, voc.bg_iou_low, voc.roi_pooling) == (600, 1000, 0.1, "max")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1; got 0"),
        ({"max_size": 10}, "max_size must be at least min_size, 64; got 10"),
        ({"post_nms_topk_train": 0}, "post_nms_topk_train must be at least 1; got 0"),
        ({"roi_pooling": "mean"}, "roi_pooling must be one of 'max', 'align'"),
        ({"training": "both"}, "training must be one of 'joint', 'alternating'"),
        ({"decay_steps": (5, 2)}, "decay_steps must increase"),
        ({"anchor_scales": ()}, "must not be empty"),
        ({"learning_rate": -1.0}, "learning_rate must be 0 or more; got -1.0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        config("x", **options)


def test_classes_of_a_second_data_set_must_be_the_same(data, tmp_path):
    other = voc_folder(tmp_path / "other", {"a": [("green", (1, 1, 20, 20), 0)]})
    with pytest.raises(InputError, match="has class 'green'; allowed are blue, red"):
        detection.train(config(data, extra_dataset=f"folder:{other}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_classes_of_a_run_are_kept(data, tmp_path):
    """A later evaluation on a folder with fewer classes must not renumber them."""
    run = DetectorRun(tmp_path / "run", config(data), sources.load(f"folder:{data}").info)
    run.create()
    assert DetectorRun.open(tmp_path / "run") == run
