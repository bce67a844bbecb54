"""The training loop: a task of a few lines that resumes bit by bit, and when runs are evaluated."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import errors
from keras_resnet.data.dataset import DatasetInfo
from keras_resnet.experiment import tasks
from keras_resnet.experiment.config import BaseConfig
from keras_resnet.experiment.curves import read_metrics
from keras_resnet.experiment.run import Run
from keras_resnet.training import loop
from tests.runs import assert_equal, signal_at, variables_of

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


def train(workdir, monitor="val_loss"):
    strategy = tf.distribute.get_strategy()
    with loop.scope(strategy, CONFIG, workdir):
        info = DatasetInfo("line", (), None, {"train": 64})
        run = loop.open_run(LineRun(pathlib.Path(workdir), CONFIG, info), strategy)
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, name="dense")], name="line")
        loop.compile_model(model, CONFIG, loss="mse")
        log = loop.headline(model, run, images=64)
        loop.fit(model, run, batches, tests=batches(100).take(2), monitor=monitor, log=log)
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
