"""The process of one contender: sets it up, says that it is ready, and answers each line of its input with one turn.

Started by `alternating.Process`, not by hand. Each answer is a line of JSON: items done, seconds by the clock, seconds
of the processor, and the largest memory of the process so far.
"""

import json
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from benchmarks import contenders


def processor_seconds() -> float:
    """Seconds of processor time of this process and of the children that it waited for."""
    return sum(os.times()[:4])


def peak_mib() -> float:
    """The largest memory of this process so far.

    Not `getrusage`, which counts what the parent had before this program was loaded.
    """
    status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 2**10


def measured(turn, seconds: float) -> dict[str, float]:
    """Repeat a turn until `seconds` have passed; one that measures itself is run once."""
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
    # Answers have a way of their own: libraries print what they like.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value: dict) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    turn = getattr(contenders, task["make"])(**task["options"])
    for _ in range(task["warm_up"]):
        turn()
    answer({})
    for _ in sys.stdin:
        reply = measured(turn, task["seconds"])
        answer({"peak_mib": peak_mib(), **reply})


if __name__ == "__main__":
    main()
