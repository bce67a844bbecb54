"""Measure the memory and time of localizers with ImageNet's 1000 classes, each row in a process of its own.

    python benchmarks/localization.py --rows=train1:16,train2:16,test1:5,test2:5 --precision=mixed_bfloat16

A row is train1 or train2 with the batch size of a training step of stage 1 or 2, or test1 or test2 with the number of
classes that are localized in an image. Times are the best of --turns after a turn of warm-up.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_resnet.data.transforms import WholeImageTransform
from keras_resnet.localization.inference import Localizer, Views
from keras_resnet.localization.models import RCNN, PerClassRPN
from keras_resnet.training import optimizers


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="train1:16,train2:16,test1:5,test2:5")
    parser.add_argument("--backbone", default="resnet101")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--proposals", type=int, default=200)
    parser.add_argument("--row", help="for the processes that this one starts")
    options = parser.parse_args()
    if options.row:
        measure(options)
        return
    print("| row | processor s | wall s | peak memory GiB |\n|---|---:|---:|---:|")
    for row in options.rows.split(","):
        result = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], f"--row={row}"], capture_output=True, text=True
        )
        print(result.stdout.strip() or f"| {row} | failed: {result.stderr.strip().splitlines()[-1]} | | |", flush=True)


def measure(options: argparse.Namespace) -> None:
    """Print the table's line of a row."""
    kind, count = options.row.split(":")
    turn = (training if kind.startswith("train") else testing)(options, int(kind[-1]), int(count))
    turn()
    times = []
    for _ in range(options.turns):
        start, wall = time.process_time(), time.perf_counter()
        turn()
        times.append((time.process_time() - start, time.perf_counter() - wall))
    processor, wall = (min(column) for column in zip(*times, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"| {kind}, {count} | {processor:.2f} | {wall:.2f} | {peak:.2f} |")


def network(options: argparse.Namespace, stage: int) -> PerClassRPN | RCNN:
    """The network of a stage with fresh weights."""
    return (PerClassRPN, RCNN)[stage - 1](options.backbone, options.classes, policy=options.precision)


def training(options: argparse.Namespace, stage: int, batch_size: int) -> Callable[[], object]:
    """A training step with momentum SGD and coupled weight decay on random images at 224."""
    random = np.random.default_rng(0)
    model = network(options, stage)
    optimizer = optimizers.make("sgd", 0.01, momentum=0.9, weight_decay=1e-4)
    model.compile(optimizer, jit_compile=False)
    boxes = np.tile(np.float32([40, 50, 180, 190]), (batch_size, 1))
    inputs = {
        "images": random.normal(size=(batch_size, 224, 224, 3)).astype("float32"),
        "labels": random.integers(options.classes, size=batch_size).astype("int32"),
    }
    if stage == 1:
        inputs |= {"boxes": boxes[:, None], "seed": random.integers(99, size=(batch_size, 2)).astype("int32")}
    else:
        inputs |= {"boxes": boxes, "proposals": boxes + 9, "positive": np.arange(batch_size, dtype="int32") % 2}
    batches = tf.data.Dataset.from_tensors(inputs).repeat()
    return lambda: model.fit(batches, steps_per_epoch=1, verbose=0)


def testing(options: argparse.Namespace, stage: int, classes: int) -> Callable[[], object]:
    """The boxes of some classes in an image whose whole is warped to 224."""
    rpn, rcnn = network(options, 1), network(options, 2) if stage == 2 else None
    transform = WholeImageTransform((120.0,) * 3, (60.0,) * 3)
    localizer = Localizer(rpn, transform, Views(), rcnn, proposals=options.proposals)
    pixels = tf.constant(np.random.default_rng(0).integers(0, 256, (375, 500, 3), np.uint8))
    asked = tf.range(classes)
    return lambda: localizer(pixels, asked)


if __name__ == "__main__":
    main()
