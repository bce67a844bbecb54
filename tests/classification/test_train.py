"""Training of classifiers: when runs are evaluated, and that they resume bit by bit after kills, signals and NaN."""

import dataclasses
import os
import random as python_random
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from keras_resnet import errors
from keras_resnet.classification import train
from keras_resnet.classification.config import PRESETS, ClassifierConfig
from keras_resnet.classification.run import ClassifierRun
from keras_resnet.data import pipeline, sources
from keras_resnet.experiment.curves import read_metrics
from keras_resnet.models import resnet
from keras_resnet.training import checkpoints
from tests.classification import small_runs
from tests.classification.small_runs import CONFIG, KERAS_3, KINDS, on_small_images
from tests.networks import one_block
from tests.photos import photos
from tests.runs import after_each_step, assert_equal, newest_step, signal_at, variables_of

pytestmark = pytest.mark.usefixtures("one_block_resnet20", "without_curves")


@pytest.fixture(scope="module")
def undisturbed(one_block_resnet20, tmp_path_factory):
    """A run without interruption, with which the others are compared."""
    return train.train(CONFIG, tmp_path_factory.mktemp("runs") / "whole")


def test_evaluations_and_files(undisturbed):
    records = read_metrics(undisturbed.metrics)
    assert [record["step"] for record in records] == [5, 10, 12]
    assert [round(record["learning_rate"], 6) for record in records] == [0.01, 0.001, 0.001]
    best = min(record["val_top1_error"] for record in records)
    model = undisturbed.load()
    dataset = sources.load(CONFIG.dataset)
    tests = pipeline.evaluate(dataset, 64, undisturbed.eval_transform(), split="test[:64]")
    images, labels = next(iter(tests))
    error = 100 * np.mean(model.predict_on_batch(images).argmax(1) != labels.numpy())
    assert abs(error - best) < 1e-3
    assert undisturbed.curves.read_bytes()[:4] == b"\x89PNG"
    assert len(list(undisturbed.checkpoints.glob("*.index"))) == 3


def test_signals_save_the_step_and_the_run_resumes_bit_by_bit(undisturbed, tmp_path):
    """After the first step, at a checkpoint, at an evaluation, and before the last step."""
    for step, number in ((1, signal.SIGTERM), (3, signal.SIGINT), (5, signal.SIGINT), (11, signal.SIGTERM)):
        before = signal.getsignal(number)
        with (
            signal_at(step, number),
            pytest.raises(errors.Stopped, match=f"stopped by {number.name} at step {step}; checkpoint saved"),
        ):
            train.train(CONFIG, tmp_path)
        assert signal.getsignal(number) is before
        assert newest_step(tmp_path) == step
    run = train.train(CONFIG, tmp_path)
    assert_equal(variables_of(run), variables_of(undisturbed))
    strip = ("loss", "top1_error")  # averages over the steps since the run was resumed
    ours, theirs = (
        [{k: v for k, v in record.items() if k not in strip} for record in read_metrics(r.metrics)]
        for r in (run, undisturbed)
    )
    assert ours == theirs
    assert run.weights.exists()


@pytest.mark.parametrize("moment", ["between two calls of fit", "in an evaluation"])
def test_a_signal_outside_of_a_step(moment, undisturbed, tmp_path, monkeypatch):
    """At step 10 of 12 the run is evaluated, and then `fit` is called again."""
    owner, name = {
        "between two calls of fit": (checkpoints.StopOnSignal, "on_train_end"),
        "in an evaluation": (checkpoints.StopOnSignal, "on_test_begin"),
    }[moment]
    original = getattr(owner, name)

    def send(self, logs=None):
        original(self, logs)
        if self.checkpoints.step == 10 and not resumed:
            os.kill(os.getpid(), signal.SIGTERM)

    resumed = False
    monkeypatch.setattr(owner, name, send)
    with pytest.raises(errors.Stopped, match="stopped by SIGTERM at step 10; checkpoint saved"):
        train.train(CONFIG, tmp_path)
    resumed = True
    run = train.train(CONFIG, tmp_path)
    assert_equal(variables_of(run), variables_of(undisturbed))
    assert [record["step"] for record in read_metrics(run.metrics)] == [5, 10, 12]
    assert read_metrics(run.metrics)[1]["val_loss"] == read_metrics(undisturbed.metrics)[1]["val_loss"]


