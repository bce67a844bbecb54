"""How training scales over workers: measured on this machine's cores, and estimated for accelerators.

    python benchmarks/scaling.py measure                # two workers of one core compared with one worker of two
    python benchmarks/scaling.py expect --speed=1000    # efficiency by the formula of docs/scaling.md

`measure` trains one network in three setups, each process pinned to its cores: one worker on two cores, two workers on
one core each, and two independent processes on one core each. The extra time of the second compared with the third is
communication and waiting for each other.
"""

import argparse
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from keras_resnet.distribute import launch
from keras_resnet.models.architectures import ARCHITECTURES

ROOT = pathlib.Path(__file__).parent.parent


def work(arguments):
    """Train for some steps in this process and print the seconds of each timed step."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    import keras_resnet
    from keras_resnet.data import pipeline, sources
    from keras_resnet.data.transforms import TrainTransform
    from keras_resnet.distribute import strategy
    from keras_resnet.training.losses import CrossEntropy
    from keras_resnet.training.optimizers import SGD

    times = []

    def note(batch, logs):
        float(logs["loss"])  # available when the step is complete
        times.append(time.perf_counter())

    where = strategy.make()
    dataset, batch_size = sources.load("synthetic:32x32x10"), arguments.batch_size
    transform = TrainTransform((32, 32), dataset.info.mean, dataset.info.std)
    keras.utils.set_random_seed(0)
    with where.scope():
        model = getattr(keras_resnet, arguments.model)(classifier_activation=None)
        model.compile(SGD(0.1, momentum=0.9, l2=1e-4), CrossEntropy(), jit_compile=False)
    batches = strategy.distributed(
        where, lambda context: pipeline.train(dataset, batch_size, transform, threads=1, context=context), batch_size
    )
    timer = keras.callbacks.LambdaCallback(on_train_batch_end=note)
    model.fit(batches, steps_per_epoch=arguments.warmup + arguments.steps, callbacks=[timer], verbose=0, shuffle=False)
    timed = itertools.pairwise(times[arguments.warmup - 1 :])
    print(json.dumps([after - before for before, after in timed]))


def run(arguments, cores, batch_size, together):
    """Run one process per entry of `cores`; return the median seconds of a step of the slowest process."""
    addresses = [f"localhost:{port}" for port in launch.free_ports(len(cores))]
    processes = []
    for number, pinned in enumerate(cores):
        command = [
            *("taskset", "--cpu-list", ",".join(map(str, pinned)), sys.executable, __file__, "work"),
            *(f"--model={arguments.model}", f"--batch_size={batch_size}"),
            *(f"--steps={arguments.steps}", f"--warmup={arguments.warmup}"),
        ]
        values = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(values) if together else ""}
        processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True))
    lines = [process.communicate()[0].splitlines()[-1] for process in processes]
    return max(statistics.median(json.loads(line)) for line in lines)


def measure(arguments):
    """Alternate the three setups and print medians and ranges of images/s."""
    setups = {
        "one worker, two cores": ([(0, 1)], arguments.batch_size, False),
        "two workers, one core each": ([(0,), (1,)], arguments.batch_size, True),
        "two processes, one core each": ([(0,), (1,)], arguments.batch_size // 2, False),
    }
    seconds = {name: [] for name in setups}
    for _ in range(arguments.runs):
        for name, setup in setups.items():
            seconds[name].append(run(arguments, *setup))
    for name, values in seconds.items():
        speeds = sorted(arguments.batch_size / value for value in values)
        print(f"{name}: {statistics.median(speeds):.1f} images/s ({speeds[0]:.1f}-{speeds[-1]:.1f})")
    together, apart = (statistics.median(seconds[name]) for name in list(setups)[1:])
    print(f"share of a step of two workers in communication: {100 * (1 - apart / together):.1f} %")


def expected(images, accelerators, speed, bandwidth, latency, megabytes, overlap):
    """Return the seconds of computation and of non-overlapping communication of a step, as in docs/scaling.md.

    Args:
        images: images of a batch on each accelerator.
        accelerators: number of accelerators.
        speed: images/s of a single accelerator.
        bandwidth: Gbit/s of the link of each accelerator.
        latency: seconds per message.
        megabytes: size of all gradients.
        overlap: fraction of the computation during which gradients are sent.
    """
    computation = images / speed
    ring = 2 * (accelerators - 1) * (megabytes * 1e6 / accelerators / (bandwidth * 1e9 / 8) + latency)
    return computation, max(0.0, ring - overlap * computation)


def expect(arguments):
    """Print the efficiency of ResNet-50 by number of accelerators, images on each, and bandwidth."""
    megabytes = ARCHITECTURES["ResNet50"].parameters() * 4 / 1e6
    bandwidths = (10, 100, 400, 1600)
    print(f"ResNet-50: {megabytes:.1f} MB of gradients; {arguments.speed:g} images/s on one accelerator")
    print("| accelerators | batch | images on each | " + " | ".join(f"{each} Gbit/s" for each in bandwidths) + " |")
    print("|---:|---:|---:|" + "---:|" * len(bandwidths))
    for accelerators in (8, 64, 512):
        for images in dict.fromkeys((256 // accelerators, 32, 128)):
            if not images:
                print(f"| {accelerators} | 256 | less than one |" + " - |" * len(bandwidths))
                continue
            cells = []
            for bandwidth in bandwidths:
                computation, waiting = expected(
                    images, accelerators, arguments.speed, bandwidth, arguments.latency, megabytes, arguments.overlap
                )
                cells.append(f"{100 * computation / (computation + waiting):.0f} %")
            print(f"| {accelerators} | {images * accelerators} | {images} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("verb", choices=["measure", "expect", "work"])
    parser.add_argument("--model", default="ResNet20")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--speed", type=float, default=1000.0, help="images/s of one accelerator")
    parser.add_argument("--latency", type=float, default=2e-5, help="seconds of a message")
    parser.add_argument("--overlap", type=float, default=0.5, help="fraction of computation that sends gradients")
    arguments = parser.parse_args()
    globals()[arguments.verb](arguments)
