"""Logs of runs: one run at the service for each run here, without repeated rows, also after interruptions."""

import csv
import dataclasses
import importlib.util
import json
import logging
import os
import pathlib
import sys

import pytest

from keras_resnet import errors
from keras_resnet.cli import main as cli
from keras_resnet.data.dataset import DatasetInfo
from keras_resnet.experiment import names, tasks
from keras_resnet.experiment.config import LOGS, BaseConfig
from keras_resnet.experiment.curves import read_metrics
from keras_resnet.training import trackers
from keras_resnet.training.callbacks import MetricsLog
from tests.runs import signal_at
from tests.training import clients
from tests.training.test_callbacks import at
from tests.training.test_loop import CONFIG, LineRun, line_task, train  # noqa: F401

SERVICES = ("wandb", "mlflow")


@pytest.fixture
def services(monkeypatch):
    """Stand-ins for both clients; returns the services by name."""
    made = {name: clients.Service() for name in SERVICES}
    for name, service in made.items():
        monkeypatch.setitem(sys.modules, name, getattr(clients, name)(service))
    for variable in ("WANDB_PROJECT", "MLFLOW_TRACKING_URI", trackers.MLFLOW_RETRIES):
        monkeypatch.setenv(variable, "")  # so that it is as before after the test
        monkeypatch.delenv(variable)
    return made


def logged(path, *log):
    return train(path, config=dataclasses.replace(CONFIG, log=log))


def numbers(record):
    return {name: value for name, value in record.items() if name != "step"}


def test_an_interrupted_run_stays_one_run(services, tmp_path, without_curves):
    for step in (1, 3, 4):
        with signal_at(step), pytest.raises(errors.Stopped):
            logged(tmp_path / "line", *LOGS)
    run = logged(tmp_path / "line", *LOGS)
    records = read_metrics(run.metrics)
    assert [record["step"] for record in records] == [2, 4, 6]
    with open(run.csv, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{name: float(value) for name, value in row.items() if value} for row in rows] == records
    for name, ended in (("wandb", "FAILED"), ("mlflow", "KILLED")):
        ((identifier, there),) = services[name].runs.items()
        assert json.loads(run.trackers.read_text())[name]["id"] == identifier
        assert there["name"] == f"{tmp_path.name}/line"
        assert there["config"]["batch_size"] == CONFIG.batch_size
        assert there["config"]["task"] == "line"
        assert there["ends"] == [ended, ended, ended, "FINISHED"]
        assert there["rows"].keys() == {2, 4, 6}
        assert there["rows"][6] == numbers(records[-1])
    assert services["wandb"].runs[json.loads(run.trackers.read_text())["wandb"]["id"]]["project"] == "keras_resnet"


def test_a_log_that_is_added_later_gets_the_earlier_evaluations(services, tmp_path, without_curves):
    with signal_at(3), pytest.raises(errors.Stopped):
        logged(tmp_path)
    assert {path.name for path in tmp_path.iterdir()}.isdisjoint({"metrics.csv", "tensorboard", "trackers.json"})
    run = logged(tmp_path, "mlflow", "wandb", "csv", "csv")
    for service in services.values():
        ((_, there),) = service.runs.items()
        assert there["rows"] == {record["step"]: numbers(record) for record in read_metrics(run.metrics)}
    assert len(run.csv.read_text().splitlines()) == 4


def recorded(path, tracker, *records):
    """A tracker of a run with these records, and the callback that writes them."""
    run = LineRun(pathlib.Path(path), BaseConfig(dataset="line"), DatasetInfo("line", (), None, {}))
    log, made = MetricsLog(run.metrics), trackers.make([tracker], run)[0]
    for step, values in records:
        at(log, step).on_epoch_end(0, values)
    return log, made


