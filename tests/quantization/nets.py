"""Small networks that are prepared for int8, with pixels that they were calibrated on."""

import keras
import numpy as np

import keras_resnet
from keras_resnet import quantization
from tests.serving.sources import MEAN, STD, settle, smooth

NETS = {
    "basic with option A": {"block": "basic", "shortcut": "A"},
    "bottleneck with projections": {"block": "bottleneck"},
    "plain": {"block": "basic", "shortcut": None},
    "with the stem for ImageNet": {"block": "basic", "stem": "imagenet"},
}


def pixels(random: np.random.Generator, count: int, side: int = 16) -> np.ndarray:
    """Smooth images u8[count,side,side,3]."""
    return np.stack([smooth(random, side, side) for _ in range(count)])


def normalized(images: np.ndarray) -> np.ndarray:
    """The images f32 as networks take them."""
    return (images - np.float32(MEAN)) / np.float32(STD)


def network(classifier_activation: str | None = "softmax", **options) -> keras.Model:
    """A float network with usual activations."""
    options = {"stem": "cifar", **options}
    side = 32 if options["stem"] == "imagenet" else 16
    net = keras_resnet.ResNet(
        [(16, 1, 1), (24, 2, 2)],
        input_shape=(side, side, 3),
        classes=5,
        classifier_activation=classifier_activation,
        **options,
    )
    return settle(net)


def prepared(net: keras.Model, random: np.random.Generator, **options) -> keras.Model:
    """The network for int8 of a float network."""
    result = quantization.prepare(net, MEAN, STD, **options)
    quantization.calibrate(result, [normalized(pixels(random, 16, net.input_shape[1]))])
    return result
