"""Small networks for the tests of weights."""

import numpy as np

import keras_resnet


def tiny(**options):
    """A network of two stages with three bottlenecks, for images of 64x64 pixels."""
    options = {"classifier_activation": None, "input_shape": (64, 64, 3), "classes": 5, **options}
    return keras_resnet.ResNet([(8, 1, 1), (16, 2, 2)], **options)


def cifar(**options):
    """A network of two stages with one basic block each and option A, for images of 8x8 pixels."""
    stages = [(16, 1, 1), (32, 1, 2)]
    options = {"block": "basic", "stem": "cifar", "input_shape": (8, 8, 3), "classes": 3, "shortcut": "A", **options}
    return keras_resnet.ResNet(stages, **options)


def call(model, images):
    """The output of a model at inference, as an array."""
    return np.asarray(model(images, training=False))
