"""Learning rates by step."""

from __future__ import annotations

import keras

from keras_resnet.config import Config


def learning_rate(config: Config):
    """The learning rate of a run: constant, divided by ten at each of `decay_steps`, after a warm-up at its own rate.

    A boundary b means that step b, counted from 0, is the first with the new rate: sections 3.4 and 4.2.

    Returns:
        A number or a `keras.optimizers.schedules.LearningRateSchedule`.
    """
    boundaries = list(config.decay_steps)
    rates = [config.learning_rate / 10**i for i in range(len(boundaries) + 1)]
    if config.warmup_steps:
        boundaries.insert(0, config.warmup_steps)
        rates.insert(0, config.warmup_rate)
    if not boundaries:
        return config.learning_rate
    # Keras' schedule keeps a rate up to and including its boundary.
    return keras.optimizers.schedules.PiecewiseConstantDecay([boundary - 1 for boundary in boundaries], rates)
