"""What a ReLU of a residual map costs in float32 and in bfloat16, and what its bits allow.

    python benchmarks/relu.py --shape=16,56,56,256

The maximum of the bits as 16-bit integers and 0 is the same for all numbers; NaNs with a sign become 0 by it.
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
flags.DEFINE_integer("rounds", 10, "How often each is timed.", lower_bound=1)


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