@pytest.mark.parametrize("name", SERVICES)
def test_a_kill_between_the_log_and_the_checkpoint_repeats_nothing(name, services, tmp_path):
    """The resumed run evaluates step 4 again, of which the service knows already."""
    records = (2, {"loss": 2.0}), (4, {"loss": 1.0, "val_ap50_a&b": 0.5})
    recorded(tmp_path, name, *records)[1].on_train_begin()
    log, tracker = recorded(tmp_path, name)
    at(log, 3).on_train_begin()
    tracker.on_train_begin()
    for step in (4, 6):
        at(log, step).on_epoch_end(0, {"loss": 1.0, "val_loss": float("nan")})
        tracker.on_epoch_end(0)
    ((_, there),) = services[name].runs.items()
    assert list(there["rows"]) == [2, 4, 6]
    assert "val_loss" not in there["rows"][6], "not a number"
    assert ("val_ap50_a_b" if name == "mlflow" else "val_ap50_a&b") in there["rows"][4]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_that_is_down_for_a_while(name, services, tmp_path, caplog):
    log, tracker = recorded(tmp_path, name, (2, {"loss": 2.0}))
    with trackers.closing([tracker]):
        tracker.on_train_begin()
        services[name].down = True
        at(log, 4).on_epoch_end(0, {"loss": 1.0})
        with caplog.at_level(logging.WARNING):
            tracker.on_epoch_end(0)
        assert f"log={name} failed and will be tried again: cannot connect" in caplog.text
        services[name].down = False
        at(log, 6).on_epoch_end(0, {"loss": 0.5})
        tracker.on_epoch_end(0)
    ((_, there),) = services[name].runs.items()
    assert list(there["rows"]) == [2, 4, 6]
    assert there["ends"] == ["FINISHED"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "wandb",
            r"log=wandb failed: No API key configured. .*\. WANDB_MODE=offline logs to '.*wandb' instead\.",
        ),
        ("mlflow", r"log=mlflow failed: cannot connect\.$"),
    ],
)
def test_a_service_that_is_down_at_the_beginning(name, message, services, tmp_path):
    services[name].down = True
    with pytest.raises(errors.InputError, match=message):
        logged(tmp_path, name)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json"}
    services[name].down = False
    logged(tmp_path, name)
    assert len(services[name].runs) == 1


@pytest.mark.parametrize("task", tasks.all_tasks())
@pytest.mark.parametrize(
    ("flag", "message"),
    [
        (
            "--log=csv,wanb",
            "log must be one of 'tensorboard', 'csv', 'wandb', 'mlflow'; got 'wanb' (did you mean 'wandb'?).",
        ),
        ("--log=MLflow", "log=mlflow requires the package mlflow: pip install 'keras-resnet-zoo[mlflow]'."),
        ("--report_to=csv", "unknown flag --report_to; it is called --log here"),
        ("--early_stopping=-1", "early_stopping must be 0 or more; got -1."),
    ],
)
def test_mistakes(task, flag, message, capsys, monkeypatch, tmp_path):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name in SERVICES else found(name, *rest)
    )
    preset = next(iter(tasks.get(task).presets))
    # The data set and the weights of a preset may be missing; they are checked elsewhere.
    monkeypatch.setattr(names, "check_dataset", lambda *arguments: None)
    monkeypatch.setattr(names, "check_weights", lambda *arguments: None)
    command = ["--task=" + task, f"--preset={preset}", f"--workdir={tmp_path / 'run'}", "--stage_one=x", flag]
    command = [part for part in command if part != "--stage_one=x" or task == "localization"]
    assert cli.run("train", command) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("given", "expected"), [(None, "3"), ("9", "9")])
def test_mlflow_gives_up_soon_unless_the_user_decides(given, expected, services, tmp_path, monkeypatch, without_curves):
    if given:
        monkeypatch.setenv(trackers.MLFLOW_RETRIES, given)
    logged(tmp_path / "run", "mlflow")
    assert os.environ[trackers.MLFLOW_RETRIES] == expected


def test_the_engine_checks_clients_too(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.InputError, match="log=wandb requires the package wandb"):
        logged(tmp_path / "run", "wandb")


def test_the_clients_themselves(tmp_path, monkeypatch, without_curves):
    """Where wandb and mlflow are installed: without a network, over a signal."""
    pytest.importorskip("wandb")
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with signal_at(3), pytest.raises(errors.Stopped):
        logged(tmp_path / "run", *SERVICES)
    run = logged(tmp_path / "run", *SERVICES)
    (there,) = mlflow.MlflowClient().search_runs(["0"])
    assert there.info.status == "FINISHED"
    history = mlflow.MlflowClient().get_metric_history(there.info.run_id, "val_loss")
    assert {m.step: m.value for m in history} == {r["step"]: r["val_loss"] for r in read_metrics(run.metrics)}
    assert len(history) == 3
    identifier = json.loads(run.trackers.read_text())["wandb"]["id"]
    parts = list((run.path / "wandb").glob(f"offline-run-*-{identifier}/run-{identifier}.wandb"))
    assert len(parts) == 2
