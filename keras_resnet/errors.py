"""Errors that the command prints in one sentence: bad input, or a run ended by a signal or by another worker."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable, Sequence


class InputError(ValueError):
    """A bad argument; the message names the argument, what is allowed and the value.

    It is a `ValueError`, so users of the library need not know it. The command prints it without a traceback and exits
    with 1.
    """


class Stopped(Exception):
    """A run was stopped by a signal, after it saved a checkpoint.

    Attributes:
        signal: number of the signal; the command exits with 128 more.
        step: step of the checkpoint.
    """

    def __init__(self, number: int, step: int):
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name} at step {step}; checkpoint saved. Rerun the same command to resume.")
        self.signal = number
        self.step = step


class PeerLost(Exception):
    """A run ended because another worker did, or did not respond; its newest checkpoint is intact.

    Attributes:
        code: exit code of the command: 75, which means "try again".
    """

    code = 75

    def __init__(self, worker: int, others: Sequence[str], reason: str):
        lost = f"worker {others[0]}" if len(others) == 1 else f"one of the workers {', '.join(others)}"
        super().__init__(
            f"worker {worker} stopping: lost {lost}; restart all workers to resume from the newest checkpoint "
            f"({reason.rstrip('.')})."
        )


def nearest(name: object, allowed: Iterable[object]) -> str:
    """Return the allowed name that is most similar, ignoring case, or "" if none is similar."""
    text = str(name).lower()
    spellings = {str(other).lower(): str(other) for other in allowed}
    near = difflib.get_close_matches(text, spellings, n=5)
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
    return spellings[best]


def did_you_mean(name: object, allowed: Iterable[object]) -> str:
    """Return " (did you mean 'NEAREST'?)", ignoring case, or "" if no allowed name is similar."""
    similar = nearest(name, allowed)
    return f" (did you mean {similar!r}?)" if similar else ""


def nearest_first(name: object, allowed: Iterable[str]) -> list[str]:
    """Return the allowed names sorted by their similarity to `name`; equally similar ones keep their order."""
    text = str(name).lower()
    return sorted(allowed, key=lambda other: -difflib.SequenceMatcher(None, other.lower(), text).ratio())


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


def counted(count: int, singular: str, plural: str = "") -> str:
    """Return a number with its noun: "1 box", "2 boxes"; the plural is that with an s by default."""
    return f"{count} {singular if count == 1 else plural or singular + 's'}"


def listed(names: Iterable[object], most: int = 5) -> str:
    """Return the first names, separated by commas, and how many more there are."""
    names = list(names)
    further = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + further
