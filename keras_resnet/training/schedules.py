"""Learning rates by step."""

from __future__ import annotations

import math

import keras

from keras_resnet.compat import cast, cos, where
from keras_resnet.config import Config


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
        step = cast(step, "float32")
        done = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        falling = self.rate * 0.5 * (1.0 + cos(math.pi * done))
        if not self.warmup_steps:
            return falling
        rising = self.warmup_rate + (self.rate - self.warmup_rate) * step / self.warmup_steps
        return where(step < self.warmup_steps, rising, falling)

    def get_config(self):
        return {
            "rate": self.rate,
            "steps": self.steps,
            "warmup_steps": self.warmup_steps,
            "warmup_rate": self.warmup_rate,
        }


def learning_rate(config: Config):
    """The learning rate of a run.

    "piecewise" is the paper's: `warmup_rate` for `warmup_steps`, then `learning_rate`, divided by ten at each of
    `decay_steps`. A boundary b means that step b, counted from 0, is the first with the new rate: sections 3.4 and 4.2.
    "cosine" rises from `warmup_rate` in a line and falls to zero at the last step.

    Returns:
        A number or a `keras.optimizers.schedules.LearningRateSchedule`.
    """
    if config.schedule == "cosine":
        return Cosine(config.learning_rate, config.steps, config.warmup_steps, config.warmup_rate)
    boundaries = list(config.decay_steps)
    rates = [config.learning_rate / 10**i for i in range(len(boundaries) + 1)]
    if config.warmup_steps:
        boundaries.insert(0, config.warmup_steps)
        rates.insert(0, config.warmup_rate)
    if not boundaries:
        return config.learning_rate
    # Keras' schedule keeps a rate up to and including its boundary.
    return keras.optimizers.schedules.PiecewiseConstantDecay([boundary - 1 for boundary in boundaries], rates)
