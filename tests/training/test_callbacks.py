"""Callbacks on their own: what they write, and what a kill leaves of it."""

import json
import os
from types import SimpleNamespace

from keras_resnet.experiment.curves import read_metrics
from keras_resnet.training.callbacks import MetricsLog


def at(callback, step):
    """The callback, with a model that has taken so many steps."""
    callback.set_model(SimpleNamespace(optimizer=SimpleNamespace(iterations=step, learning_rate=0.1)))
    return callback


def test_metrics_of_steps_taken_again_are_replaced(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for step in (5, 10, 15):
        at(log, step).on_epoch_end(0, {"loss": step / 10})
    at(log, 10).on_train_begin()
    assert [record["step"] for record in read_metrics(path)] == [5, 10]
    at(log, 10).on_epoch_end(0, {"loss": 7.0})
    assert read_metrics(path) == [
        {"step": 5, "loss": 0.5, "learning_rate": 0.1},
        {"step": 10, "loss": 7.0, "learning_rate": 0.1},
    ]


def test_metrics_that_a_kill_cut_short_are_mended(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 5}) + '\n{"step": 1')
    at(MetricsLog(path), 5).on_train_begin()
    at(MetricsLog(path), 10).on_epoch_end(0)
    assert [record["step"] for record in read_metrics(path)] == [5, 10]


def test_metrics_are_rewritten_only_where_they_change(tmp_path):
    path = tmp_path / "metrics.jsonl"
    at(MetricsLog(path), 5).on_train_begin()
    assert not path.exists()
    at(MetricsLog(path), 5).on_epoch_end(0)
    written = os.stat(path)
    at(MetricsLog(path), 5).on_train_begin()
    assert (os.stat(path).st_ino, os.stat(path).st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
