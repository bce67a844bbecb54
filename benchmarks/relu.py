"""Measure a ReLU of a residual activation map in float32 and bfloat16, and as an integer maximum.

    python benchmarks/relu.py --shape=16,56,56,256

The maximum of 0 and the bits as 16-bit integers is the same for all numbers, but turns NaNs with a sign bit into 0.
"""

import pathlib
import sys

from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from benchmarks import machine
from benchmarks.clock import median_seconds
from keras_resnet.cli import main as cli

FLAGS = flags.FLAGS
flags.DEFINE_list("shape", ["16", "56", "56", "256"], "Shape of the map.")
flags.DEFINE_integer("rounds", 10, "Timed calls of each.", lower_bound=1)


def main(_):
    import tensorflow as tf

    wide = tf.random.stateless_normal([int(length) for length in FLAGS.shape], seed=(0, 0))
    narrow = tf.cast(wide, tf.bfloat16)
    calls = {
        "ReLU, float32": lambda: tf.nn.relu(wide),
        "ReLU, bfloat16": lambda: tf.nn.relu(narrow),
        "its gradient, bfloat16": lambda: tf.raw_ops.ReluGrad(gradients=narrow, features=narrow),
        "addition, bfloat16": lambda: tf.add(narrow, narrow),
        "maximum as int16": lambda: tf.bitcast(tf.maximum(tf.bitcast(narrow, tf.int16), 0), tf.bfloat16),
    }
    print(", ".join(f"{name} {value}" for name, value in machine.describe().items()))
    print("\n| operation | ms |\n|---|---:|")
    for name, call in calls.items():
        print(f"| {name} | {1e3 * median_seconds(tf.function(call), FLAGS.rounds):.2f} |")


if __name__ == "__main__":
    cli.quiet()
    app.run(main)
