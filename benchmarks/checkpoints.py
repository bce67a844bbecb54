"""Measure what checkpoints cost a training run: written in the step, and in the background, against none.

    python benchmarks/checkpoints.py --every=20 --rounds=5

Turns of `--every` steps of a network, in one process and in turns: without a checkpoint, with one that `save` writes
before the first step, and with one that a thread writes during the steps. Prints one JSON line: for each, the median
and the smallest of wall and processor seconds (user and system) in a turn, and of the wall seconds in `save` itself.
"""

import argparse
import json
import pathlib
import resource
import statistics
import tempfile
import time

import numpy as np
import tensorflow as tf

import keras_resnet
from keras_resnet.training import losses, optimizers
from keras_resnet.training.checkpoints import Checkpoints

WAYS = {"none": None, "in the step": False, "in the background": True}
"""Name -> whether a checkpoint is written in the background; None for none."""


def processor_seconds():
    """Return the processor seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def turn(step, saver, every):
    """Take `every` steps after a save; return (wall seconds, processor seconds, wall seconds in `save`)."""
    wall, processor = time.perf_counter(), processor_seconds()
    if saver:
        saver.save()
    saving = time.perf_counter() - wall
    for _ in range(every):
        step()
    if saver:
        saver.wait()
    return time.perf_counter() - wall, processor_seconds() - processor, saving


def measure(name, size, batch_size, every, rounds):
    """Return the results of all ways by name."""
    model = getattr(keras_resnet, name)(weights=None, input_shape=(size, size, 3), classifier_activation=None)
    loss = losses.CrossEntropy()
    model.compile(optimizers.make("sgd", 1e-3, weight_decay=1e-4), loss, jit_compile=False)
    random = np.random.default_rng(0)
    images = tf.constant(random.normal(size=(batch_size, size, size, 3)), tf.float32)
    labels = tf.constant(random.integers(0, model.output_shape[-1], batch_size))
    seen = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        savers = {
            way: None if background is None else Checkpoints(model, pathlib.Path(folder, way), 1, background=background)
            for way, background in WAYS.items()
        }
        for number in range(rounds + 1):
            for way, saver in savers.items():
                result = turn(lambda: model.train_on_batch(images, labels), saver, every if number else 1)
                if number:  # the first round warms up
                    seen[way].append(result)
        size_on_disk = max(file.stat().st_size for file in savers["in the step"].folder.glob("*.data*"))
    results = {"model": name, "every": every, "rounds": rounds, "mb": round(size_on_disk / 1e6)}
    for way, turns in seen.items():
        for what, values in zip(("wall", "processor", "in save"), zip(*turns, strict=True), strict=True):
            results[f"{way}, {what}"] = [round(statistics.median(values), 3), round(min(values), 3)]
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="ResNet50")
    parser.add_argument("--size", type=int, default=64, help="side of the images")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--every", type=int, default=20, help="steps in a turn")
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    print(json.dumps(measure(flags.model, flags.size, flags.batch_size, flags.every, flags.rounds)))
