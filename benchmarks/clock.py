"""Time calls that are too short to be a contender."""

import statistics
import time
from collections.abc import Callable


def median_seconds(call: Callable[[], object], rounds: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the median seconds of a call by a clock such as `time.process_time`, after three warm-up calls."""
    times = []
    for _ in range(rounds + 3):
        start = clock()
        call()
        times.append(clock() - start)
    return statistics.median(times[3:])
