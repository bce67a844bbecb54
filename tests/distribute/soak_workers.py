"""Long trials of two workers on one machine, run by hand: one is killed, stopped or terminated; the other must end.

    python tests/distribute/soak_workers.py saves --times=100
    python tests/distribute/soak_workers.py kills --times=5
    python tests/distribute/soak_workers.py stops --times=2
    python tests/distribute/soak_workers.py sigterm --times=4
    python tests/distribute/soak_workers.py curves --times=3 --data_dir=DIR

`saves` kills a single worker, which saves every step, at random times, and counts how often a checkpoint was being
written. `kills` also restarts both each time. At the end these two compare the run with one that nobody disturbed, and
`saves` reads each checkpoint that a kill leaves. `curves` trains
ResNet-20 on CIFAR-10 for 300 steps, alone and as two workers, with as many seeds. Each prints one JSON line with what
it saw, and exits with 1 if a single trial failed.
"""

import argparse
import itertools
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from keras_resnet.classification.run import ClassifierRun  # noqa: E402
from keras_resnet.cli import main as cli  # noqa: E402
from keras_resnet.distribute import launch  # noqa: E402
from keras_resnet.experiment.curves import read_metrics  # noqa: E402
from tests.runs import newest_step, variables_of  # noqa: E402

LOST_CODE = 75


