"""Segmentation networks that are small enough for tests, with settled weights, and striped images to learn."""

import numpy as np

from keras_resnet.models.architectures import Architecture, Stage
from keras_resnet.ops import codecs, image
from keras_resnet.segmentation import models

# At least 16 filters, for the reason in `tests.detection.scenes`.
STAGES = (Stage(16, 1, 1), Stage(16, 1, 2), Stage(16, 1, 2), Stage(16, 2, 2))
BASIC = Architecture("Tiny", 12, "imagenet", "basic", STAGES, "B", 64, 10)
BOTTLENECK = Architecture("TinyBottleneck", 17, "imagenet", "bottleneck", STAGES, "B", 64, 10)

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 61.0, 62.0)


class Transform:
    """The transform of the images of these tests."""

    mean, std = MEAN, STD

    @staticmethod
    def decode(contents):
        return codecs.decode(contents)

    @staticmethod
    def normalize(images):
        return image.normalize(images, MEAN, STD)


def settle(model, seed=0):
    """Randomize all weights and statistics, in ranges that keep the maps bounded; return the model."""
    random = np.random.default_rng(seed)
    for layer in model.layers:
        weights = layer.get_weights()
        if len(weights) == 4:
            shape = weights[0].shape
            low_high = ((0.4, 0.8), (-0.5, 0.5), (-0.5, 0.5), (0.5, 2.0))
            layer.set_weights([random.uniform(*limits, shape) for limits in low_high])
        elif weights:
            scale = (2 / np.prod(weights[0].shape[:3])) ** 0.5
            biases = [random.normal(size=bias.shape) for bias in weights[1:]]
            layer.set_weights([random.normal(size=weights[0].shape) * scale, *biases])
    return model


def tiny(head="fcn", classes=3, seed=0, **options):
    """A network with random weights on a backbone of one or two basic blocks a stage."""
    return settle(models.build(head, BASIC, classes, **options), seed)


def striped(count, size=(48, 64), classes=3, seed=0):
    """Images u8[N,H,W,3] of bright stripes, and labels u8[N,H,W]: the channel that is bright, or a frame of 255."""
    random = np.random.default_rng(seed)
    labels = np.repeat(random.integers(0, classes, (count, 1, size[1] // 16)), 16, 2).repeat(size[0], 1)
    images = random.integers(0, 60, (count, *size, 3))
    for channel in range(3):
        images[..., channel] += 160 * (labels == channel)
    labels[:, :2] = 255
    return images.astype("uint8"), labels.astype("uint8")


def normalized(images):
    """Images as the network takes them: f32[N,H,W,3]."""
    return (images.astype("float32") - np.float32(MEAN)) / np.float32(STD)
