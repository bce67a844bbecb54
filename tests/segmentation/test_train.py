"""Training of segmenters: resume, replicas, and what each option changes."""

import dataclasses
import json
import re

import keras
import numpy as np
import pytest
from PIL import Image

from keras_resnet import compat, errors
from keras_resnet.errors import InputError
from keras_resnet.experiment.curves import read_metrics
from keras_resnet.models import resnet, weights
from keras_resnet.segmentation import metrics, models
from keras_resnet.segmentation import train as segmentation
from keras_resnet.segmentation.choices import BACKBONES
from keras_resnet.segmentation.data import sources
from keras_resnet.segmentation.losses import PixelCrossEntropy
from keras_resnet.segmentation.run import SegmenterRun
from keras_resnet.training import loop
from tests.runs import after_each_step, assert_equal, signal_at, variables_of
from tests.segmentation.runs import AUXILIARY, config
from tests.segmentation.sets import save

pytestmark = pytest.mark.usefixtures("without_curves")


def test_an_interrupted_run_resumes_exactly(trained_run, tmp_path, capsys, caplog):
    whole, options = SegmenterRun.open(trained_run), config(trained_run.parent / "set", auxiliary=AUXILIARY)
    records = read_metrics(whole.metrics)
    assert [record["step"] for record in records] == [2, 4]
    assert {"val_miou", "val_error", "val_pixel_accuracy", "val_iou_red", "loss"} <= set(records[0])
    assert whole.curves.exists()

    options = dataclasses.replace(options, log=("csv",))
    with signal_at(3), pytest.raises(errors.Stopped, match="SIGTERM at step 3"):
        segmentation.train(options, tmp_path / "parts")
    assert "starts from random weights" in caplog.text
    parts = segmentation.train(options, tmp_path / "parts")
    output = capsys.readouterr().out
    assert "resuming from step 3" in output
    assert "3 classes: red, green, blue; 4.2 % of the pixels are ignored" in output
    assert re.search(r"step 4/4: training loss \d+\.\d+; val mIoU \d+\.\d\d %; ", output)
    assert_equal(variables_of(whole), variables_of(parts))
    assert [line.split(",")[0] for line in parts.csv.read_text().splitlines()] == ["step", "2", "4"]
    assert [record["val_miou"] for record in read_metrics(parts.metrics)] == [record["val_miou"] for record in records]
    with pytest.raises(InputError, match="holds a run with a different configuration: steps 4 there, 6 here"):
        segmentation.train(dataclasses.replace(options, steps=6), tmp_path / "parts")


@pytest.mark.soak
def test_a_run_that_is_killed_between_checkpoints_resumes_exactly(trained_run, tmp_path):
    """The step after the newest checkpoint is lost, and repeated."""

    def die(callback):
        if callback.checkpoints.step == 4:
            raise MemoryError

    options = config(trained_run.parent / "set", auxiliary=AUXILIARY, checkpoint_steps=3)
    with after_each_step(die), pytest.raises(MemoryError):
        segmentation.train(options, tmp_path / "run")
    run = segmentation.train(options, tmp_path / "run")
    assert_equal(variables_of(SegmenterRun.open(trained_run)), variables_of(run))


def test_the_log_has_the_measures_of_the_best_weights(trained_run):
    """Against predictions image by image with NumPy's argmax."""
    run = SegmenterRun.open(trained_run)
    records = read_metrics(run.metrics)
    best = min(records, key=lambda record: (record["val_error"], -record["step"]))
    model = run.load()
    matrix = np.zeros((3, 3), int)
    for example in run.dataset().examples("val"):
        pixels = np.asarray(Image.open(example.path), "float32")[None]
        predictions = model(run.transform().normalize(pixels), training=False).numpy().argmax(-1)[0]
        for truth, predicted in zip(example.read_label().ravel(), predictions.ravel(), strict=True):
            if truth != 255:
                matrix[truth, predicted] += 1
    assert best["val_miou"] == pytest.approx(100 * metrics.mean_iou(matrix), abs=1e-4)
    assert best["val_pixel_accuracy"] == pytest.approx(100 * np.trace(matrix) / matrix.sum(), abs=1e-4)


