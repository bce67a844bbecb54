"""What callbacks write and show, and how they repair what a kill left behind."""

import json
import os
import re
import sys
import types

import pytest
import tensorflow as tf

from keras_resnet.experiment.curves import read_metrics
from keras_resnet.training.callbacks import LossWithoutPadding, MetricsLog, Progress


def at(callback, step):
    """Give a callback a model that has taken `step` steps."""
    optimizer = types.SimpleNamespace(iterations=tf.Variable(step), learning_rate=0.1)
    callback.set_model(types.SimpleNamespace(optimizer=optimizer))
    return callback


def test_records_of_repeated_steps_are_replaced(tmp_path):
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


def test_a_record_that_a_kill_cut_short_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 5}) + '\n{"step": 1')
    at(MetricsLog(path), 5).on_train_begin()
    at(MetricsLog(path), 10).on_epoch_end(0)
    assert [record["step"] for record in read_metrics(path)] == [5, 10]


def test_metrics_are_rewritten_only_if_they_change(tmp_path):
    path = tmp_path / "metrics.jsonl"
    at(MetricsLog(path), 5).on_train_begin()
    assert not path.exists()
    at(MetricsLog(path), 5).on_epoch_end(0)
    written = os.stat(path)
    at(MetricsLog(path), 5).on_train_begin()
    assert (os.stat(path).st_ino, os.stat(path).st_mtime_ns) == (written.st_ino, written.st_mtime_ns)


def test_padding_is_taken_out_of_the_loss():
    logs = {"loss": 3.0, "val_loss": 2.0}
    LossWithoutPadding(1.5).on_epoch_end(0, logs)
    assert logs == {"loss": 3.0, "val_loss": 3.0}


def shown(progress):
    """Let a `Progress` of 10 steps show two steps from step 4 on, and an evaluation."""
    at(progress, 4).on_train_begin()
    progress.on_epoch_begin(0)
    logs = {"loss": 1.25, "top1_error": 50.0, "mae": 0.5}
    for batch in range(2):
        at(progress, 5 + batch).on_train_batch_end(batch, logs)
    progress.on_epoch_end(0, {**logs, "val_loss": 1.5, "val_top1_error": 75.0, "val_mae": 0.75})
    progress.on_train_end()


@pytest.mark.parametrize(
    ("error", "training", "test"),
    [
        ("top1_error", "loss 1.2500, error 50.00 %", "loss 1.5000, error 75.00 %"),
        ("loss", "loss 1.2500", "loss 1.5000"),
        ("mae", "loss 1.2500, mae 0.5000", "loss 1.5000, mae 0.7500"),
        ("absent_error", "loss 1.2500", "loss 1.5000"),
    ],
)
def test_progress_in_a_file_is_one_line_for_each_evaluation(error, training, test, capsys):
    shown(Progress(steps=10, batch_size=8, error=error))
    printed = capsys.readouterr()
    assert re.fullmatch(rf"step 6/10: training {training}; test {test}; [\d.e+]+ images/s\n", printed.out)
    assert printed.err == ""


def test_progress_on_a_terminal_is_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    shown(Progress(steps=10, batch_size=8))
    printed = capsys.readouterr()
    assert printed.out.count("step 6/10: training loss") == 1
    last = printed.err.split("\r")[-1]
    assert "60%" in last
    assert "6/10" in last
    assert re.search(r"loss 1\.2500, error 50\.00 %, rate 0\.1, [\d.e+]+ images/s", last)


def test_progress_without_an_evaluation_shows_no_test_part(capsys):
    progress = at(Progress(steps=10, batch_size=8), 5)
    progress.on_train_begin()
    progress.on_epoch_begin(0)
    progress.on_train_batch_end(0, {"loss": 1.0})
    progress.on_epoch_end(0, {"loss": 1.0})
    assert re.fullmatch(r"step 5/10: training loss 1\.0000; [\d.e+]+ images/s\n", capsys.readouterr().out)
