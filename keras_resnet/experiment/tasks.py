"""Tasks: what the package can train. A task is one object; the command line finds it by preset or by `config.json`.

A task lives in a folder of its own, whose module `task` registers it when it is imported:

    TASK = tasks.register(
        tasks.Task(
            name="classification",
            config=ClassifierConfig,
            presets=PRESETS,
            verbs={"train": Train, "evaluate": Evaluate, "predict": Predict, "export": Export},
        )
    )

Nothing here imports Keras or TensorFlow, so that the command line answers before they are loaded.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from keras_resnet.errors import InputError, check_choice, did_you_mean
from keras_resnet.experiment.config import BaseConfig, Options, option

MODULES = ["keras_resnet.classification.task", "keras_resnet.detection.task"]
"""Modules that register the tasks of this package, the default one first. A further task is a line here."""


@dataclasses.dataclass(frozen=True)
class Strategy(Options):
    """The flags that say where to compute; they do not affect results and are not saved with the run."""

    strategy: str = option(
        "auto",
        "Where to compute: auto, one (device), mirrored (GPUs of this machine), multi_worker or tpu.",
        "hardware",
        choices=("auto", "one", "mirrored", "multi_worker", "tpu"),
    )
    replicas: int = option(0, "Devices of this machine that share each batch; 0 for all GPUs.", "hardware", minimum=0)
    peer_timeout: int = option(120, "Seconds to wait for other workers to start.", "hardware", minimum=1)

    def make_strategy(self):
        """Return the `tf.distribute.Strategy` that the flags and the environment describe.

        Raises:
            ValueError: as for `distribute.strategy.make`.
        """
        from keras_resnet.distribute.strategy import make  # imports TensorFlow

        return make(self.strategy, replicas=self.replicas, timeout=self.peer_timeout)


@dataclasses.dataclass(frozen=True)
class Verb(Options):
    """A command of a task, such as evaluate: its fields are its flags. The docstring is its help."""

    FILES: ClassVar[str] = ""
    """Name of the positional arguments in the help, such as "PHOTO"; empty if the verb takes flags only."""

    def run(self, files: Sequence[str], command: str) -> None:
        """Do it.

        Args:
            files: the positional arguments.
            command: the command line, which results name as their origin.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Train(Strategy):
    """Train a model and write its checkpoints, metrics and curves to --workdir; rerun the same command to resume."""

    FILES: ClassVar[str] = ""

    workdir: str | None = option(None, "Folder of the run.")
    preset: str | None = option(None, "Start from a preset.")
    config: str | None = option(None, "Start from the config.json of another run.")


@dataclasses.dataclass(frozen=True)
class Task:
    """A task of the package.

    Attributes:
        name: its name, which is the name of its folder and the "task" of a run's `config.json`.
        config: the class of its configurations.
        presets: name -> configuration, `dataset_model`.
        train: `package.module:function` of (config, workdir, strategy), imported when it is called.
        verbs: name -> class of its other commands: evaluate, predict, export.
        train_verb: the class of the flags of `train` besides those of `config`.
    """

    name: str
    config: type[BaseConfig]
    presets: Mapping[str, BaseConfig]
    train: str
    verbs: Mapping[str, type[Verb]]

    def call_train(self, config: BaseConfig, workdir: str, strategy) -> Any:
        """Train a configuration in a folder; return the run."""
        module, function = self.train.split(":")
        return getattr(importlib.import_module(module), function)(config, workdir, strategy)


_TASKS: dict[str, Task] = {}


def register(task: Task) -> Task:
    """Add a task, so that the command line and `config.json` can name it; return it."""
    _TASKS[task.name] = task
    return task


def all_tasks() -> dict[str, Task]:
    """Return the registered tasks by name, the default one first."""
    for module in MODULES:
        importlib.import_module(module)
    return _TASKS


def get(name: str) -> Task:
    """Return a task by name.

    Raises:
        ValueError: there is no such task.
    """
    check_choice("task", name, all_tasks())
    return _TASKS[name]


def of_preset(preset: str) -> Task:
    """Return the task of a preset.

    Raises:
        ValueError: there is no such preset.
    """
    for task in all_tasks().values():
        if preset in task.presets:
            return task
    names = [name for task in all_tasks().values() for name in task.presets]
    raise InputError(f"preset must be one of {', '.join(names)}; got {preset!r}{did_you_mean(preset, names)}.")


def name_of(content: Mapping[str, Any]) -> str:
    """Return the name of the task of a `config.json`.

    Files of version 0.1 do not name their task: it is the first one whose configuration has all their fields.

    Raises:
        ValueError: the file names no task that is registered, or has fields that no task has.
    """
    if "task" in content:
        return get(content["task"]).name
    values = content.get("config", content)
    for task in all_tasks().values():
        if set(task.config.upgraded(values)) <= set(task.config.field_names()):
            return task.name
    return next(iter(all_tasks()))
