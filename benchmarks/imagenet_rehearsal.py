"""Rehearse ImageNet's input at a fraction of its size: start-up, memory, images/s, bytes read, starts at any step.

    python benchmarks/imagenet_rehearsal.py --folder=/data/rehearsal --records=12811 --kilobytes=25

writes synthetic photographs in every form that the package reads (see `imagenet_shards`), measures each form in
processes of its own, and prints Markdown. `--records=1281167 --kilobytes=110` is the size of ImageNet. The files stay
in the folder until they are removed.
"""

import argparse
import datetime
import itertools
import json
import math
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import imagenet_shards  # noqa: E402

IMAGENET, EPOCHS = 1_281_167, 90
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
WORKERS = (1, 2, 4, 8)
MEMORY_STEPS = 100
"""Most steps for the measurement of memory."""


def bytes_read():
    """Bytes that this process has read by system calls, from the disk or the system's cache."""
    fields = dict(line.split(": ") for line in pathlib.Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


def memory():
    """Memory of this process in MB."""
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def peak_memory():
    """The highest memory of this process until now, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def opened(arguments):
    """The data set of the measured form."""
    from keras_resnet.data import sources

    name, sequential = imagenet_shards.name_of(arguments.kind, pathlib.Path(arguments.folder))
    return sources.load(name, sequential=sequential)


def train(arguments, dataset, step, threads=None):
    """The batches from a step on, as ImageNet's preset has them."""
    from keras_resnet.data import pipeline
    from keras_resnet.data.transforms import TrainTransform

    transform = TrainTransform((224, 224), MEAN, STD, crop="scale", pca_noise=0.1)
    options = {"start_step": step, "seed": arguments.seed, "threads": threads or max(arguments.threads)}
    return iter(pipeline.train(dataset, arguments.batch_size, transform, **options))


def measure_start(arguments):
    """Seconds to open, and processor seconds to the first batch at eleven steps."""
    from keras_resnet.data import pipeline, sources  # noqa: F401

    began = time.perf_counter()
    dataset = opened(arguments)
    opening = time.perf_counter() - began
    total = arguments.records * EPOCHS // arguments.batch_size
    next(train(arguments, dataset, 1))  # traces and caches what is only done once
    seconds = []
    for number in range(11):
        began = time.process_time()
        batches = train(arguments, dataset, total * number // 11)
        next(batches)
        seconds.append(time.process_time() - began)
    return {"opening": opening, "first": seconds}


def measure_memory(arguments):
    """Highest memory, over that of the process before, while an epoch of training batches, or a part, is read."""
    import tensorflow as tf

    from keras_resnet.data import pipeline, sources  # noqa: F401

    tf.zeros([1]).numpy()
    bare = memory()
    batches = train(arguments, opened(arguments), 0)
    for _ in range(min(MEMORY_STEPS, arguments.records // arguments.batch_size)):
        next(batches)
    return {"memory": peak_memory() - bare}


def measure_bytes(arguments):
    """Share of the whole data that each of some workers reads in an epoch, without decoding: number -> largest."""
    from keras_resnet.data import pipeline
    from keras_resnet.data.dataset import Stream

    dataset = opened(arguments)
    examples = dataset.examples("train")
    # A stream reads a window ahead, which is much of one epoch of a small set; batches by number are exact.
    in_order = isinstance(examples, Stream)
    epochs = 3 if in_order else 1
    steps = epochs * arguments.records // arguments.batch_size
    size = sum(path.stat().st_size for path in files_of(arguments))
    shares = {}
    next(iter(pipeline._records(examples, pipeline.Share(1), shuffle=True)))  # imports what it needs
    for workers in WORKERS:
        shares[workers] = []
        for worker in range(workers):
            share = pipeline.Share(arguments.batch_size, workers, worker)
            before = bytes_read()
            batches = pipeline._records(
                examples, share, seed=arguments.seed, shuffle=True, end=None if in_order else steps
            )
            for _, contents, _, _ in batches.take(steps):
                if arguments.kind == "folder":
                    for path in contents.numpy():
                        pathlib.Path(path.decode()).read_bytes()
            shares[workers].append((bytes_read() - before) / size / epochs)
    return {"bytes": {workers: max(values) for workers, values in shares.items()}}


def files_of(arguments):
    """The files of the measured form."""
    name, _ = imagenet_shards.name_of(arguments.kind, pathlib.Path(arguments.folder))
    return [path for path in pathlib.Path(name.partition(":")[2]).rglob("*") if path.is_file()]


def measure_rates(arguments):
    """Images/s of the forms in turns, and of reading without decoding: threads -> form -> median and best per core."""
    from keras_resnet.data import pipeline

    kinds, rates, reading = arguments.kinds.split(","), {}, {}
    datasets = {kind: opened(argparse.Namespace(**{**vars(arguments), "kind": kind})) for kind in kinds}
    for threads in arguments.threads:
        found = {kind: [] for kind in kinds}
        for _, kind in itertools.product(range(arguments.rounds), kinds):
            batches = train(arguments, datasets[kind], 1, threads)
            found[kind].append(rate(batches, arguments.batch_size, arguments.seconds))
            del batches  # and with it its threads
        rates[threads] = {
            kind: (statistics.median(wall for wall, _ in values), max(processor for _, processor in values))
            for kind, values in found.items()
        }
    for kind, dataset in datasets.items():
        share = pipeline.Share(arguments.batch_size)
        if kind != "folder":
            records = iter(pipeline._records(dataset.examples("train"), share, seed=arguments.seed, shuffle=True))
            reading[kind] = rate(records, arguments.batch_size, arguments.seconds)[1]
    return {"rates": rates, "reading": reading}


def rate(batches, batch_size, seconds):
    """Images per second of time and of the processor for some seconds, after a batch that empties the buffer."""
    next(batches)
    began, processor, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began < seconds:
        next(batches)
        count += batch_size
    return count / (time.perf_counter() - began), count / (time.process_time() - processor)


def measure_shuffle(arguments):
    """Chi-squared of the tenth of the split and the tenth of the epoch of images, each with a seed of its own."""
    import numpy as np
    import tensorflow as tf

    from keras_resnet.data import pipeline, streams

    draws, bins = 4000, 10
    lengths = np.array([len(part) for part in np.array_split(np.arange(IMAGENET), 1024)])
    tables = {"by number": np.zeros((bins, bins)), "in order": np.zeros((bins, bins))}
    places = np.random.default_rng(arguments.seed).integers(0, IMAGENET, draws)
    for seed, place in enumerate(places):
        key = tf.constant([place], tf.int64)
        number = int(pipeline.epoch_index(key, IMAGENET, seed, True)[0])
        tables["by number"][number * bins // IMAGENET, place * bins // IMAGENET] += 1
        order = streams.Order(lengths, 256, 16, seed, True, streams.WINDOW // 16)
        step, row = divmod(int(place), 256)
        lane, number = row // 16, step * 16 + row % 16
        first, numbers, shuffled = next(order.windows(lane, number))
        record = int(numbers[shuffled[number - first]])
        tables["in order"][record * bins // IMAGENET, place * bins // IMAGENET] += 1
    expected = {name: table.sum(0) / bins for name, table in tables.items()}
    values = {name: float(((table - expected[name]) ** 2 / expected[name]).sum()) for name, table in tables.items()}
    return {"chi_squared": values, "degrees": bins * (bins - 1), "draws": draws}


def measured(arguments, what, kind=""):
    """Measure in a new process."""
    command = [sys.executable, __file__, *sys.argv[1:], f"--measure={what}", f"--kind={kind}"]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if finished.returncode:
        raise RuntimeError(finished.stderr)
    return json.loads(finished.stdout.splitlines()[-1])


def report(arguments):
    """Write the files, measure, and print the tables."""
    import keras
    import tensorflow as tf

    kinds, folder = arguments.kinds.split(","), pathlib.Path(arguments.folder)
    pool = imagenet_shards.photographs(256, arguments.kilobytes, arguments.seed)
    for kind in kinds:
        imagenet_shards.write(kind, folder, pool, arguments.records, arguments.shards)
    size = sum(map(len, pool)) / len(pool) / 1e3
    print(f"{arguments.records:,} records of {size:.0f} kB in {arguments.shards} shards, batch {arguments.batch_size},")
    print(f"seed {arguments.seed}; {os.cpu_count()} cores, TensorFlow {tf.__version__}, Keras {keras.__version__},")
    print(f"{datetime.date.today():%d %B %Y}\n")
    print(
        "| form | open (s) | first batch at step 0 (processor s) | at ten later steps | memory (MB) | "
        + " | ".join(f"read by each of {workers}" for workers in WORKERS)
        + " |"
    )
    print("|---|" + "---:|" * (4 + len(WORKERS)))
    for kind in kinds:
        start, read = measured(arguments, "start", kind), measured(arguments, "bytes", kind)["bytes"]
        peak = measured(arguments, "memory", kind)["memory"]
        first, *later = start["first"]
        shares = " | ".join(f"{read[str(workers)] * workers:.3f} / {workers}" for workers in WORKERS)
        print(
            f"| {kind} | {start['opening']:.2f} | {first:.2f} | {min(later):.2f}-{max(later):.2f} | "
            f"{peak:.0f} | {shares} |",
            flush=True,
        )
    found = measured(arguments, "rates")
    titles = [f"images/s, {count} threads | per core | of {kinds[0]}" for count in found["rates"]]
    print(f"\n| form | {' | '.join(titles)} | records/s of a core without decoding | 90 epochs (hours) |")
    print("|---|" + "---:|" * (3 * len(titles) + 2))
    for kind in kinds:
        rows = list(found["rates"].values())
        cells = [f"{row[kind][0]:.0f} | {row[kind][1]:.0f} | {row[kind][1] / row[kinds[0]][1]:.2f}" for row in rows]
        hours = IMAGENET * EPOCHS / max(row[kind][0] for row in rows) / 3600
        print(f"| {kind} | {' | '.join(cells)} | {found['reading'].get(kind, math.nan):.0f} | {hours:.0f} |")
    shuffle = measured(arguments, "shuffle")
    print(
        f"\nchi-squared of {shuffle['draws']} draws, {shuffle['degrees']} degrees of freedom: {shuffle['chi_squared']}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", default="rehearsal", help="folder for the files")
    parser.add_argument("--records", type=int, default=12_811)
    parser.add_argument("--kilobytes", type=float, default=25, help="mean size of the photographs")
    parser.add_argument("--shards", type=int, default=128)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--threads", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2])
    parser.add_argument("--kinds", default=",".join(imagenet_shards.KINDS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--measure", choices=["start", "memory", "bytes", "rates", "shuffle"], help=argparse.SUPPRESS)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(globals()[f"measure_{arguments.measure}"](arguments)))
    else:
        report(arguments)


if __name__ == "__main__":
    main()