class Pair:
    """Two workers that train ResNet-20 on small random images in one folder.

    Args:
        folder: of the run.
        steps: of the run.
        checkpoint_steps: steps between checkpoints.
    """

    def __init__(self, folder, steps, checkpoint_steps):
        self.run = folder / "run"
        self.command = [
            *(sys.executable, "-m", "keras_resnet.cli.main", "train", "--dataset=synthetic:8x8x4", "--batch_size=16"),
            *(f"--steps={steps}", f"--checkpoint_steps={checkpoint_steps}", "--eval_steps=100", "--op_determinism"),
            *("--decay_steps=", f"--workdir={self.run}"),
        ]

    def start(self):
        """Start both and wait until they have saved a checkpoint."""
        before = newest_step(self.run)
        self.logs = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115
        addresses = [f"localhost:{port}" for port in launch.free_ports(2)]
        self.processes = []
        for number, log in enumerate(self.logs):
            values = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
            environment = {**os.environ, "TF_CONFIG": json.dumps(values)}
            self.processes.append(
                subprocess.Popen(self.command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
            )
        while newest_step(self.run) == before and self.codes() == [None, None]:
            time.sleep(0.02)
        return self.processes

    def codes(self):
        return [process.poll() for process in self.processes]

    def said(self, number):
        self.logs[number].seek(0)
        return self.logs[number].read().decode()


def fork(command, log):
    """Run a command in a fork of this process, which has imported TensorFlow but not used it."""
    child = os.fork()
    if child:
        return child
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    code = 1
    try:
        code = cli.run(command[0], command[1:])
    finally:
        os._exit(code)


def saves(folder, times, data_dir):
    """Kill -9 a single worker that saves every step; each checkpoint it leaves must be whole, and the end the same."""
    steps, resumed, writing, seen = 25 * times, 0, 0, []

    def command(run):
        return [
            *("train", "--dataset=synthetic:8x8x4", "--batch_size=4", f"--steps={steps}", "--checkpoint_steps=1"),
            *("--eval_steps=100000", "--eval_split=test[:20]", "--op_determinism", "--decay_steps="),
            *("--learning_rate=0.01", f"--workdir={run}"),
        ]

    def finish(run):
        with open(folder / "log", "wb") as log:
            return os.waitstatus_to_exitcode(os.waitpid(fork(command(run), log), 0)[1])

    run = folder / "killed"
    for number in range(times):
        before = newest_step(run)
        with open(folder / "log", "wb") as log:
            child = fork(command(run), log)
        while newest_step(run) == before:
            if os.waitpid(child, os.WNOHANG)[0]:
                sys.exit((folder / "log").read_text())
            time.sleep(0.02)
        time.sleep(random.uniform(0, 0.6))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        writing += bool(list((run / "checkpoints").glob("*_temp*")))
        values = variables_of(ClassifierRun.open(run))  # reads every value; damage is an error
        seen.append(newest_step(run))
        resumed += len(values) > 0 and seen[-1] > before
        print(f"kill {number}: step {seen[-1]}, {writing} while writing", file=sys.stderr, flush=True)
    finished = [finish(run), finish(folder / "whole")]
    ours, theirs = (variables_of(ClassifierRun.open(folder / name)) for name in ("killed", "whole"))
    equal = all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    return {
        "kills": times,
        "passed": resumed,
        "while writing": writing,
        "steps": steps,
        "last kill at step": seen[-1],
        "bit-equal at the end": equal and finished == [0, 0],
    }


def kills(folder, times, data_dir):
    """Kill -9 one of them, in turns: the other must exit within 90 s; both are then restarted."""
    steps = 60 * times + 40
    pair, ended, seconds, steps_seen = Pair(folder / "killed", steps, 10), 0, [], []
    for number in range(times):
        processes, victim = pair.start(), number % 2
        time.sleep(random.uniform(0, 1))
        processes[victim].kill()
        start = time.perf_counter()
        code = processes[1 - victim].wait(timeout=300)
        seconds.append(round(time.perf_counter() - start, 1))
        said = pair.said(1 - victim)
        clear = re.search(rf"worker {1 - victim} stopping: lost worker {victim} \(localhost:\d+\)", said)
        ended += code == LOST_CODE and bool(clear) and seconds[-1] < 90
        steps_seen.append(newest_step(pair.run))
        print(f"worker {victim} killed: {code}, {seconds[-1]} s, step {steps_seen[-1]}", file=sys.stderr, flush=True)
        if not clear:
            print(said[-3000:], file=sys.stderr)
    pair.start()
    finished = [process.wait() for process in pair.processes]
    whole = Pair(folder / "whole", steps, 10)
    whole.start()
    finished += [process.wait() for process in whole.processes]
    ours, theirs = (variables_of(ClassifierRun.open(one.run)) for one in (pair, whole))
    equal = all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    return {
        "kills": times,
        "passed": ended,
        "seconds": seconds,
        "newest steps": steps_seen,
        "bit-equal at the end": equal and finished == [0] * 4,
    }


def stops(folder, times, data_dir):
    """SIGSTOP one of them, in turns: the other must end within 3 minutes."""
    pair, ended, seconds = Pair(folder / "stopped", 1_000_000, 10), 0, []
    for number in range(times):
        processes, victim = pair.start(), number % 2
        processes[victim].send_signal(signal.SIGSTOP)
        start = time.perf_counter()
        code = processes[1 - victim].wait(timeout=600)
        seconds.append(round(time.perf_counter() - start, 1))
        processes[victim].kill()
        ended += code == LOST_CODE and "stopping: lost worker" in pair.said(1 - victim) and seconds[-1] < 180
        print(f"worker {victim} stopped: {code}, {seconds[-1]} s", file=sys.stderr, flush=True)
    return {"stops": times, "passed": ended, "seconds": seconds}


def sigterm(folder, times, data_dir):
    """SIGTERM one of them, in turns: both must save the same step and end with 143."""
    pair, saved, seconds = Pair(folder / "terminated", 1_000_000, 1_000_000), 0, []
    for number in range(times):
        processes, victim = pair.start(), number % 2
        time.sleep(random.uniform(0, 1))
        start = time.perf_counter()
        processes[victim].terminate()
        codes = [process.wait(timeout=300) for process in processes]
        seconds.append(round(time.perf_counter() - start, 1))
        steps = [re.search(r"stopped by SIGTERM at step (\d+)", pair.said(one)) for one in (0, 1)]
        steps = [int(found.group(1)) if found else None for found in steps]
        saved += codes == [143, 143] and steps == [newest_step(pair.run)] * 2
        print(f"SIGTERM to worker {victim}: {codes}, steps {steps}", file=sys.stderr, flush=True)
    return {"signals": times, "passed": saved, "seconds": seconds}


def curves(folder, times, data_dir):
    """Compare the training losses of one worker and of two, 50 steps each, with how much they differ between seeds."""
    losses = {1: [], 2: []}
    for seed, count in itertools.product(range(times), losses):
        command = [
            *("train", "--preset=cifar10_resnet20", f"--data_dir={data_dir}", "--steps=300", "--eval_steps=50"),
            *("--eval_split=test[:1000]", f"--seed={seed}", f"--workdir={folder}/{count}_{seed}"),
        ]
        module = [sys.executable, "-m", "keras_resnet.cli.main"]
        if count == 1:
            subprocess.run([*module, *command, "--strategy=one"], cwd=ROOT, check=True)
        else:
            subprocess.run([*module, "launch", f"--workers={count}", *command], cwd=ROOT, check=True)
        records = read_metrics(folder / f"{count}_{seed}" / "metrics.jsonl")
        losses[count].append([record["loss"] for record in records])
    one, two = (np.array(losses[count]) for count in losses)
    difference = two.mean(0) - one.mean(0)
    # The means over seeds differ by chance; up to three standard deviations of their difference are noise.
    noise = 3 * np.sqrt((one.var(0, ddof=1) + two.var(0, ddof=1)) / times)
    return {
        "seeds": times,
        "passed": times if np.all(np.abs(difference) <= noise) else 0,
        "steps": [50, 100, 150, 200, 250, 300],
        "one worker": one.mean(0).round(4).tolist(),
        "two workers": two.mean(0).round(4).tolist(),
        "three deviations of the difference": noise.round(4).tolist(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("trial", choices=["saves", "kills", "stops", "sigterm", "curves"])
    parser.add_argument("--data_dir", help="folder of prepared tensorflow-datasets, for curves")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        result = globals()[arguments.trial](pathlib.Path(folder), arguments.times, arguments.data_dir)
    print(json.dumps({**result, "seed": arguments.seed}))
    sys.exit(0 if result["passed"] == arguments.times and result.get("bit-equal at the end", True) else 1)
