"""Rates that follow the run, against sequences worked out by hand."""

import types

import keras
import numpy as np
import pytest

from keras_resnet import compat
from keras_resnet.training import schedules
from keras_resnet.training.adaptive import EarlyStopping, Plateau, WarmUp
from keras_resnet.training.losses import CrossEntropy, Top1Error
from keras_resnet.training.schedules import Scaled


def test_plateau_by_hand():
    """Errors 50 40 40 41 39 39 39: with patience 2, the rate falls after the 4th and after the 7th."""
    rate = Scaled(0.1)
    plateau = Plateau(rate, patience=2)
    seen = []
    for error in (50, 40, 40, 41, 39, 39, 39):
        plateau.on_epoch_end(0, {"val_top1_error": error})
        seen.append(float(rate(0)))
    np.testing.assert_allclose(seen, [0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.001], rtol=1e-6)


@pytest.mark.parametrize(
    ("errors", "ends"),
    [
        ((50, 40, 40, 41, 39), 4),
        ((5, 6, 4, 5, 4.5, 3), 5),
        ((float("nan"), float("nan"), 1), 2),
        ((3, 2, 1), None),
    ],
)
def test_early_stopping_by_hand(errors, ends):
    """With a patience of 2, the run ends at the second evaluation in a row that is not below the lowest."""
    stopping, model = EarlyStopping(2, "val_loss"), types.SimpleNamespace(stop_training=False)
    stopping.set_model(model)
    for number, error in enumerate(errors, 1):
        stopping.on_epoch_end(0, {"val_loss": error})
        assert model.stop_training == stopping.is_over == (number == ends)
        if stopping.is_over:
            break
    assert number == (ends or len(errors))


def test_early_stopping_says_why():
    stopping = EarlyStopping(1, "val_loss")
    stopping.set_model(types.SimpleNamespace())
    stopping.on_epoch_end(0, {"val_loss": float("nan")})
    assert stopping.reason() == "val_loss was never finite in 1 evaluation"
    stopping.on_epoch_end(0, {"val_loss": 0.25})
    assert stopping.reason() == "val_loss was not below 0.2500 in 1 evaluation"


def test_warm_up_ends_when_the_average_error_is_low(random):
    """A linear classifier on separable points: the rate is 0.01 until the moving average falls below 80 %, then 0.1."""
    centers = 3 * random.normal(size=(4, 5))
    labels = random.integers(0, 4, 640).astype("int32")
    points = (centers[labels] + random.normal(size=(640, 5))).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4)])
    options = {"steps": 40, "decay_steps": (35,), "warmup_rate": 0.01, "warmup_error": 80.0}
    rate = schedules.make("piecewise", 0.1, **options)
    model.compile(keras.optimizers.SGD(rate), CrossEntropy(), metrics=[Top1Error()])
    kernel, bias = model.get_weights()
    rates, averages = [], []

    class Record(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            rates.append(compat.current_rate(model.optimizer))

        def on_train_batch_end(self, batch, logs=None):
            averages.append(float(warm_up.average))

    warm_up = WarmUp(rate, 80.0)
    model.fit(points, labels, batch_size=16, epochs=1, shuffle=False, verbose=0, callbacks=[warm_up, Record()])
    end = next(step for step, average in enumerate(averages) if average < 80)
    assert 2 < end < 30
    np.testing.assert_allclose(rates[: end + 1], 0.01, rtol=1e-6)
    np.testing.assert_allclose(rates[end + 1 : 35], 0.1, rtol=1e-6)
    np.testing.assert_allclose(rates[35:], 0.01, rtol=1e-6)
    # The first batch by hand: 0.9 of the average at the start, 100, and 0.1 of the batch's error.
    error = 100 * np.mean((points[:16] @ kernel + bias).argmax(1) != labels[:16])
    np.testing.assert_allclose(averages[0], 0.9 * 100 + 0.1 * error, rtol=1e-5)


def test_a_plateau_after_the_warm_up_stays():
    rate = schedules.make("plateau", 0.1, steps=40, warmup_rate=0.01, warmup_error=80.0)
    warm_up, plateau = WarmUp(rate, 80.0), Plateau(rate, patience=1)
    metric = Top1Error()
    warm_up.set_model(types.SimpleNamespace(metrics=[metric]))
    rates = []
    for error in (50.0, 50.0):  # of all images so far
        warm_up.on_epoch_begin(0)
        metric.reset_state()
        for _ in range(8):
            metric.update_state(np.int32([0, 0]), np.float32([[1, 0], [0, 1]]))
            warm_up.on_train_batch_end(0)
        rates.append(float(rate(0)))
        plateau.on_epoch_end(0, {"val_top1_error": error})
    rates.append(float(rate(0)))
    warm_up.on_epoch_begin(0)
    metric.update_state(np.int32([0, 0]), np.float32([[1, 0], [0, 1]]))
    warm_up.on_train_batch_end(0)
    rates.append(float(rate(0)))
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01, 0.01], rtol=1e-6)
