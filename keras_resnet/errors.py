"""What command lines answer in one sentence: the caller's input is wrong, or a signal or another worker ended a run."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable, Sequence


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


def did_you_mean(name: object, allowed: Iterable[object]) -> str:
    """Return " (did you mean 'NEAREST'?)", or "" if no allowed name is near."""
    text = str(name).lower()
    near = difflib.get_close_matches(text, [str(other) for other in allowed], n=5)
    if not near:
        return ""
    # Names of networks and presets differ at their ends: of equally near ones, the longest common beginning decides.
    best = max(
        near,
        key=lambda other: (
            difflib.SequenceMatcher(None, other, text).ratio(),
            _common_prefix(other, text),
        ),
    )
    return f" (did you mean {best!r}?)"


def _common_prefix(first: str, second: str) -> int:
    """The number of characters with which both texts begin."""
    return next(
        (index for index, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]),
        min(len(first), len(second)),
    )


def check_choice(name: str, value: object, allowed: Iterable[object]) -> None:
    """Raise `InputError` unless `value` is one of `allowed`."""
    allowed = list(allowed)
    if value not in allowed:
        hint = did_you_mean(value, allowed)
        raise InputError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}{hint}.")
