"""Contenders in processes of their own, measured in turns, so that what else the machine does falls on all of them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

WORKER = pathlib.Path(__file__).with_name("worker.py")

WARM_UP = 3
"""Turns that are not measured, in a process that has several."""

PAUSE = 0.3
"""Seconds between turns, in which the threads of the last one go to sleep."""


@dataclasses.dataclass(frozen=True)
class Contender:
    """What is measured.

    Attributes:
        name: its name in tables.
        make: name of the function in `contenders` that sets it up and returns its turn.
        options: keyword arguments of that function, of JSON's types.
        environment: variables of its process.
        fresh: whether each turn wants a new process, in which nothing ran before.
        operations: floating-point operations of one item, where that is known.
        dtype: what it computes in, "float32" or "bfloat16"; of use where `operations` are known.
        is_limit: whether it is no contender but what the machine can do.
    """

    name: str
    make: str
    options: Mapping = dataclasses.field(default_factory=dict)
    environment: Mapping = dataclasses.field(default_factory=dict)
    fresh: bool = False
    operations: float = 0.0
    dtype: str = "float32"
    is_limit: bool = False


@dataclasses.dataclass
class Turns:
    """What the turns of one contender gave, in the order of the rounds.

    Attributes:
        amounts: items done in each turn, such as images.
        seconds: by the clock.
        processor: seconds of all cores together.
        peak_mib: the largest memory of the process so far, in MiB.
        error: why it was not measured; then the lists are empty.
    """

    amounts: list[float] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)
    processor: list[float] = dataclasses.field(default_factory=list)
    peak_mib: list[float] = dataclasses.field(default_factory=list)
    error: str | None = None

    def add(self, reply: Mapping[str, float]) -> None:
        self.amounts.append(reply["amount"])
        self.seconds.append(reply["seconds"])
        self.processor.append(reply["processor"])
        self.peak_mib.append(reply["peak_mib"])


class Failed(Exception):
    """A contender's process ended before its answer; the message is the last line that it wrote."""


class Process:
    """The process of a contender, which waits for its turns.

    Args:
        contender: what it runs.
        seconds: how long a turn goes on at least; a fresh one does its work once.
    """

    def __init__(self, contender: Contender, seconds: float):
        # Again in the same process, an import or a build would find what the first one left.
        warm_up, seconds = (0, 0.0) if contender.fresh else (WARM_UP, seconds)
        task = {"make": contender.make, "options": dict(contender.options), "seconds": seconds, "warm_up": warm_up}
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `close`
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(task)],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **contender.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        self._answer()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            lines = [text for text in self.errors.read().splitlines() if text.strip()]
            raise Failed(lines[-1].strip() if lines else f"ended with code {self.process.returncode}")
        return json.loads(line)

    def turn(self) -> dict:
        """Let it work for one turn, and return what it says.

        Raises:
            Failed: it ended.
        """
        with contextlib.suppress(BrokenPipeError):  # `_answer` finds out why
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            self.process.stdin.close()
        self.process.wait()
        self.errors.close()


def alternate(contenders: Sequence[Contender], rounds: int, seconds: float, note=print) -> dict[str, Turns]:
    """Measure contenders in rounds, each of them once a round, the first one of a round going last in the next.

    All processes are set up, one after the other, before the first round. One that fails is left out from there on.

    Args:
        contenders: of different names.
        rounds: how often each has its turn.
        seconds: how long a turn goes on at least.
        note: called with a line about each step.

    Returns:
        Name -> what was measured.
    """
    results = {contender.name: Turns() for contender in contenders}
    processes = {}

    def attempt(contender: Contender, action) -> None:
        try:
            action()
        except Failed as error:
            # What was measured before is forgotten: one that broke down once is not to be compared.
            results[contender.name] = Turns(error=str(error))
            note(f"{contender.name}: not measured, {error}")

    def start(contender: Contender) -> None:
        processes[contender.name] = Process(contender, seconds)

    def measure(contender: Contender) -> None:
        if contender.fresh:
            start(contender)
        reply = processes[contender.name].turn()
        results[contender.name].add(reply)
        if contender.fresh:
            processes.pop(contender.name).close()
        spent = f"{reply['seconds']:.3f} s, {reply['processor']:.3f} s of processor time"
        note(f"{contender.name}: {reply['amount']:g} in {spent}")

    try:
        for contender in contenders:
            if not contender.fresh:
                attempt(contender, lambda contender=contender: start(contender))
        for number in range(rounds):
            first = number % len(contenders)
            for contender in [*contenders[first:], *contenders[:first]]:
                if results[contender.name].error is None:
                    time.sleep(PAUSE)
                    attempt(contender, lambda contender=contender: measure(contender))
    finally:
        for process in processes.values():
            process.close()
    return results
