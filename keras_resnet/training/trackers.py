"""Logs of a run besides `metrics.jsonl`: TensorBoard, CSV, Weights & Biases and MLflow.

All of them are callbacks that read the records of `metrics.jsonl`, so they agree on every number, and a log that is
added when a run is resumed gets the earlier records too. The clients of the services are imported when they are used.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import importlib
import io
import json
import logging
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import keras

from keras_resnet import files
from keras_resnet.errors import InputError, Stopped
from keras_resnet.experiment import curves
from keras_resnet.experiment.run import Run
from keras_resnet.training.callbacks import Logs, TensorBoardLog

logger = logging.getLogger(__name__)


def make(log: Iterable[str], run: Run) -> list[keras.callbacks.Callback]:
    """Return the callbacks that log a run, to be called after `MetricsLog`.

    Args:
        log: names of `experiment.config.LOGS`.
        run: the run.
    """
    makers = {
        "tensorboard": lambda: TensorBoardLog(run.tensorboard),
        "csv": lambda: CSVLog(run),
        "wandb": lambda: WandbLog(run),
        "mlflow": lambda: MLflowLog(run),
    }
    return [makers[name]() for name in dict.fromkeys(log)]


@contextlib.contextmanager
def closing(callbacks: Sequence[keras.callbacks.Callback]) -> Iterator[None]:
    """Close the trackers among some callbacks at the end of the context, and tell them the error that ended it."""
    with contextlib.ExitStack() as stack:
        for callback in callbacks:
            if isinstance(callback, Tracker):
                stack.push(callback.end)
        yield


class CSVLog(keras.callbacks.Callback):
    """Write `metrics.csv`: a row for each evaluation and a column for each number, empty where a record has none.

    Unlike `keras.callbacks.CSVLogger` it replaces the file each time, so that a resumed run repeats no rows.

    Args:
        run: the run.
    """

    def __init__(self, run: Run):
        super().__init__()
        self.run = run

    def on_train_begin(self, logs: Logs = None) -> None:
        if self.run.metrics.exists():
            self.write()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.write()

    def write(self) -> None:
        """Write the file."""
        records = curves.read_metrics(self.run.metrics)
        text = io.StringIO()
        names = dict.fromkeys(name for record in records for name in record)
        writer = csv.DictWriter(text, list(names), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        files.write(self.run.csv, text.getvalue())


class Tracker(keras.callbacks.Callback):
    """Base of the logs that a service keeps: one run there for each run here, also if it is interrupted.

    The identifier of the run there is kept in `trackers.json`. An evaluation that cannot be sent is logged as a warning
    and sent with the next one.

    Args:
        run: the run.
    """

    NAME: ClassVar[str]

    def __init__(self, run: Run):
        super().__init__()
        self.run = run
        self.is_open = False
        self.sent = -1

    def on_train_begin(self, logs: Logs = None) -> None:
        self.send()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.send()

    def send(self) -> None:
        """Send the records of the evaluations that were not sent yet.

        Raises:
            ValueError: the service cannot be reached at the beginning.
        """
        client = importlib.import_module(self.NAME)
        if not self.is_open:
            try:
                self.open(client, self.known())
            except self.errors(client) as error:
                raise InputError(f"log={self.NAME} failed: {_sentence(error)}.{self.advice(error)}") from error
            self.is_open = True
        try:
            for record in curves.read_metrics(self.run.metrics) if self.run.metrics.exists() else []:
                if record["step"] > self.sent:
                    numbers = {name: value for name, value in record.items() if name != "step" and value is not None}
                    self.write(client, numbers, record["step"])
                    self.sent = record["step"]
        except self.errors(client) as error:
            logger.warning("log=%s failed and will be tried again: %s", self.NAME, _sentence(error))

    def known(self) -> dict[str, Any]:
        """Return what `trackers.json` says of this service; empty for a new run."""
        return self._all_known().get(self.NAME, {})

    def remember(self, **values: Any) -> None:
        """Write the identifier of the run there to `trackers.json`."""
        files.write(self.run.trackers, json.dumps(self._all_known() | {self.NAME: values}, indent=2) + "\n")

    def _all_known(self) -> dict[str, dict[str, Any]]:
        return json.loads(self.run.trackers.read_text(encoding="utf-8")) if self.run.trackers.exists() else {}

    def title(self) -> str:
        """Return the name of the run there: its folder and the folder above it."""
        return "/".join(self.run.path.resolve().parts[-2:])

    def settings(self) -> dict[str, Any]:
        """Return the task, the configuration and what is known of the data set."""
        config = dataclasses.asdict(self.run.config)
        return {"task": self.run.TASK} | config | {"dataset_info": dataclasses.asdict(self.run.dataset_info)}

    def end(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        """Close the run there, if it was opened; the arguments are those of `__exit__`."""
        if not self.is_open:
            return
        client = importlib.import_module(self.NAME)
        try:
            self.close(client, error)
        except self.errors(client) as failure:
            logger.warning("log=%s failed: %s", self.NAME, _sentence(failure))

    def advice(self, error: BaseException) -> str:
        """Return what to do about an error at the beginning, as a further sentence."""
        return ""

    def errors(self, client: Any) -> type[Exception]:
        """Return the base of the client's errors."""
        raise NotImplementedError

    def open(self, client: Any, known: Mapping[str, Any]) -> None:
        """Start the run there, or continue the known one."""
        raise NotImplementedError

    def write(self, client: Any, numbers: Mapping[str, float], step: int) -> None:
        """Send the numbers of an evaluation."""
        raise NotImplementedError

    def close(self, client: Any, error: BaseException | None) -> None:
        """End the run there: finished, or ended by an error."""
        raise NotImplementedError


