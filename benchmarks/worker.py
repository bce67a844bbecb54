"""The process of one contender: set it up, report that it is ready, and run one turn for each line of input.

Started by `alternating.Process`, not by hand. Each answer is a line of JSON: items processed, wall seconds, processor
seconds, and the peak memory of the process so far, also on a GPU if it has one.
"""

import json
import os
import pathlib
import sys
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from benchmarks import contenders, tasks


def find(make: str) -> Callable[..., contenders.Turn]:
    """Return the function that sets up a contender."""
    return getattr(tasks if hasattr(tasks, make) else contenders, make)


def processor_seconds() -> float:
    """Return the processor seconds of this process and of the children that it waited for."""
    return sum(os.times()[:4])


def peak_mib() -> float:
    """Return the peak memory of this process so far, in MiB.

    `getrusage` would include the memory of the parent before this program was loaded.
    """
    status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 2**10


def device_mib() -> float | None:
    """Return the peak memory of this process's arrays on the first GPU so far, in MiB; None without a GPU.

    It includes what the libraries tried when they chose algorithms.
    """
    if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    if jax := sys.modules.get("jax"):
        statistics = jax.local_devices()[0].memory_stats()  # None on a CPU
        return statistics["peak_bytes_in_use"] / 2**20 if statistics else None
    if (tf := sys.modules.get("tensorflow")) and tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
    return None


def measured(turn, seconds: float) -> dict[str, float]:
    """Repeat a turn until `seconds` have passed; a turn that measures itself runs once."""
    start, processor, amount = time.perf_counter(), processor_seconds(), 0.0
    while True:
        done = turn()
        if isinstance(done, dict):
            return done
        amount += done
        passed = time.perf_counter() - start
        if passed >= seconds:
            return {"amount": amount, "seconds": passed, "processor": processor_seconds() - processor}


def main() -> None:
    task = json.loads(sys.argv[1])
    # Answers use a separate descriptor, because libraries print to stdout.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value: dict) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    turn = find(task["make"])(**task["options"])
    for _ in range(task["warm_up"]):
        turn()
    answer({})
    for _ in sys.stdin:
        reply = measured(turn, task["seconds"])
        device = device_mib()
        answer({"peak_mib": peak_mib(), **({} if device is None else {"device_mib": device}), **reply})


if __name__ == "__main__":
    main()
