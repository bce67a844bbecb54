"""`keras-resnet launch`."""

from __future__ import annotations

import dataclasses
import sys

from keras_resnet.errors import InputError, did_you_mean
from keras_resnet.experiment.config import option
from keras_resnet.experiment.tasks import Invocation, Verb

LAUNCHED = ("train", "evaluate")
"""Verbs that run as several workers."""


@dataclasses.dataclass(frozen=True)
class Launch(Verb):
    """Run train or evaluate as several workers on this machine, and stop all of them if one fails."""

    FILES = "train|evaluate [flags]"

    workers: int = option(2, "Number of processes.", "hardware", minimum=1)

    def run(self, invocation: Invocation) -> int:
        """Start the workers and wait for them."""
        if not invocation.files or invocation.files[0] not in LAUNCHED:
            hint = did_you_mean(invocation.files[0], LAUNCHED) if invocation.files else ""
            raise InputError(f"usage: keras-resnet launch --workers=N train|evaluate [flags]{hint}.")

        from keras_resnet.distribute import launch

        return launch.run([sys.executable, "-m", "keras_resnet.cli", *invocation.files], self.workers)
