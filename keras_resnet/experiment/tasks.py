"""Tasks: what the package can train. A task is one object; the command line finds it by preset or by `config.json`.

A task lives in a folder of its own, whose module `task` registers it on import:

    TASK = tasks.register(
        tasks.Task(
            name="classification",
            config=ClassifierConfig,
            presets=PRESETS,
            train="keras_resnet.classification.train:train",
            verbs={"evaluate": Evaluate, "predict": Predict, "export": Export},
        )
    )

Nothing here imports Keras or TensorFlow, so that the command line answers before they are loaded.
"""

from __future__ import annotations

import dataclasses
import importlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from keras_resnet.errors import InputError, check_choice, did_you_mean
from keras_resnet.experiment.config import GROUPS, BaseConfig, Options, option

MODULES = [
    "keras_resnet.classification.task",
    "keras_resnet.detection.task",
    "keras_resnet.segmentation.task",
    "keras_resnet.localization.task",
]
"""Modules that register the tasks of this package, the default one first. A further task is a line here."""


@dataclasses.dataclass(frozen=True)
class StrategyFlags(Options):
    """The flags that say where to compute; they do not affect results and are not saved with the run."""

    strategy: str = option(
        "auto",
        "Where to compute: auto, one (device), mirrored (GPUs of this machine), multi_worker or tpu.",
        "hardware",
        choices=("auto", "one", "mirrored", "multi_worker", "tpu"),
    )
    replicas: int = option(0, "Devices of this machine that share each batch; 0 for all GPUs.", "hardware", minimum=0)
    peer_timeout: int = option(120, "Seconds to wait for other workers to start.", "hardware", minimum=1)

    def make_strategy(self) -> Any:
        """Return the `tf.distribute.Strategy` that the flags and the environment describe.

        Raises:
            ValueError: as for `distribute.strategy.make`.
        """
        from keras_resnet.distribute.strategy import make  # imports TensorFlow

        return make(self.strategy, replicas=self.replicas, timeout=self.peer_timeout)


@dataclasses.dataclass(frozen=True)
class TaskFlags(Options):
    """The flag that names the task."""

    task: str | None = option(None, "The task, such as detection, if no preset, config or workdir determines it.")


@dataclasses.dataclass(frozen=True)
class Invocation:
    """What a verb gets besides its own flags.

    Attributes:
        command: the command line, which results name as their origin.
        files: the positional arguments.
        given: names of the flags that were given.
        task: the task that the command line selects; None for verbs that belong to no task.
        config_flags: the flags of the configuration that were given, for verbs that have them.
    """

    command: str
    files: Sequence[str] = ()
    given: frozenset[str] = frozenset()
    task: Task | None = None
    config_flags: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Verb(Options):
    """A command such as `evaluate`: its fields are its flags, the first line of its docstring its help."""

    FILES: ClassVar[str] = ""
    """Names of the positional arguments in the help, such as "PHOTO..."; empty if the verb takes flags only."""

    CONFIG: ClassVar[type[Options] | None] = None
    """A configuration whose fields are flags of the verb too."""

    @classmethod
    def summary(cls) -> str:
        """Return the first paragraph of the docstring in one line."""
        return " ".join((cls.__doc__ or "").split("\n\n")[0].split())

    def of_format(self, format: str, invocation: Invocation) -> dict[str, Any]:
        """Return the given flags of an output format: those whose group is the format, or several joined by "/".

        Raises:
            ValueError: a flag of another format was given; formats are the groups that are not topics.
        """
        groups = {field.name: field.metadata["group"] for field in dataclasses.fields(self)}
        given = [name for name in sorted(invocation.given) if groups[name] not in GROUPS]
        for name in given:
            formats = groups[name].split("/")
            if format not in formats:
                raise InputError(f"{name} is a flag of --format={' or '.join(formats)}, not of --format={format}.")
        return {name: getattr(self, name) for name in given}

    def run(self, invocation: Invocation) -> int | None:
        """Run the command; return its exit code, None for 0."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Task:
    """A task of the package.

    Attributes:
        name: its name, which is the name of its folder and the "task" of a run's `config.json`.
        config: the class of its configurations.
        presets: name -> configuration, `dataset_model`.
        train: "package.module:function" of (config, workdir, strategy), imported when it is called; returns the run.
        verbs: name -> class of its other commands: evaluate, predict, export.
        recipe: "module:function" that chooses the settings for a data set if no preset is given: from a configuration
            and the names of the fields that were given to the configuration to train and lines that say why; none if
            empty.
        inspection: module with the functions `recognizes` and `inspect` of a folder, for `keras-resnet inspect`; none
            if empty.
    """

    name: str
    config: type[BaseConfig]
    presets: Mapping[str, BaseConfig]
    train: str
    verbs: Mapping[str, type[Verb]]
    recipe: str = ""
    inspection: str = ""

    def run_train(self, config: BaseConfig, workdir: str, strategy: Any) -> Any:
        """Train a configuration in a folder; return the run."""
        return imported(self.train)(config, workdir, strategy)


def imported(name: str) -> Any:
    """Return a function by its name, "module:function"."""
    module, function = name.split(":")
    return getattr(importlib.import_module(module), function)


def next_commands(*commands: Sequence[str]) -> str:
    """Return the last lines of a long command: what to type next, for the shell."""
    lines = [command if isinstance(command, str) else shlex.join(command) for command in commands]
    return "\n".join(f"{'      ' if number else 'next: '}{line}" for number, line in enumerate(lines))


def one_folder(value: str | None, name: str = "workdir") -> str:
    """Return the value of a flag that must be given and name one folder.

    Raises:
        ValueError: it was not given, or has a comma, which separates folders elsewhere.
    """
    folder = required(value, name)
    if "," in folder:
        raise InputError(f"{name} must be one folder, without a comma in its name; got {folder!r}.")
    return folder


def required(value: str | None, name: str) -> str:
    """Return the value of a flag that must be given.

    Raises:
        ValueError: it was not.
    """
    if not value:
        raise InputError(f"{name} must be given: --{name}=...")
    return value


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
        if preset.lower() in task.presets:
            return task
    raise InputError(_no_preset(preset, [name for task in all_tasks().values() for name in task.presets]))


def preset(task: Task, name: str) -> BaseConfig:
    """Return the configuration of a task's preset, whose name may be in any case.

    Raises:
        ValueError: the task has no such preset.
    """
    if name.lower() in task.presets:
        return task.presets[name.lower()]
    other = next((other for other in all_tasks().values() if name.lower() in other.presets), None)
    if other:
        raise InputError(f"preset must be one of the task {task.name}; {name!r} is one of --task={other.name}.")
    raise InputError(_no_preset(name, task.presets))


def _no_preset(name: str, presets: Iterable[str]) -> str:
    """Say that there is no such preset: with the nearest one, or else with all."""
    if hint := did_you_mean(name, presets):
        return f"preset must be one that keras-resnet train --help lists; got {name!r}{hint}."
    return f"preset must be one of {', '.join(presets)}; got {name!r}."


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
