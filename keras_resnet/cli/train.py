"""`keras-resnet train`, for every task."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from keras_resnet.errors import InputError
from keras_resnet.experiment import tasks
from keras_resnet.experiment.config import BaseConfig, option
from keras_resnet.experiment.tasks import Invocation, StrategyFlags, Task, Verb


@dataclasses.dataclass(frozen=True)
class Train(StrategyFlags, Verb):
    """Train a model and write its checkpoints, metrics and curves to --workdir; rerun the same command to resume."""

    workdir: str | None = option(None, "Folder of the run.", path="file")
    preset: str | None = option(None, "Preset to start from; they are listed below.")
    config: str | None = option(None, "Start from the config.json of another run, instead of a preset.", path="file")

    data: str | None = option(None, "Folder of the data set; short for --dataset=folder:PATH.", "data", path="file")

    def run(self, invocation: Invocation) -> None:
        """Train."""
        task = invocation.task
        assert task is not None
        config = self._base(task).override(invocation.config_flags)
        if self.data:
            if "dataset" in invocation.config_flags:
                raise InputError("only one of data and dataset may be given; got both.")
            config = dataclasses.replace(config, dataset=f"folder:{self.data}")
        workdir = tasks.one_folder(self.workdir)
        config.check_names()
        strategy = self.make_strategy()

        from keras_resnet.distribute import collectives  # imports TensorFlow

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

    def _base(self, task: Task) -> Any:
        """The configuration that the flags change."""
        if self.preset and self.config:
            raise InputError("only one of preset and config may be given; got both.")
        base: BaseConfig = task.config()
        if self.preset:
            base = tasks.preset(task, self.preset)
        return task.config.from_file(self.config) if self.config else base