def test_a_batch_in_parts_is_the_same_batch(tmp_path, monkeypatch):
    """Without batch norm, four micro-batches of four images make the same step as a batch of sixteen."""

    def linear(input_shape, classes, **options):
        layers = [keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(classes, name="predictions")]
        return keras.Sequential(layers)

    monkeypatch.setitem(resnet.CONSTRUCTORS, "resnet20", linear)
    config = dataclasses.replace(CONFIG, mixup=0.0, pca_noise=0.0, pad=0, mirror=False, precision="float32", ema=0.5)
    runs = [train.train(dataclasses.replace(config, accumulate=n), tmp_path / str(n)) for n in (1, 4)]
    one, four = ([record["val_loss"] for record in read_metrics(run.metrics)] for run in runs)
    np.testing.assert_allclose(four, one, rtol=1e-5)
    models = [run.load() for run in runs]
    np.testing.assert_allclose(*(model.get_weights()[0] for model in models), atol=1e-6)


def test_fit_with_another_network_and_images_in_memory(tmp_path, random):
    """`fit` trains any Keras model that returns logits, on any data set."""
    labels = random.integers(0, 3, 90)
    images = (40 * labels[:, None, None, None] + random.integers(0, 40, (90, 8, 8, 3))).astype("uint8")
    dataset = sources.from_arrays(images, labels.astype("int32"), ("dark", "grey", "light"))
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])
    config = ClassifierConfig(
        train_split="train[:60]",
        eval_split="train[60:]",
        batch_size=20,
        steps=90,
        decay_steps=(),
        eval_steps=45,
        learning_rate=0.01,
        pad=0,
    )
    run = train.fit(model, dataset, config, tmp_path)
    assert read_metrics(run.metrics)[-1]["val_top1_error"] < 10
    assert list(run.tensorboard.rglob("events.out.tfevents.*"))


def test_a_finished_run_stays_as_it_is(undisturbed):
    before = variables_of(undisturbed)
    records = read_metrics(undisturbed.metrics)
    train.train(CONFIG, undisturbed.path)
    assert_equal(variables_of(undisturbed), before)
    assert read_metrics(undisturbed.metrics) == records


def test_another_config_in_the_same_folder(undisturbed):
    other = dataclasses.replace(CONFIG, learning_rate=0.2, seed=3)
    with pytest.raises(
        ValueError, match=r"a different configuration: learning_rate 0.01 there, 0.2 here; seed 0 there, 3 here"
    ):
        train.train(other, undisturbed.path)


def nan_in_step_4(stop):
    """Make a weight NaN, for `after_each_step`."""
    if stop.checkpoints.step == 4:
        kernel = stop.model.trainable_weights[0]
        kernel.assign(kernel * np.nan)


def test_not_a_number_never_reaches_the_disk(tmp_path):
    """Weights that become NaN in step 4 are not in any checkpoint, whether the loss or the weights show it first."""
    for every in (1, 2, 50):
        config = dataclasses.replace(CONFIG, checkpoint_steps=every, eval_steps=12)
        with (
            after_each_step(nan_in_step_4),
            pytest.raises(FloatingPointError, match=r"at step \d+; nothing was saved"),
        ):
            train.train(config, tmp_path / str(every))
        assert newest_step(tmp_path / str(every)) == {1: 3, 2: 2, 50: 0}[every]


