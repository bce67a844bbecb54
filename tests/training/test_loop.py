"""The training loop: a task of a few lines that resumes bit by bit, and when runs are evaluated."""

import dataclasses
import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import errors
from keras_resnet.data.dataset import DatasetInfo
from keras_resnet.experiment import live, tasks
from keras_resnet.experiment.config import BaseConfig
from keras_resnet.experiment.curves import read_metrics
from keras_resnet.experiment.run import Run
from keras_resnet.training import loop
from tests.runs import assert_equal, newest_step, signal_at, variables_of

CONFIG = BaseConfig(batch_size=8, steps=6, decay_steps=(4,), eval_steps=2, checkpoint_steps=1, learning_rate=0.05)


class LineRun(Run):
    """A run that fits a line."""

    TASK = "line"


def batches(start_step=0, context=None):
    """Endless batches of y = 2x - 1, a function of the step."""

    def batch(step):
        x = tf.random.stateless_uniform([8, 1], [0, step])
        return x, 2 * x - 1

    return tf.data.Dataset.counter(start_step).map(batch)


def train(workdir, monitor="val_loss", config=CONFIG, callbacks=()):
    strategy = tf.distribute.get_strategy()
    with loop.scope(strategy, config, workdir):
        info = DatasetInfo("line", (), None, {"train": 64})
        run = loop.open_run(LineRun(pathlib.Path(workdir), config, info), strategy)
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, name="dense")], name="line")
        loop.compile_model(model, config, loss="mse")
        log = loop.headline(model, run, images=64)
        loop.fit(model, run, batches, tests=batches(100).take(2), monitor=monitor, log=log, callbacks=callbacks)
    return run


@pytest.fixture(autouse=True)
def line_task(monkeypatch):
    tasks.all_tasks()
    monkeypatch.setitem(tasks._TASKS, "line", tasks.Task("line", BaseConfig, {}, "tests.training.test_loop:train", {}))


def test_a_task_of_a_few_lines(tmp_path, capsys):
    whole = train(tmp_path / "whole")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "line: 2 parameters",
        "6 steps of 8 images: 0.8 epochs of line (64 images)",
        "SGD, learning rate 0.05 divided by 10 at step 4; float32 on 1 CPU",
    ]
    assert lines[3].startswith("step 2/6: training loss ")
    losses = [record["val_loss"] for record in read_metrics(whole.metrics)]
    assert len(losses) == 3
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.load_weights(whole.weights)
    model.compile(loss="mse")
    assert model.evaluate(batches(100).take(2), verbose=0) == pytest.approx(min(losses), abs=1e-6)
    assert whole.curves.read_bytes()[:4] == b"\x89PNG"
    with signal_at(3), pytest.raises(errors.Stopped, match="stopped by SIGTERM at step 3"):
        train(tmp_path / "parts")
    parts = train(tmp_path / "parts")
    assert "resuming from step 3" in capsys.readouterr().out
    assert_equal(variables_of(parts), variables_of(whole))
    assert [record["val_loss"] for record in read_metrics(parts.metrics)] == losses


def test_the_last_weights_without_a_monitor(tmp_path):
    run = train(tmp_path, monitor=None)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.load_weights(run.weights)
    stored = variables_of(run).values()
    assert all(any(np.array_equal(weight, value) for value in stored) for weight in model.get_weights())
    assert not run.curves.exists()


class Errors(keras.callbacks.Callback):
    """Give the evaluation of each step a known error."""

    def __init__(self, errors):
        super().__init__()
        self.errors = errors

    def on_epoch_end(self, epoch, logs=None):
        logs["val_error"] = self.errors[int(self.model.optimizer.iterations.numpy())]


STOPPING = dataclasses.replace(CONFIG, steps=20, early_stopping=2)


@pytest.fixture
def train_until():
    """Train until two evaluations in a row are not below the lowest error, which that of step 4 is."""
    errors = {2: 5.0, 4: 3.0, 6: 4.0, 8: 3.5, 10: 1.0}
    return lambda path: train(path, "val_error", STOPPING, [Errors(errors)])


def test_early_stopping(tmp_path, train_until, capsys):
    run = train_until(tmp_path / "early")
    output = capsys.readouterr().out
    assert "(64 images); early stopping after 2 evaluations without a lower error\n" in output
    assert "stopped early at step 8 of 20: val_error was not below 3.0000 in 2 evaluations\n" in output
    assert [record["step"] for record in read_metrics(run.metrics)] == [2, 4, 6, 8]
    assert newest_step(run.path) == 8
    assert json.loads(run.early_stop.read_text()) == {
        **{"step": 8, "monitor": "val_error", "lowest": 3.0, "evaluations": 2},
    }
    assert live.State.read(str(run.path)).is_finished
    # The best weights are those of step 4, where a run of four steps ends.
    shorter = train(tmp_path / "four", config=dataclasses.replace(CONFIG, steps=4), monitor=None)
    for path in (run, shorter):
        assert path.weights.exists()
    models = [keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]) for _ in range(2)]
    for model, trained in zip(models, (run, shorter), strict=True):
        model.load_weights(trained.weights)
    for ours, theirs in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    capsys.readouterr()
    run.early_stop.unlink()  # as if the run had been killed before it wrote the file
    train_until(tmp_path / "early")
    assert "finished at step 8 by early stopping; nothing to do" in capsys.readouterr().out
    assert run.early_stop.exists()


def test_early_stopping_after_interruptions(tmp_path, train_until):
    whole = train_until(tmp_path / "whole")
    for step in (3, 7):
        with signal_at(step), pytest.raises(errors.Stopped, match=f"at step {step};"):
            train_until(tmp_path / "parts")
    parts = train_until(tmp_path / "parts")
    assert_equal(variables_of(parts), variables_of(whole))
    assert [record["step"] for record in read_metrics(parts.metrics)] == [2, 4, 6, 8]
    assert parts.early_stop.read_text() == whole.early_stop.read_text()


def test_a_signal_just_before_the_evaluation_that_stops_the_run(tmp_path, train_until, without_curves):
    with signal_at(8), pytest.raises(errors.Stopped, match="at step 8;"):
        train_until(tmp_path)
    run = train_until(tmp_path)
    assert newest_step(tmp_path) == 8
    assert [record["step"] for record in read_metrics(run.metrics)] == [2, 4, 6, 8]
    assert json.loads(run.early_stop.read_text())["step"] == 8


@pytest.mark.parametrize(
    ("start", "steps", "every", "expected"),
    [
        (0, 12, 5, [(0, 10, 2), (10, 12, 1)]),
        (0, 10, 5, [(0, 10, 2)]),
        (3, 12, 5, [(3, 5, 1), (5, 10, 1), (10, 12, 1)]),
        (10, 12, 5, [(10, 12, 1)]),
        (11, 12, 5, [(11, 12, 1)]),
        (12, 12, 5, []),
        (0, 3, 5, [(0, 3, 1)]),
        (2, 3, 5, [(2, 3, 1)]),
    ],
)
def test_segments(start, steps, every, expected):
    assert list(loop.segments(start, steps, every)) == expected
