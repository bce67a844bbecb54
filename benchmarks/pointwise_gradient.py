"""Compare the gradient of 1x1 convolutions by kernel with the same as a matrix product, for those of ResNet-50.

    python benchmarks/pointwise_gradient.py --batch_size=16

Prints the least processor time of the rounds for each shape, and the sum over the network, in both dtypes.
"""

import collections
import pathlib
import sys
import time

from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from benchmarks import machine
from keras_resnet.cli import main as cli

FLAGS = flags.FLAGS
flags.DEFINE_integer("batch_size", 16, "Images in a batch.", lower_bound=1)
flags.DEFINE_integer("size", 224, "Side of the images in pixels.", lower_bound=32)
flags.DEFINE_integer("rounds", 8, "Timed calls of each.", lower_bound=1)


def shapes():
    """Count the shapes (side, channels, filters, stride) of the 1x1 convolutions of ResNet-50."""
    import keras_resnet
    from keras_resnet.models.layers import PointwiseConv2D

    model = keras_resnet.ResNet50(input_shape=(FLAGS.size, FLAGS.size, 3))
    found = [layer for layer in model.layers if isinstance(layer, PointwiseConv2D)]
    return collections.Counter((*layer.input.shape[2:], layer.filters, layer.strides[0]) for layer in found)


def milliseconds(call) -> float:
    """The least processor time of a call."""
    import tensorflow as tf

    function, times = tf.function(call), []
    for _ in range(FLAGS.rounds + 2):
        began = time.process_time()
        function().numpy()
        times.append(time.process_time() - began)
    return 1e3 * min(times[2:])


def main(_):
    import tensorflow as tf

    print(", ".join(f"{name} {value}" for name, value in machine.describe().items()))
    counts = shapes()
    for dtype in (tf.bfloat16, tf.float32):
        print(f"\n{dtype.name}, batch {FLAGS.batch_size}\n")
        print("| map | filters | stride | count | Conv2DBackpropFilter (ms) | matrix product (ms) |")
        print("|---|---:|---:|---:|---:|---:|")
        sums = [0.0, 0.0]
        for (side, channels, filters, stride), count in counts.items():
            images = tf.cast(tf.random.normal((FLAGS.batch_size, side, side, channels)), dtype)
            small = -(-side // stride)
            errors = tf.cast(tf.random.normal((FLAGS.batch_size, small, small, filters)), dtype)

            def operation(images=images, errors=errors, stride=stride):
                sizes = [1, 1, images.shape[-1], errors.shape[-1]]
                return tf.raw_ops.Conv2DBackpropFilter(
                    input=images,
                    filter_sizes=sizes,
                    out_backprop=errors,
                    strides=[1, stride, stride, 1],
                    padding="VALID",
                )[0, 0, 0, 0]

            def product(images=images, errors=errors, stride=stride):
                used = tf.nn.avg_pool2d(images, 1, stride, "VALID") if stride > 1 else images
                flat = [tf.reshape(values, [-1, values.shape[-1]]) for values in (used, errors)]
                return tf.matmul(*flat, transpose_a=True)[0, 0]

            times = milliseconds(operation), milliseconds(product)
            sums = [total + count * value for total, value in zip(sums, times, strict=True)]
            print(
                f"| {side}x{side}x{channels} | {filters} | {stride} | {count} | {times[0]:.1f} | {times[1]:.1f} |",
                flush=True,
            )
        print(f"| sum | | | {sum(counts.values())} | {sums[0]:.0f} | {sums[1]:.0f} |")


if __name__ == "__main__":
    cli.quiet()
    app.run(main)