def test_not_a_number_is_not_among_the_best_weights(tmp_path):
    config = dataclasses.replace(CONFIG, checkpoint_steps=50, eval_steps=4, ema=0.0)
    with (
        after_each_step(nan_in_step_4),
        pytest.raises(FloatingPointError, match="at step 4; nothing was saved"),
    ):
        train.train(config, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {"config.json", "checkpoints", "tensorboard"}


def test_a_corrected_command_runs(tmp_path):
    """Invalid arguments are found before statistics of the images are computed, and nothing is written."""
    photos(tmp_path / "photos", 20, side=12)
    wrong = dataclasses.replace(CONFIG, dataset=f"folder:{tmp_path}/photos", image_size=8, steps=2, eval_steps=2)
    wrong = dataclasses.replace(wrong, decay_steps=(), warmup_steps=0, mixup=0.0)
    right = dataclasses.replace(wrong, train_split="train[:80%]", eval_split="train[80%:]")
    for config, message in (
        (wrong, "split must be one of 'train'"),
        (dataclasses.replace(right, model="resnet21"), "model must be one of"),
        (dataclasses.replace(right, batch_size=17), "batch_size must be from 1 to the 16 images"),
        (
            dataclasses.replace(right, pixel_mean=True, train_size=6),
            "pixel_mean must be off if train_size, 6, is not",
        ),
        (dataclasses.replace(right, freeze_norm=True), "freeze_stages and freeze_norm require init_weights, because"),
    ):
        with pytest.raises(errors.InputError, match=message):
            train.train(config, tmp_path / "run")
        assert not (tmp_path / "run").exists()
    assert train.train(right, tmp_path / "run").weights.exists()
    # The source of the images and the speed of reading them do not belong to the configuration of the run.
    again = dataclasses.replace(right, threads=2, download=True, data_dir=str(tmp_path))
    (tmp_path / "run/.weights-left-by-a-kill").mkdir()
    assert train.train(again, tmp_path / "run").config == again
    assert not list((tmp_path / "run").glob(".*"))
    with pytest.raises(errors.InputError, match="cache '' there, 'memory' here"):  # the order differs
        train.train(dataclasses.replace(right, cache="memory"), tmp_path / "run")


RECIPES = {
    "accumulation, several steps a call": {
        **{"optimizer": "sgdw", "schedule": "cosine", "clip_norm": 1.0, "accumulate": 1 + KERAS_3},
        **{"steps_per_execution": 2, "steps": 12, "eval_steps": 6, "checkpoint_steps": 2},
    },
    "plateau": {"optimizer": "adamw", "schedule": "plateau", "patience": 1, "backbone_lr_mult": 0.5, "eval_steps": 3},
    "float16, warm-up by error": {
        **{"precision": "mixed_float16", "loss": "binary_cross_entropy", "target_threshold": 0.2},
        **{"optimizer": "lamb", "warmup_steps": 0, "warmup_error": 77.0, "decay_norm": False},
    },
}
"""Options that do not touch each other are together, as tracing their networks takes most of the time."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.soak if name == "plateau" else ()) for name in RECIPES]
)
def test_other_recipes_run_and_resume(name, tmp_path):
    config = dataclasses.replace(CONFIG, **RECIPES[name])
    whole = train.train(config, tmp_path / "whole")
    with signal_at(7), pytest.raises(errors.Stopped):
        train.train(config, tmp_path / "parts")
    assert_equal(variables_of(train.train(config, tmp_path / "parts")), variables_of(whole))


def test_the_presets_are_of_these_kinds():
    """Digits, CIFAR-10, CIFAR-10 with 110 layers, ImageNet, and two recipes of today."""
    assert len(KINDS) == 6


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS.values())
def test_every_kind_of_preset_trains_and_evaluates(name, tmp_path, monkeypatch):
    """A one-block network on random images through the code path of a preset: four steps, evaluated twice."""
    preset = PRESETS[name]
    config = on_small_images(
        preset,
        eval_split="test[:64]",
        steps=4,
        warmup_steps=min(preset.warmup_steps, 2),
        eval_steps=2,
        checkpoint_steps=2,
        ema_steps=1,
    )
    monkeypatch.setitem(resnet.CONSTRUCTORS, config.model, lambda shortcut="A", **options: one_block(**options))
    run = train.train(config, tmp_path)
    assert [record["step"] for record in read_metrics(run.metrics)] == [2, 4]
    assert run.load().output_shape == (None, 4)


@pytest.mark.soak
def test_kill_9_at_random_moments(tmp_path):
    """Killed soon after a save, four times: each start resumes, and the end is that of an uninterrupted run.

    It saves at each step, so that many kills interrupt a save.
    """
    config = dataclasses.replace(CONFIG, steps=60, checkpoint_steps=1, eval_steps=20)
    (tmp_path / "config.json").write_text(config.to_json())
    moments = python_random.Random(0)
    command = [sys.executable, small_runs.__file__, str(tmp_path / "config.json"), str(tmp_path / "run")]
    reached = [0]
    for _ in range(4):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and newest_step(tmp_path / "run") == reached[-1]:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.3))
        process.kill()
        process.communicate()
        reached.append(newest_step(tmp_path / "run"))
    assert reached == sorted(set(reached))
    assert reached[-1] < 60
    subprocess.run(command, check=True, capture_output=True)
    whole = train.train(config, tmp_path / "whole")
    run = ClassifierRun.open(tmp_path / "run")
    assert_equal(variables_of(run), variables_of(whole))
    assert [record["step"] for record in read_metrics(run.metrics)] == [20, 40, 60]
