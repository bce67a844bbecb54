"""Networks that are small enough for tests, on every backend."""

from typing import Any

import keras

from keras_resnet.models import resnet


def one_block(**options: Any) -> keras.Model:
    """Build a CIFAR network of one basic block; `options` are those of `ResNet`, and may name another block."""
    return resnet.ResNet([(8, 1, 1)], **{"block": "basic", "stem": "cifar", **options})
