"""Learning rates against numbers worked by hand, and their descriptions."""

import keras
import pytest

from keras_resnet.training import schedules


def test_the_papers_schedule():
    """0.1, divided by ten when 32,000 and 48,000 steps are taken; 110 layers start with 400 steps at 0.01."""
    options = {"steps": 64_000, "decay_steps": (32_000, 48_000)}
    rate = schedules.make("piecewise", 0.1, **options, warmup_steps=400, warmup_rate=0.01)
    for step, expected in (
        (0, 0.01),
        (399, 0.01),
        (400, 0.1),
        (31_999, 0.1),
        (32_000, 0.01),
        (47_999, 0.01),
        (48_000, 0.001),
        (63_999, 0.001),
    ):
        assert abs(float(rate(step)) - expected) < 1e-8, step
    assert schedules.make("piecewise", 0.1, steps=64_000) == 0.1


def test_the_cosine_by_hand():
    rate = schedules.make("cosine", 0.4, steps=110, warmup_steps=10, warmup_rate=0.0)
    for step, expected in ((0, 0.0), (5, 0.2), (10, 0.4), (60, 0.2), (85, 0.4 * (1 - 2**-0.5) / 2), (110, 0.0)):
        assert abs(float(rate(step)) - expected) < 1e-6, step
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(rate))
    assert again.get_config() == rate.get_config()


def test_the_poly_schedule_by_hand():
    rate = schedules.make("poly", 0.4, steps=110, warmup_steps=10, warmup_rate=0.0)
    for step, expected in ((0, 0.0), (5, 0.2), (10, 0.4), (60, 0.4 * 0.5**0.9), (109, 0.4 * 0.01**0.9), (110, 0.0)):
        assert abs(float(rate(step)) - expected) < 1e-6, step
    assert float(rate(111)) == 0
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(rate))
    assert type(again) is schedules.Poly
    assert again.get_config() == rate.get_config()


def test_scaled_survives_a_round_trip():
    schedule = schedules.Scaled(keras.optimizers.schedules.CosineDecay(0.3, 10), 0.5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert float(again(4)) == pytest.approx(float(schedule(4)))
    assert float(again(0)) == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "constant learning rate 0.1"),
        ({"decay_steps": (9,)}, "learning rate 0.1 divided by 10 at step 9"),
        ({"decay_steps": (32_000, 48_000)}, "learning rate 0.1 divided by 10 at steps 32000, 48000"),
        ({"decay_steps": (9,), "warmup_steps": 4}, "learning rate 0.01 for 4 steps, then 0.1 divided by 10 at step 9"),
        ({"warmup_error": 80.0}, "learning rate 0.01 until the training error is below 80 %, then 0.1"),
        ({"schedule": "plateau"}, "learning rate 0.1 divided by 10 after 5 evaluations without a lower error"),
        ({"schedule": "cosine"}, "learning rate 0.1 decaying to 0 on a cosine"),
        ({"schedule": "poly"}, "learning rate 0.1 decaying to 0 with power 0.9"),
        (
            {"schedule": "cosine", "warmup_steps": 4},
            "learning rate from 0.01 to 0.1 in 4 steps, then decaying to 0 on a cosine",
        ),
    ],
)
def test_descriptions(options, text):
    options = {"schedule": "piecewise", "learning_rate": 0.1, "warmup_rate": 0.01, "patience": 5, **options}
    assert schedules.describe(**options) == text
