"""Measure contenders in separate processes and in turns, so that other work on the machine affects all of them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

WORKER = pathlib.Path(__file__).with_name("worker.py")

WARM_UP = 3
"""Turns before the measured ones, in processes that run several."""

PAUSE = 0.3
"""Seconds between turns, until the threads of the last one are idle."""


@dataclasses.dataclass(frozen=True)
class Contender:
    """One row of a benchmark.

    Attributes:
        name: its name in tables.
        make: name of the function in `contenders` that sets it up and returns its turn function.
        options: keyword arguments of that function; JSON types.
        environment: environment variables of its process.
        fresh: whether each turn requires a new process.
        operations: floating-point operations per item, if known.
        dtype: "float32" or "bfloat16"; used if `operations` is known.
        is_limit: whether it measures the machine's limit instead of a contender.
        planned: expected seconds until its first turn; if a deadline leaves less, it is not started.
        priority: contenders that do not take turns with others are measured in this order, lowest first.
    """

    name: str
    make: str
    options: Mapping = dataclasses.field(default_factory=dict)
    environment: Mapping = dataclasses.field(default_factory=dict)
    fresh: bool = False
    operations: float = 0.0
    dtype: str = "float32"
    is_limit: bool = False
    planned: float = 0.0
    priority: int = 0


@dataclasses.dataclass
class Turns:
    """Measurements of one contender, one entry per round.

    Attributes:
        amounts: items processed in each turn, such as images.
        seconds: wall time.
        processor: processor seconds over all cores.
        peak_mib: peak memory of the process so far, in MiB.
        device_mib: peak memory of its arrays on a GPU so far, in MiB; empty on a CPU.
        error: why it was not measured; if set, the lists are empty.
    """

    amounts: list[float] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)
    processor: list[float] = dataclasses.field(default_factory=list)
    peak_mib: list[float] = dataclasses.field(default_factory=list)
    device_mib: list[float] = dataclasses.field(default_factory=list)
    error: str | None = None

    def add(self, reply: Mapping[str, float]) -> None:
        self.amounts.append(reply["amount"])
        self.seconds.append(reply["seconds"])
        self.processor.append(reply["processor"])
        self.peak_mib.append(reply["peak_mib"])
        if "device_mib" in reply:
            self.device_mib.append(reply["device_mib"])


class Failed(Exception):
    """A contender's process exited without an answer; the message is its last line of output."""


class Process:
    """The process of a contender; it waits for its turns.

    Args:
        contender: the contender.
        seconds: least seconds of a turn; fresh contenders run once per turn.
        deadline: value of `time.monotonic()` at which the process is killed, if any.
    """

    def __init__(self, contender: Contender, seconds: float, deadline: float | None = None):
        # A second import or build in the same process would find cached results of the first.
        warm_up, seconds = (0, 0.0) if contender.fresh else (WARM_UP, seconds)
        task = {"make": contender.make, "options": dict(contender.options), "seconds": seconds, "warm_up": warm_up}
        self.deadline = deadline
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
        left = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
        if not select.select([self.process.stdout], [], [], left)[0]:
            self.process.kill()
            raise Failed("stopped at the time limit")
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            lines = [text for text in self.errors.read().splitlines() if text.strip()]
            raise Failed(lines[-1].strip() if lines else f"ended with code {self.process.returncode}")
        return json.loads(line)

    def turn(self) -> dict:
        """Run one turn and return its measurements.

        Raises:
            Failed: the process exited, or was killed at the deadline.
        """
        with contextlib.suppress(BrokenPipeError):  # `_answer` reports the reason
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):  # it has already exited
            self.process.stdin.close()
        self.process.wait()
        self.errors.close()


def alternate(
    contenders: Sequence[Contender], rounds: int, seconds: float, note=print, deadline: float | None = None
) -> dict[str, Turns]:
    """Measure contenders in rounds: each has one turn per round, and the order rotates by one from round to round.

    All processes are set up, one after the other, before the first round. A contender that fails is left out afterward.

    Args:
        contenders: contenders with different names.
        rounds: number of turns of each.
        seconds: least seconds of a turn.
        note: called with a line about each step.
        deadline: value of `time.monotonic()` at which all processes are killed, if any.

    Returns:
        Name -> measurements.
    """
    results = {contender.name: Turns() for contender in contenders}
    processes = {}

    def attempt(contender: Contender, action) -> None:
        try:
            action()
        except Failed as error:
            # Discard earlier measurements: a contender that failed once is not compared.
            results[contender.name] = Turns(error=str(error))
            note(f"{contender.name}: not measured, {error}")

    def start(contender: Contender) -> None:
        needed = contender.planned + (0.0 if contender.fresh else rounds * seconds)
        if deadline is not None and time.monotonic() + needed > deadline:
            raise Failed("no time left")
        processes[contender.name] = Process(contender, seconds, deadline)

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
