"""`keras-resnet watch`."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import time

from keras_resnet.errors import InputError
from keras_resnet.experiment import live, names
from keras_resnet.experiment.config import option
from keras_resnet.experiment.tasks import Invocation, Verb

CLEAR = "\x1b[H\x1b[J"
"""Moves to the top left corner of a terminal and clears it."""


@dataclasses.dataclass(frozen=True)
class Watch(Verb):
    """Show the progress, speed and curves of runs in the terminal until all are finished or Ctrl-C.

    Only the files of the runs are read, so they may be of any task and on another machine's disk. If the output is no
    terminal, the state is printed once.
    """

    FILES = "RUN..."

    seconds: float = option(5.0, "Time between two looks.", minimum=0.1)
    once: bool = option(False, "Print the state once.")

    def run(self, invocation: Invocation) -> None:
        """Watch."""
        if not invocation.files:
            raise InputError("watch requires the folders of runs: keras-resnet watch RUN...")
        for path in invocation.files:
            names.check_run(path, "RUN")
        is_live = sys.stdout.isatty() and not self.once
        while True:
            states = [live.State.read(path) for path in invocation.files]
            text = live.text(states, shutil.get_terminal_size().columns)
            print(f"{CLEAR}{text}" if is_live else text, flush=True)
            if not is_live or all(state.is_finished for state in states):
                return
            time.sleep(self.seconds)
