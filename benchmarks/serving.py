"""Measure the latency of SavedModels with folded and unfolded batch norm, in alternating rounds.

    python benchmarks/serving.py                                 # ResNet50, batches of 1 and 32
    python benchmarks/serving.py --model=ResNet20 --batches=1 --rounds=3

Both SavedModels are exported in a separate process and run here by TensorFlow's C API, without Keras. Each round runs
both, in alternating order; the output is medians, ranges, and the median of the per-round ratios.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.serving.harness import Model  # noqa: E402

KINDS = ("folded", "unfolded")


def export(model: str, folder: str) -> None:
    """Write both SavedModels of a network with random weights."""
    import keras_resnet
    from keras_resnet.serving import saved_model
    from tests.serving.sources import Source, settle

    source = Source(settle(getattr(keras_resnet, model)()))
    for kind in KINDS:
        saved_model.export(source, pathlib.Path(folder, kind), fold=kind == "folded")


def compare(models: dict[str, Model], side: int, batch: int, rounds: int, seconds: float) -> None:
    """Time both in alternating rounds and print a row."""
    images = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3)).astype("uint8")
    outputs = {kind: model.run("images", {"images": images})["probabilities"] for kind, model in models.items()}
    difference = np.abs(outputs["folded"] - outputs["unfolded"]).max()
    times = {kind: [] for kind in KINDS}
    for number in range(rounds + 1):
        for kind in KINDS if number % 2 else reversed(KINDS):
            count, start = 0, time.perf_counter()
            while not count or time.perf_counter() - start < seconds:
                models[kind].run("images", {"images": images})
                count += 1
            if number:  # the first round warms up
                times[kind].append(1e3 * (time.perf_counter() - start) / count)
    ratios = np.array(times["folded"]) / np.array(times["unfolded"])
    row = " | ".join(f"{np.median(times[kind]):.2f} ({min(times[kind]):.2f}-{max(times[kind]):.2f})" for kind in KINDS)
    print(f"| {batch} | {row} | {np.median(ratios):.3f} | {difference:.1e} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ResNet50", help="Constructor of the network.")
    parser.add_argument("--batches", default="1,32", help="Images per request.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.0, help="Least seconds of each in a round.")
    parser.add_argument("--export", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.export:
        export(arguments.model, arguments.export)
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, f"--model={arguments.model}", f"--export={folder}"]
        subprocess.run(command, check=True)
        models = {kind: Model(pathlib.Path(folder, kind, "1")) for kind in KINDS}
    import keras_resnet

    side = {"imagenet": 224, "cifar": 32}[keras_resnet.ARCHITECTURES[arguments.model].stem]
    print(f"{arguments.model}, milliseconds per request: median (range) of {arguments.rounds} rounds")
    print("| batch | folded | unfolded | folded / unfolded, median of ratios | max. difference |")
    print("|---:|---:|---:|---:|---:|")
    for batch in map(int, arguments.batches.split(",")):
        compare(models, side, batch, arguments.rounds, arguments.seconds)


if __name__ == "__main__":
    main()
