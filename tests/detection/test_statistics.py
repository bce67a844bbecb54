"""Batch norm's statistics over a training set, beside NumPy's."""

import numpy as np
import pytest

import keras_resnet
from keras_resnet.detection import statistics


def test_statistics_are_means_over_all_batches(random):
    model = keras_resnet.ResNet([(8, 1, 1)], block="basic", stem="cifar", input_shape=(8, 8, 3), classes=3)
    batches = [random.normal(size=(16, 8, 8, 3)).astype("float32") for _ in range(3)]
    statistics.recompute(model, batches)
    norm, momentum = model.get_layer("conv1_bn"), model.get_layer("conv1_bn").momentum
    maps = [np.asarray(model.get_layer("conv1_conv")(batch)) for batch in batches]
    np.testing.assert_allclose(norm.moving_mean, np.mean([m.mean((0, 1, 2)) for m in maps], 0), atol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, np.mean([m.var((0, 1, 2)) for m in maps], 0), rtol=1e-4)
    assert norm.momentum == momentum == 0.9
    with pytest.raises(ValueError, match="at least one batch"):
        statistics.recompute(model, [])