@pytest.mark.soak
def test_two_replicas_train_to_the_weights_of_one(data, tmp_path, two_replicas, capsys):
    options = config(data, synchronized_norm=True, dropout=0.0, steps=2)
    runs = [
        segmentation.train(options, tmp_path / str(number), strategy)
        for number, strategy in enumerate((None, two_replicas))
    ]
    assert "float32 on 2 replicas (CPU), 1 of the 2 images of a batch on each" in capsys.readouterr().out
    single, replicated = (json.loads(run.metrics.read_text()) for run in runs)
    assert replicated["loss"] == pytest.approx(single["loss"], abs=1e-4)
    assert replicated["val_miou"] == pytest.approx(single["val_miou"], abs=0.2)
    for first, second in zip(*(run.load().get_weights() for run in runs), strict=True):
        np.testing.assert_allclose(second, first, atol=1e-4)


def compiled(run, monkeypatch):
    """The model of a run as it is compiled, without training."""
    built = []
    monkeypatch.setattr(loop, "fit", lambda model, *rest, **options: built.append(model))
    segmentation.train(run.config, run.path)
    return built[0]


@pytest.fixture
def compile_run(data, tmp_path, monkeypatch):
    """Return a function from options to the compiled model."""

    def compile_options(**options):
        info = sources.load(f"folder:{data}").info
        return compiled(SegmenterRun(tmp_path / "run", config(data, **options), info), monkeypatch)

    return compile_options


def test_backbone_weights_are_loaded_frozen_and_slow(compile_run, tmp_path, monkeypatch):
    net = BACKBONES["tiny"]

    def constructor(**options):
        return resnet.ResNet(net.stages, block=net.block, classes=7, **{**options, "name": "tiny"})

    monkeypatch.setattr(resnet, "constructor", lambda name: constructor)
    keras.utils.set_random_seed(5)
    classifier = constructor()
    weights.save(classifier, tmp_path / "c.weights.h5")
    model = compile_run(
        backbone_weights=str(tmp_path / "c.weights.h5"), freeze_stages=2, freeze_norm=True, backbone_lr_mult=0.1
    )
    for layer in models.backbone_of(model).layers:
        for ours, theirs in zip(layer.get_weights(), classifier.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    options = model.optimizer.get_config()
    slow = set(options["slow"])
    assert options["slow_multiplier"] == 0.1
    assert slow == set(map(compat.path, models.backbone_variables(model)))
    assert not any(re.match(r"conv[12]_", name) or "bn" in name for name in slow)
    fast = set(map(compat.path, model.trainable_variables)) - slow
    assert fast
    assert all(name.startswith("head") for name in fast)


def test_options_of_the_loss(compile_run, data):
    loss = compile_run(hard_fraction=0.25, class_weights="median_frequency").loss
    assert isinstance(loss, PixelCrossEntropy)
    assert loss.hard_fraction == 0.25
    counts = np.zeros(3)
    for path in (data / "masks/train").iterdir():
        counts += np.bincount(np.asarray(Image.open(path)).ravel(), minlength=256)[:3]
    # Every class occurs in every image.
    np.testing.assert_allclose(loss.class_weights, np.median(counts) / counts, rtol=1e-6)


def test_a_given_segmenter_is_trained(data, tmp_path):
    options = config(data, steps=1)
    model = models.build("fcn", BACKBONES["tiny"], 3)
    before = [value.copy() for value in model.get_weights()]
    run = segmentation.fit(model, sources.load(f"folder:{data}"), options, tmp_path / "run")
    assert any(not np.array_equal(*pair) for pair in zip(before, model.get_weights(), strict=True))
    for first, second in zip(run.load().get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("split", ["train", "val"])
def test_wrong_masks_are_found_before_training(data, tmp_path, split):
    save(data / f"masks/{split}/x1.png", np.full((24, 32), 3, "uint8"))
    with pytest.raises(InputError, match=rf"masks/{split}/x1.png' has the value 3"):
        segmentation.train(config(data), tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_split_must_exist(data, tmp_path):
    with pytest.raises(InputError, match="eval_split must be one of 'train', 'val'; got 'test'"):
        segmentation.train(config(data, eval_split="test"), tmp_path / "run")
