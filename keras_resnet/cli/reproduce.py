"""`keras-resnet reproduce`."""

from __future__ import annotations

import dataclasses

from keras_resnet.classification.config import ClassifierConfig
from keras_resnet.errors import InputError, check_choice
from keras_resnet.experiment import names, tasks
from keras_resnet.experiment.config import option
from keras_resnet.experiment.tasks import Invocation, Verb
from keras_resnet.models.architectures import find

EXPERIMENTS = ("table2", "table6", "figure6", "figure7")
"""The experiments of `paper.reproduction`."""


@dataclasses.dataclass(frozen=True)
class Reproduce(Verb):
    """Train the networks of table2, table6, figure6 or figure7 and compare the results with the paper's."""

    FILES = "table2|table6|figure6|figure7"
    CONFIG = ClassifierConfig

    out: str | None = option(None, "Folder of the runs and results; rerun the same command to resume.", path="file")
    networks: tuple[str, ...] = option(
        (), "Some of the experiment's networks: resnet20,plainnet20; by default all but resnet1202.", "network"
    )
    seeds: tuple[int, ...] = option((0,), "Seeds of the runs of each network.")

    def run(self, invocation: Invocation) -> None:
        """Train what is missing and write the comparison."""
        if len(invocation.files) != 1:
            given = " ".join(invocation.files) or "none"
            raise InputError(f"reproduce requires one of table2, table6, figure6, figure7; got {given}.")
        for name, flag in (("model", "networks"), ("shortcut", "networks"), ("seed", "seeds")):
            if name in invocation.config_flags:
                raise InputError(f"{name} is set by the experiment; use --{flag} instead.")
        (experiment,) = invocation.files
        check_choice("the experiment", experiment, EXPERIMENTS)
        for network in self.networks:
            find(network.removesuffix("_a"), "networks")
        out = tasks.required(self.out, "out")
        if "dataset" in invocation.config_flags:
            names.check_dataset(invocation.config_flags["dataset"], invocation.config_flags.get("data_dir"))

        from keras_resnet.paper import reproduction  # imports TensorFlow

        text = reproduction.reproduce(
            experiment,
            out,
            steps=invocation.config_flags.get("steps"),
            networks=self.networks,
            seeds=self.seeds,
            changes=invocation.config_flags,
            command=invocation.command,
        )
        print(text)
        print(f"wrote {out}/{experiment}.md, .json and .png")
