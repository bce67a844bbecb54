"""Recomputed statistics compared with NumPy."""

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import compat
from keras_resnet.evaluation.batch_norm import recalibrate_batch_norm


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return keras_resnet.ResNet([(16, 1, 1)], block="basic", stem="cifar", input_shape=(8, 8, 3), classes=2)


def norms(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def spoil(model, value):
    for layer in norms(model):
        layer.moving_mean.assign(np.full(layer.moving_mean.shape, value))
        layer.moving_variance.assign(np.full(layer.moving_variance.shape, value))


@pytest.mark.parametrize("wrong", [7.0, np.nan])
def test_statistics_are_those_of_the_inputs(model, random, wrong):
    batches = [2 * random.normal(size=(size, 8, 8, 3)).astype("float32") + 1 for size in (16, 16, 5)]
    spoil(model, wrong)
    assert recalibrate_batch_norm(model, batches, progress=False) == 37
    first = norms(model)[0]
    convolved = np.concatenate([keras.Model(model.input, first.input)(batch) for batch in batches])
    np.testing.assert_allclose(first.moving_mean, convolved.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(first.moving_variance, convolved.var((0, 1, 2)), rtol=1e-3)
    # Deeper layers get inputs that were normalized by the statistics of each batch.
    last = norms(model)[-1]
    inner = keras.Model(model.input, last.input)
    deep = np.concatenate([inner(batch, training=True) for batch in batches])
    np.testing.assert_allclose(last.moving_mean, deep.mean((0, 1, 2)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(last.moving_variance, deep.var((0, 1, 2)), rtol=1e-3, atol=1e-4)


def test_options_and_other_weights_stay(model, random):
    norms(model)[1].trainable = False
    before = {compat.path(weight): weight.numpy() for weight in model.trainable_weights}
    recalibrate_batch_norm(model, [random.normal(size=(4, 8, 8, 3)).astype("float32")], progress=False)
    assert [layer.momentum for layer in norms(model)] == [0.9] * 3
    assert [layer.trainable for layer in norms(model)] == [True, False, True]
    for weight in model.trainable_weights:
        np.testing.assert_array_equal(weight.numpy(), before[compat.path(weight)])


def test_an_endless_data_set_is_cut(model, random):
    def endless():
        while True:
            yield random.normal(size=(4, 8, 8, 3)).astype("float32"), np.zeros(4)

    assert recalibrate_batch_norm(model, endless(), steps=3, progress=False) == 12


@pytest.mark.parametrize(
    ("batches", "error"),
    [
        ([], ValueError),
        ([np.full((2, 8, 8, 3), np.nan, "float32")], FloatingPointError),
        ([np.zeros((2, 8, 8, 4), "float32")], Exception),
    ],
)
def test_failure_leaves_the_old_statistics(model, batches, error):
    spoil(model, 3.0)
    with pytest.raises(error):
        recalibrate_batch_norm(model, batches, progress=False)
    for layer in norms(model):
        assert np.all(layer.moving_mean.numpy() == 3.0)
        assert np.all(layer.moving_variance.numpy() == 3.0)
        assert layer.momentum == 0.9


def test_a_model_without_batch_norm():
    inputs = keras.Input((4,))
    with pytest.raises(ValueError, match="must have batch norm layers"):
        recalibrate_batch_norm(keras.Model(inputs, keras.layers.Dense(2)(inputs)), [])
