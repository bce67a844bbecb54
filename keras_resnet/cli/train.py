"""`keras-resnet train`, for every task."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from keras_resnet.errors import InputError
from keras_resnet.experiment import tasks
from keras_resnet.experiment.config import option
from keras_resnet.experiment.tasks import Invocation, StrategyFlags, Task, Verb


@dataclasses.dataclass(frozen=True)
class Train(StrategyFlags, Verb):
    """Train a model and write its checkpoints, metrics and curves to --workdir; rerun the same command to resume."""

    workdir: str | None = option(None, "Folder of the run.", path="file")
    preset: str | None = option(None, "Preset to start from; they are listed below.")
    config: str | None = option(None, "Start from the config.json of another run, instead of a preset.", path="file")

    data: str | None = option(None, "Folder of the data set; short for --dataset=folder:PATH.", "data", path="file")
    weights: str | None = option(
        None,
        "Weights of a classifier to start from, a name such as imagenet or a file; short for --backbone_weights, "
        "or --init_weights of a classifier.",
        "network",
        path="name",
    )

    def run(self, invocation: Invocation) -> None:
        """Train."""
        task = invocation.task
        assert task is not None
        given = dict(invocation.config_flags) | self._short_flags(task, invocation)
        config = self._base(task).override(given)
        workdir = tasks.one_folder(self.workdir)
        config.check_names()
        strategy = self.make_strategy()

        from keras_resnet.distribute import collectives  # imports TensorFlow

        if task.recipe and not self._has_base():
            config, lines = tasks.imported(task.recipe)(config, given)
            if lines and collectives.is_chief(strategy):
                print("\n".join(lines))
        task.run_train(config, workdir, strategy)
        if collectives.is_chief(strategy):
            out = os.path.join("models", os.path.basename(os.path.normpath(workdir)))
            commands = {"evaluate": [], "export": [f"--out={out}"]}
            print(
                tasks.next_commands(
                    *(
                        ["keras-resnet", verb, f"--workdir={workdir}", *more]
                        for verb, more in commands.items()
                        if verb in task.verbs
                    )
                )
            )

    def _short_flags(self, task: Task, invocation: Invocation) -> dict[str, str]:
        """The fields that --data and --weights stand for."""
        weights = "backbone_weights" if "backbone_weights" in task.config.field_names() else "init_weights"
        short = {"dataset": ("data", self.data and f"folder:{self.data}"), weights: ("weights", self.weights)}
        for field, (flag, value) in short.items():
            if value and field in invocation.config_flags:
                raise InputError(f"only one of {flag} and {field} may be given; got both.")
        return {field: value for field, (_, value) in short.items() if value}

    def _has_base(self) -> bool:
        """Whether the settings come from a preset, another run, or the run that is resumed."""
        return bool(self.preset or self.config or (self.workdir and os.path.isfile(self._own_config())))

    def _own_config(self) -> str:
        """The configuration of the run in --workdir."""
        return os.path.join(self.workdir or "", "config.json")

    def _base(self, task: Task) -> Any:
        """The configuration that the flags change: of a preset, another run, or, with a recipe, the run to resume."""
        if self.preset and self.config:
            raise InputError("only one of preset and config may be given; got both.")
        if self.config:
            return task.config.from_file(self.config)
        if self.preset:
            return tasks.preset(task, self.preset)
        if task.recipe and self._has_base():
            return task.config.from_file(self._own_config())
        return task.config()
