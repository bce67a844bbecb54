"""Long trials of crash safety, run by hand: kill -9, SIGTERM and full disks at random moments of real training runs.

    python tests/classification/soak.py kills --times=100
    python tests/classification/soak.py sigterm --times=20
    python tests/classification/soak.py full_disk --times=20

Each prints one JSON line with its counts and exits with 1 if a single trial failed. `test_train.py` has small samples.
"""

import argparse
import dataclasses
import json
import pathlib
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from keras_resnet.classification.run import ClassifierRun  # noqa: E402
from tests.classification import small_runs  # noqa: E402
from tests.classification.small_runs import CONFIG  # noqa: E402
from tests.runs import assert_equal, newest_step, variables_of  # noqa: E402


class Trial:
    """A training run in a separate process and a folder.

    Args:
        folder: of the run and its config.
        config: the run.
    """

    def __init__(self, folder, config):
        self.folder = pathlib.Path(folder)
        self.run = self.folder / "run"
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.json").write_text(config.to_json())

    def start(self):
        """Start or restart the run and wait until it has saved a checkpoint."""
        before = newest_step(self.run)
        command = [sys.executable, small_runs.__file__, str(self.folder / "config.json"), str(self.run)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        while self.process.poll() is None and newest_step(self.run) == before:
            time.sleep(0.01)
        return self.process

    def finish(self):
        """Let the run come to its end."""
        self.start()
        output, _ = self.process.communicate()
        assert self.process.returncode == 0, output


def kills(folder, times):
    """Kill a run that saves at each step, again and again; it must go on each time and end as the undisturbed one."""
    config = dataclasses.replace(CONFIG, steps=1000 * times, checkpoint_steps=1, eval_steps=20)
    trial, resumed, inside = Trial(folder / "killed", config), 0, 0
    for number in range(1, times + 1):
        process = trial.start()
        time.sleep(random.uniform(0, 0.4))
        process.kill()
        output, _ = process.communicate()
        resumed += process.returncode == -signal.SIGKILL and "Error" not in output
        inside += bool(list(trial.run.glob("checkpoints/*_temp*")))
        print(f"{number} kills, {resumed} resumed, {inside} inside a save", file=sys.stderr, flush=True)
    last = newest_step(trial.run)
    end = last // 20 * 20 + 20
    # Both go to the same end; a folder's config may not change, so the files are edited as a user must not.
    ended = dataclasses.replace(config, steps=end)
    for path in (trial.folder / "config.json", trial.run / "config.json"):
        text = path.read_text()
        path.write_text(re.sub(r'"steps": \d+', f'"steps": {end}', text, count=1))
    trial.finish()
    whole = Trial(folder / "whole", ended)
    whole.finish()
    assert_equal(variables_of(ClassifierRun.open(trial.run)), variables_of(ClassifierRun.open(whole.run)))
    return {"kills": times, "resumed": resumed, "inside a save": inside, "steps": end, "bit-equal at the end": True}


def sigterm(folder, times):
    """Terminate a run that saves rarely; it must save the current step, within 30 s."""
    config = dataclasses.replace(CONFIG, steps=10_000_000, checkpoint_steps=1_000_000, eval_steps=50)
    trial, saved, longest = Trial(folder / "run", config), 0, 0.0
    for _ in range(times):
        process = trial.start()
        time.sleep(random.uniform(0, 1.0))
        sent = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate()
        longest = max(longest, time.perf_counter() - sent)
        said = re.search(r"stopped by SIGTERM at step (\d+)", output)
        saved += bool(said) and int(said.group(1)) == newest_step(trial.run)
    return {"signals": times, "saved the step": saved, "longest seconds": round(longest, 2)}


def full_disk(folder, times):
    """Let no file grow beyond a few kB; the run must say so, and the checkpoint before stays as it is."""
    config = dataclasses.replace(CONFIG, steps=10_000_000, checkpoint_steps=5, eval_steps=50)
    trial, intact, clear = Trial(folder / "run", config), 0, 0
    for _ in range(times):
        process = trial.start()
        time.sleep(random.uniform(0, 0.5))
        process.send_signal(signal.SIGSTOP)
        before = newest_step(trial.run)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (random.randrange(1, 60_000), resource.RLIM_INFINITY))
        process.send_signal(signal.SIGCONT)
        output, _ = process.communicate()
        # Reading every tensor checks their sums.
        intact += newest_step(trial.run) >= before and bool(variables_of(ClassifierRun.open(trial.run)))
        clear += "cannot be written" in output
    trial.start().kill()
    return {"full disks": times, "older checkpoint intact": intact, "clear message": clear}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("trial", choices=["kills", "sigterm", "full_disk"])
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        result = globals()[arguments.trial](pathlib.Path(folder), arguments.times)
    print(json.dumps({**result, "seed": arguments.seed}))
    counts = [value for name, value in result.items() if name in ("resumed", "saved the step", "clear message")]
    sys.exit(0 if all(count == arguments.times for count in counts) else 1)
