"""How long a call takes, for what is too short to be a contender of its own."""

import statistics
import time
from collections.abc import Callable


def median_seconds(call: Callable[[], object], rounds: int) -> float:
    """The median time of a call, after three that do not count."""
    times = []
    for _ in range(rounds + 3):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times[3:])
