"""The limits of a training step on paper: operations and memory traffic of each kind of operation.

    python benchmarks/traffic.py --model=ResNet20 --batch_size=128 --size=32 --dtype=mixed_bfloat16

For each kind of operation of a step: its arithmetic in GFLOP, the bytes of activations that it reads and writes, and
the times that these take at the machine's rates, which are measured first: a matrix product, and reading and writing an
array of the size of the network's largest activation map. Then the measured step. All times are processor time, so that
other work on the machine disturbs little. Kernels stay in the cache and are left out, as are the classifier and the
optimizer.
"""

import pathlib
import sys
import time

from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from benchmarks import contenders, machine, step_costs
from benchmarks.clock import median_seconds
from keras_resnet.cli import main as cli

FLAGS = flags.FLAGS
flags.DEFINE_string("model", "ResNet20", "Constructor of the network.")
flags.DEFINE_integer("batch_size", 128, "Images in a batch.", lower_bound=1)
flags.DEFINE_integer("size", 32, "Side of the images in pixels.", lower_bound=8)
flags.DEFINE_string("dtype", "float32", "Dtype policy.")
flags.DEFINE_integer("rounds", 7, "Timed calls of each.", lower_bound=1)


def main(_):
    import tensorflow as tf

    dtype = FLAGS.dtype.removeprefix("mixed_")
    options = {"library": "keras_resnet", "model": FLAGS.model, "size": FLAGS.size, "dtype": FLAGS.dtype}
    model = contenders.keras_network(**options)
    operations, moved = step_costs.traffic(model, FLAGS.batch_size, tf.as_dtype(dtype).size)

    matrix = tf.cast(tf.random.normal((2048, 2048)), dtype)
    product = tf.function(lambda: tf.matmul(matrix, matrix))
    rate = 2 * 2048**3 / median_seconds(product, FLAGS.rounds, time.process_time)
    largest = max(
        FLAGS.batch_size * layer.output.shape[1] * layer.output.shape[2] * layer.output.shape[3]
        for layer in model.layers
        if len(getattr(layer.output, "shape", ())) == 4
    )
    array = tf.random.normal((largest * tf.as_dtype(dtype).size // 4,))
    total = tf.function(lambda: tf.add(array, array[0]))
    bandwidth = 2 * array.shape[0] * 4 / median_seconds(total, FLAGS.rounds, time.process_time)
    training = contenders.keras_training(batch_size=FLAGS.batch_size, **options)
    step = median_seconds(training, FLAGS.rounds, time.process_time)

    print(", ".join(f"{name} {value}" for name, value in machine.describe().items()))
    print(f"{FLAGS.model}, batch {FLAGS.batch_size}, {FLAGS.size} pixels, {FLAGS.dtype}; processor time of all cores")
    print(f"matrix product {rate / 1e9:.0f} GFLOP/s and memory {bandwidth / 1e9:.1f} GB/s for each core\n")
    print("| operation | GFLOP | MB | ms at the rate of the matrix product | ms at that of the memory |")
    print("|---|---:|---:|---:|---:|")
    limit = 0.0
    for kind in step_costs.KINDS:
        arithmetic, memory = operations[kind] / rate, moved[kind] / bandwidth
        limit += max(arithmetic, memory)
        numbers = (
            f"{operations[kind] / 1e9:.1f} | {moved[kind] / 1e6:.0f} | {1e3 * arithmetic:.1f} | {1e3 * memory:.1f}"
        )
        print(f"| {kind} | {numbers} |")
    print(f"\nlimit, the larger of both for each: {1e3 * limit:.0f} ms; measured: {1e3 * step:.0f} ms, ", end="")
    print(f"{limit / step:.0%} of the limit's speed")


if __name__ == "__main__":
    cli.quiet()
    app.run(main)
