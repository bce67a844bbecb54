"""What command lines answer in one sentence: the caller's input is wrong, or a signal or another worker ended a run."""

from __future__ import annotations

import signal
from collections.abc import Sequence


class InputError(ValueError):
    """A bad argument: the message names the argument, what came and what is allowed.

    It is a `ValueError`, so library users need not know it; command lines print it without a traceback and exit with 1.
    """


class Stopped(Exception):
    """A run ended by a signal, after it saved a checkpoint.

    Attributes:
        signal: the signal's number; command lines exit with 128 more.
        step: the step that was saved.
    """

    def __init__(self, number: int, step: int):
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name} at step {step}, which is saved; run the same command again to go on.")
        self.signal = number
        self.step = step


class PeerLost(Exception):
    """A run ended because another worker did, or was silent for too long; its newest checkpoint is as it was.

    Attributes:
        code: the exit code of command lines: 75, for "try again".
    """

    code = 75

    def __init__(self, own: int, others: Sequence[str], reason: str):
        who = f"worker {others[0]}" if len(others) == 1 else f"one of the workers {', '.join(others)}"
        super().__init__(
            f"worker {own} stops, as {who} ended or is silent; start all again to go on from the newest checkpoint "
            f"({reason.rstrip('.')})."
        )


def check_choice(name: str, value: object, allowed: object) -> None:
    """Raise `InputError` unless `value` is one of `allowed`."""
    if value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}.")
