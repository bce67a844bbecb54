"""Training steps of ResNet-50 beside keras.applications, in alternating runs of one process each.

    python benchmarks/train_step.py [--dtype=float32] [--dtype=mixed_bfloat16] [--batch_size=16] [--runs=3] [--steps=8]

Prints images/s of each run and the ratio of the medians. Each process builds the network, compiles it with SGD, times
`train_on_batch` on one batch of random images after two warm-up steps, and reports the median step.
"""

import json
import os
import statistics
import subprocess
import sys
import time

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_multi_string("dtype", ["float32", "mixed_bfloat16"], "Dtype policies to compare under.")
flags.DEFINE_integer("batch_size", 16, "Images in a batch.", lower_bound=1)
flags.DEFINE_integer("size", 224, "Side of the images in pixels.", lower_bound=32)
flags.DEFINE_integer("runs", 3, "Processes of each kind.", lower_bound=1)
flags.DEFINE_integer("steps", 8, "Timed steps in a process.", lower_bound=1)
flags.DEFINE_enum("worker", None, ["keras_resnet", "keras.applications"], "Measure this one in this process.")


def measure(kind: str, dtype: str) -> dict:
    """Return the median images/s of this process's training steps and its peak memory in MiB."""
    import resource

    import keras
    import numpy as np

    import keras_resnet

    keras.config.set_dtype_policy(dtype)
    build = {"keras_resnet": keras_resnet.ResNet50, "keras.applications": keras.applications.ResNet50}[kind]
    model = build(weights=None, input_shape=(FLAGS.size, FLAGS.size, 3))
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    random = np.random.default_rng(0)
    images = random.normal(size=(FLAGS.batch_size, FLAGS.size, FLAGS.size, 3)).astype("float32")
    labels = random.integers(0, 1000, FLAGS.batch_size)
    seconds = []
    for _ in range(2 + FLAGS.steps):
        start = time.perf_counter()
        model.train_on_batch(images, labels)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"images_per_second": FLAGS.batch_size / statistics.median(seconds[2:]), "peak_mib": round(peak)}


def main(_):
    if FLAGS.worker:
        print(json.dumps(measure(FLAGS.worker, FLAGS.dtype[0])))
        return
    kinds = ("keras_resnet", "keras.applications")
    for dtype in FLAGS.dtype:
        results = {kind: [] for kind in kinds}
        for run in range(FLAGS.runs):
            for kind in kinds:
                command = [sys.executable, __file__, f"--worker={kind}", f"--dtype={dtype}"]
                command += [f"--{name}={FLAGS[name].value}" for name in ("batch_size", "size", "steps")]
                env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
                output = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
                results[kind].append(json.loads(output.splitlines()[-1]))
                print(f"{dtype} run {run + 1} {kind}: {results[kind][-1]}", flush=True)
        rates = {kind: [result["images_per_second"] for result in runs] for kind, runs in results.items()}
        for kind, values in rates.items():
            spread = f"{min(values):.2f}-{max(values):.2f}"
            print(f"{dtype} {kind}: median {statistics.median(values):.2f} images/s ({spread})")
        ours, theirs = (statistics.median(rates[kind]) for kind in kinds)
        print(f"{dtype} ratio of medians: {ours / theirs:.2f}", flush=True)


if __name__ == "__main__":
    app.run(main)
