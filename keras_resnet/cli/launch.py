"""`keras-resnet launch`."""

from __future__ import annotations

import dataclasses
import pathlib
import sys

from keras_resnet import files
from keras_resnet.cli import flags
from keras_resnet.errors import InputError, did_you_mean
from keras_resnet.experiment.config import option, read_json
from keras_resnet.experiment.tasks import Invocation, Verb

LAUNCHED = ("train", "evaluate")
"""Verbs that run as several workers."""


@dataclasses.dataclass(frozen=True)
class Launch(Verb):
    """Run train or evaluate as several workers on this machine, and stop all of them if one fails."""

    FILES = "train|evaluate [flags]"

    workers: int = option(2, "Number of processes.", "hardware", minimum=1)
    elastic: bool = option(
        False,
        "If a worker of train is lost, restart the others from the newest checkpoint, with the same batch_size.",
        "hardware",
    )

    def run(self, invocation: Invocation) -> int:
        """Start the workers and wait for them."""
        if not invocation.files or invocation.files[0] not in LAUNCHED:
            hint = did_you_mean(invocation.files[0], LAUNCHED) if invocation.files else ""
            raise InputError(f"usage: keras-resnet launch --workers=N train|evaluate [flags]{hint}.")

        verb, *arguments = invocation.files
        if self.elastic and verb != "train":
            raise InputError(f"elastic requires the verb train; got {verb!r}.")

        from keras_resnet.distribute import launch

        command = [sys.executable, "-m", "keras_resnet.cli", *invocation.files]
        return launch.run(command, self.workers, fewer=(lambda left: _fewer(arguments, left)) if self.elastic else None)


def _fewer(arguments: list[str], left: int) -> int:
    """Return with how many of the workers left to resume the run of a train command; 0 if it had not begun.

    It is the largest number that divides the micro-batches of the run.
    """
    file = pathlib.Path(files.expand(flags.parse_known(arguments, ("workdir",)).get("workdir", "")), "config.json")
    if not file.exists():
        return 0
    config = read_json(file)["config"]
    images = config["batch_size"] // config.get("accumulate", 1)
    return max(number for number in range(1, left + 1) if images % number == 0)
