"""Time the convolutions of a network one by one: forward pass, gradient by input, and gradient by kernel.

    python benchmarks/convolutions.py --model=ResNet50 --batch_size=16 --size=224

The last column is the gradient of 1x1 convolutions by kernel as a matrix product, which `models.layers.PointwiseConv2D`
uses in bfloat16. Prints the least processor time of the rounds for each shape, and the sums over the network, in both
dtypes.
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
flags.DEFINE_string("model", "ResNet50", "Constructor of the network.")
flags.DEFINE_integer("batch_size", 16, "Images in a batch.", lower_bound=1)
flags.DEFINE_integer("size", 224, "Side of the images in pixels.", lower_bound=32)
flags.DEFINE_integer("rounds", 8, "Timed calls of each.", lower_bound=1)


def shapes() -> collections.Counter:
    """Count the shapes (map [B,H,W,C], kernel [k,k,C,F], stride, padding) of the network's convolutions."""
    import keras

    import keras_resnet

    model = getattr(keras_resnet, FLAGS.model)(input_shape=(FLAGS.size, FLAGS.size, 3))
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    return collections.Counter(
        ((FLAGS.batch_size, *layer.input.shape[1:]), tuple(layer.kernel.shape), layer.strides[0], layer.padding.upper())
        for layer in layers
    )


def milliseconds(call) -> float:
    """The least processor time of a call."""
    import tensorflow as tf

    function, times = tf.function(call), []
    for _ in range(FLAGS.rounds + 2):
        began = time.process_time()
        function().numpy()
        times.append(time.process_time() - began)
    return 1e3 * min(times[2:])


def passes(shape, kernel_shape, stride: int, padding: str, dtype) -> dict:
    """Return the operations of a convolution's three passes, and of the last as a product; each returns one number."""
    import tensorflow as tf

    images = tf.cast(tf.random.normal(shape), dtype)
    kernel = tf.cast(tf.random.normal(kernel_shape), dtype)
    errors = tf.cast(tf.random.normal(tf.nn.conv2d(images, kernel, stride, padding).shape), dtype)
    options = {"strides": [1, stride, stride, 1], "padding": padding}

    def product():
        used = tf.nn.avg_pool2d(images, 1, stride, "VALID") if stride > 1 else images
        flat = [tf.reshape(values, [-1, values.shape[-1]]) for values in (used, errors)]
        return tf.matmul(*flat, transpose_a=True)[0, 0]

    calls = {
        "forward": lambda: tf.nn.conv2d(images, kernel, stride, padding)[0, 0, 0, 0],
        "by input": lambda: tf.raw_ops.Conv2DBackpropInput(
            input_sizes=shape, filter=kernel, out_backprop=errors, **options
        )[0, 0, 0, 0],
        "by kernel": lambda: tf.raw_ops.Conv2DBackpropFilter(
            input=images, filter_sizes=kernel_shape, out_backprop=errors, **options
        )[0, 0, 0, 0],
    }
    if shape[-1] == 3:
        del calls["by input"]  # the gradient by the images is not computed
    return calls | ({"product": product} if kernel_shape[:2] == (1, 1) else {})


def main(_):
    import tensorflow as tf

    print(", ".join(f"{name} {value}" for name, value in machine.describe().items()))
    columns = ("forward", "by input", "by kernel", "product")
    for dtype in (tf.bfloat16, tf.float32):
        print(f"\n{FLAGS.model}, batch {FLAGS.batch_size}, {dtype.name}, milliseconds\n")
        print("| map | kernel | stride | count | forward | by input | by kernel | by kernel as a product |")
        print("|---|---|---:|---:|---:|---:|---:|---:|")
        sums, number = collections.Counter(), 0
        for (shape, kernel_shape, stride, padding), count in shapes().items():
            times = {
                name: milliseconds(call) for name, call in passes(shape, kernel_shape, stride, padding, dtype).items()
            }
            sums.update({name: count * value for name, value in times.items()})
            number += count
            sides = ("x".join(map(str, sides)) for sides in (shape[1:], kernel_shape))
            cells = (f"{times[name]:.1f}" if name in times else "" for name in columns)
            print(f"| {' | '.join(sides)} | {stride} | {count} | {' | '.join(cells)} |", flush=True)
        print(f"| sum | | | {number} | {' | '.join(f'{sums[name]:.0f}' for name in columns)} |")


if __name__ == "__main__":
    cli.quiet()
    app.run(main)
