"""Measure each convolution of a network in isolation in LiteRT, compared with the largest matrix product.

    python benchmarks/lite_convolutions.py --model=ResNet50 --size=224

All in float32. The sum over the convolutions is a lower bound for a float32 TFLite file; the rest is other operations.
"""

import collections
import os
import pathlib
import sys

from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from benchmarks import contenders, machine
from benchmarks.clock import median_seconds
from keras_resnet.cli import main as cli

FLAGS = flags.FLAGS
flags.DEFINE_string("model", "ResNet50", "Constructor of the network.")
flags.DEFINE_integer("size", 224, "Side of the images in pixels.", lower_bound=8)
flags.DEFINE_integer("rounds", 20, "Timed calls of each.", lower_bound=1)


def convolution(shape: tuple[int, int, int], kernel: tuple[int, ...], stride: int):
    """Return a function that computes one convolution without padding of an image [H,W,C] from a TFLite file."""
    import numpy as np
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    random = np.random.default_rng(0)
    weights = random.normal(size=kernel).astype("float32")

    @tf.function(input_signature=[tf.TensorSpec((1, *shape))])
    def function(images):
        return tf.nn.conv2d(images, weights, stride, "VALID")

    module = tf.Module()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module)
    interpreter = Interpreter(model_content=converter.convert(), num_threads=len(os.sched_getaffinity(0)))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], random.normal(size=(1, *shape)).astype("f"))
    return interpreter.invoke


def main(_):
    import keras

    network = contenders.keras_network("keras_resnet", FLAGS.model, FLAGS.size, "float32")
    counts, operations = collections.Counter(), {}
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D):
            # Use padded maps if the layer pads: the few operations on zeros are part of the work.
            height, width, channels = layer.input.shape[1:]
            pad = layer.kernel.shape[0] - 1 if layer.padding == "same" else 0
            key = (height + pad, width + pad, channels), tuple(layer.kernel.shape), layer.strides[0]
            counts[key] += 1
            operations[key] = 2 * layer.kernel.shape.num_elements() * layer.output.shape[1] * layer.output.shape[2]
    side = 4096
    product = contenders.matrix_product("tensorflow", "float32", side)
    largest = 2 * side**3 / median_seconds(product, 5)
    spent = {key: median_seconds(convolution(*key), FLAGS.rounds) for key in counts}

    print(", ".join(f"{name} {value}" for name, value in machine.describe().items()))
    print(f"largest matrix product: {largest / 1e9:.0f} GFLOP/s\n")
    print("| input | kernel | stride | count | total ms | GFLOP/s | of the matrix product |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for key, count in counts.items():
        shape, kernel, stride = key
        rate = operations[key] / spent[key]
        cells = ["x".join(map(str, shape)), "x".join(map(str, kernel)), stride, count]
        cells += [f"{1e3 * count * spent[key]:.2f}", f"{rate / 1e9:.0f}", f"{rate / largest:.0%}"]
        print(f"| {' | '.join(map(str, cells))} |")
    seconds = sum(count * spent[key] for key, count in counts.items())
    rate = sum(count * operations[key] for key, count in counts.items()) / seconds
    print(f"| all | | | {counts.total()} | {1e3 * seconds:.2f} | {rate / 1e9:.0f} | {rate / largest:.0%} |")


if __name__ == "__main__":
    cli.quiet()
    app.run(main)
