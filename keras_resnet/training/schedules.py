"""Learning rates by step."""

from __future__ import annotations

import math

import keras

from keras_resnet import compat
from keras_resnet.experiment.config import BaseConfig


@keras.saving.register_keras_serializable(package="keras_resnet")
class Cosine(keras.optimizers.schedules.LearningRateSchedule):
    """Half a cosine from a rate to zero after a linear warm-up (Loshchilov and Hutter, 2016; Goyal et al., 2017).

    Args:
        rate: the highest rate, at the end of the warm-up.
        steps: the step at which it reaches zero.
        warmup_steps: steps of the warm-up; may be 0.
        warmup_rate: rate of step 0.
    """

    def __init__(self, rate, steps, warmup_steps=0, warmup_rate=0.0):
        self.rate, self.steps, self.warmup_steps, self.warmup_rate = rate, steps, warmup_steps, warmup_rate

    def __call__(self, step):
        step = compat.cast(step, "float32")
        done = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        falling = self.rate * 0.5 * (1.0 + compat.cos(math.pi * done))
        if not self.warmup_steps:
            return falling
        rising = self.warmup_rate + (self.rate - self.warmup_rate) * step / self.warmup_steps
        return compat.where(step < self.warmup_steps, rising, falling)

    def get_config(self):
        return {
            "rate": self.rate,
            "steps": self.steps,
            "warmup_steps": self.warmup_steps,
            "warmup_rate": self.warmup_rate,
        }


@keras.saving.register_keras_serializable(package="keras_resnet")
class Scaled(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule times a variable, for rules that follow the run and not the step; see `training.adaptive`.

    Args:
        schedule: rate or schedule.
        scale: value of the variable at the start.

    Attributes:
        scale: the variable, f32[].
    """

    def __init__(self, schedule, scale=1.0):
        self.schedule = schedule
        self.start = scale
        self.scale = compat.Variable(scale, trainable=False, dtype="float32", name="rate_scale")

    def __call__(self, step):
        return self.scale * (self.schedule(step) if callable(self.schedule) else self.schedule)

    def get_config(self):
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "scale": self.start}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["scale"])


def learning_rate(config: BaseConfig):
    """The learning rate of a run.

    "piecewise" is the paper's: `warmup_rate` for `warmup_steps`, then `learning_rate`, divided by ten at each of
    `decay_steps`. A boundary b means that step b, counted from 0, is the first with the new rate: sections 3.4 and 4.2.
    "cosine" rises from `warmup_rate` in a line and falls to zero at the last step. "plateau" is `learning_rate`, which
    `training.adaptive.Plateau` divides. Where `warmup_error` is set, `training.adaptive.WarmUp` ends the warm-up.

    Returns:
        A number or a `keras.optimizers.schedules.LearningRateSchedule`; a `Scaled` one where the run changes the rate.
    """
    if config.schedule == "cosine":
        return Cosine(config.learning_rate, config.steps, config.warmup_steps, config.warmup_rate)
    boundaries = list(config.decay_steps) if config.schedule == "piecewise" else []
    rates = [config.learning_rate / 10**i for i in range(len(boundaries) + 1)]
    if config.warmup_steps:
        boundaries.insert(0, config.warmup_steps)
        rates.insert(0, config.warmup_rate)
    rate = config.learning_rate
    if boundaries:
        # Keras' schedule keeps a rate up to and including its boundary.
        rate = keras.optimizers.schedules.PiecewiseConstantDecay([boundary - 1 for boundary in boundaries], rates)
    if getattr(config, "warmup_error", 0.0):
        return Scaled(rate, config.warmup_rate / config.learning_rate)
    return Scaled(rate) if config.schedule == "plateau" else rate