class WandbLog(Tracker):
    """Log to Weights & Biases; without a network with `WANDB_MODE=offline`, into `wandb/` of the run's folder.

    The project is "keras_resnet" unless `WANDB_PROJECT` names another. In offline mode a resumed run writes a further
    part with the same identifier, which holds the earlier evaluations too.
    """

    NAME = "wandb"

    def errors(self, client: Any) -> type[Exception]:
        return client.errors.Error

    def advice(self, error: BaseException) -> str:
        return f" WANDB_MODE=offline logs to {str(self.run.path / 'wandb')!r} instead."

    def open(self, client: Any, known: Mapping[str, Any]) -> None:
        name = known.get("id") or secrets.token_hex(4)
        self.there = client.init(
            project=os.environ.get("WANDB_PROJECT", "keras_resnet"),
            name=self.title(),
            id=name,
            resume="allow",
            reinit="create_new",
            dir=str(self.run.path),
            config=self.settings(),
        )
        self.remember(id=name)
        # The step after the last one that the server knows. In offline mode it is 0, so that every part of an
        # interrupted run holds all evaluations: the client may not have written the last ones before a kill.
        self.sent = self.there.step - 1

    def write(self, client: Any, numbers: Mapping[str, float], step: int) -> None:
        self.there.log(dict(numbers), step=step)

    def close(self, client: Any, error: BaseException | None) -> None:
        self.there.finish(exit_code=0 if error is None else 1)


MLFLOW_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
"""Variable of MLflow: its default of 7 holds a run up for four minutes at each evaluation while the server is down."""


class MLflowLog(Tracker):
    """Log to MLflow: to `MLFLOW_TRACKING_URI` and `MLFLOW_EXPERIMENT_NAME`, by default a file of the current folder."""

    NAME = "mlflow"

    def errors(self, client: Any) -> type[Exception]:
        return client.exceptions.MlflowException

    def open(self, client: Any, known: Mapping[str, Any]) -> None:
        os.environ.setdefault(MLFLOW_RETRIES, "3")  # 14 s; the next evaluation sends what is missing
        if known and "MLFLOW_TRACKING_URI" not in os.environ:
            client.set_tracking_uri(known["uri"])  # the default depends on the current folder
        is_nested = client.active_run() is not None
        there = client.start_run(run_id=known.get("id"), run_name=self.title(), nested=is_nested)
        self.id = there.info.run_id
        self.remember(id=self.id, uri=client.get_tracking_uri())
        if known:
            history = client.MlflowClient().get_metric_history(self.id, "learning_rate")
            self.sent = max((metric.step for metric in history), default=-1)
        else:
            client.log_params(self.settings())

    def write(self, client: Any, numbers: Mapping[str, float], step: int) -> None:
        # MLflow refuses other characters, which names of classes may have.
        named = {re.sub(r"[^\w./ -]", "_", name): value for name, value in numbers.items()}
        client.log_metrics(named, step=step, run_id=self.id)

    def close(self, client: Any, error: BaseException | None) -> None:
        if error is None:
            status = "FINISHED"
        else:
            status = "KILLED" if isinstance(error, (Stopped, KeyboardInterrupt)) else "FAILED"
        client.end_run(status)


def _sentence(error: BaseException) -> str:
    """Return the first line of an error's text, without its full stop."""
    return (str(error).splitlines() or [type(error).__name__])[0].strip().rstrip(".")
