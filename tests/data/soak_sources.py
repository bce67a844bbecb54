"""Long trial of crash safety with every source, run by hand: SIGTERM and kill -9 in the middle of epochs.

    python tests/data/soak_sources.py --times=2

trains a small network on each source twice: without interruption, and with a SIGTERM and `times` kills at random
moments. Prints one JSON line per source and exits with 1 if the variables of both differ.
"""

import argparse
import contextlib
import dataclasses
import json
import multiprocessing
import os
import pathlib
import random
import signal
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import imagenet_shards  # noqa: E402
from keras_resnet.classification import train  # noqa: E402
from keras_resnet.classification.config import ClassifierConfig  # noqa: E402
from keras_resnet.classification.run import ClassifierRun  # noqa: E402
from keras_resnet.models import resnet  # noqa: E402
from tests.classification.small_runs import CONFIG  # noqa: E402
from tests.networks import one_block  # noqa: E402
from tests.runs import assert_equal, newest_step, variables_of  # noqa: E402

COUNT, BATCH, STEPS = 1000, 64, 80
"""Images, images in a batch, and steps: five epochs, whose ends are inside batches."""


def config_of(kind, folder, count=COUNT):
    """A run on a source of `count` images."""
    pool = imagenet_shards.photographs(16, 3)
    name, sequential = imagenet_shards.write(kind, folder, pool, count, 16)
    return dataclasses.replace(
        CONFIG,
        dataset=name,
        sequential=sequential,
        eval_split="train[:64]",
        batch_size=BATCH,
        steps=STEPS,
        decay_steps=(60,),
        checkpoint_steps=7,
        eval_steps=40,
        image_size=16,
        crop="inception",
    )


def run(folder):
    """Train or resume a run; its output goes to a file."""
    with open(folder / "output.txt", "a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        resnet.CONSTRUCTORS["resnet20"] = one_block
        train.train(ClassifierConfig.from_file(folder / "config.json"), folder / "run")


def start(folder):
    """Start or restart a run in a process of its own, which is forked from one that has imported TensorFlow."""
    process = multiprocessing.get_context("forkserver").Process(target=run, args=(folder,))
    process.start()
    return process


def interrupt(folder, number):
    """Send a signal some time after the next checkpoint; return the step that the next process starts from."""
    before, process = newest_step(folder / "run"), start(folder)
    while process.is_alive() and newest_step(folder / "run") == before:
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.1))
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode, "the run had ended"
    return newest_step(folder / "run")


def trial(kind, folder, times):
    """Compare the runs on a source; return the steps of the interruptions."""
    config, runs = config_of(kind, folder), {}
    for name in ("whole", "interrupted"):
        runs[name] = folder / "runs" / kind / name
        runs[name].mkdir(parents=True)
        (runs[name] / "config.json").write_text(config.to_json())
    steps = [interrupt(runs["interrupted"], number) for number in [signal.SIGTERM] + [signal.SIGKILL] * times]
    for path in runs.values():
        process = start(path)
        process.join()
        assert process.exitcode == 0, (path / "output.txt").read_text()
    assert_equal(*(variables_of(ClassifierRun.open(path / "run")) for path in runs.values()))
    return steps


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(imagenet_shards.KINDS[1:]))
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        for kind in arguments.kinds.split(","):
            steps = trial(kind, pathlib.Path(folder), arguments.times)
            print(json.dumps({"source": kind, "resumed at": steps, "bit-equal at the end": True}), flush=True)
