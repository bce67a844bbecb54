"""Learning rate schedules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

from keras_resnet import compat
from keras_resnet.errors import counted

Rate = float | keras.optimizers.schedules.LearningRateSchedule
"""A constant learning rate, or one that depends on the step."""


@keras.saving.register_keras_serializable(package="keras_resnet")
class Cosine(keras.optimizers.schedules.LearningRateSchedule):
    """Half a cosine from a rate to zero after a linear warm-up (Loshchilov and Hutter, 2016; Goyal et al., 2017).

    Args:
        rate: the highest rate, at the end of the warm-up.
        steps: the step at which the rate reaches zero.
        warmup_steps: steps of the warm-up; may be 0.
        warmup_rate: rate of step 0.
    """

    def __init__(self, rate: float, steps: int, warmup_steps: int = 0, warmup_rate: float = 0.0):
        self.rate, self.steps, self.warmup_steps, self.warmup_rate = rate, steps, warmup_steps, warmup_rate

    def __call__(self, step: Any) -> Any:
        step = compat.cast(step, "float32")
        progress = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        falling = self._falling(progress)
        if not self.warmup_steps:
            return falling
        rising = self.warmup_rate + (self.rate - self.warmup_rate) * step / self.warmup_steps
        return compat.where(step < self.warmup_steps, rising, falling)

    def _falling(self, progress: Any) -> Any:
        """The rate after the warm-up, at `progress` from 0 to 1."""
        return self.rate * 0.5 * (1.0 + compat.cos(math.pi * progress))

    def get_config(self) -> dict[str, Any]:
        return {
            "rate": self.rate,
            "steps": self.steps,
            "warmup_steps": self.warmup_steps,
            "warmup_rate": self.warmup_rate,
        }


@keras.saving.register_keras_serializable(package="keras_resnet")
class Poly(Cosine):
    """The rate times (1 - progress)^0.9, after a linear warm-up: the schedule of DeepLab (Chen et al., 2016).

    The arguments are those of `Cosine`.
    """

    POWER = 0.9

    def _falling(self, progress: Any) -> Any:
        return compat.where(progress < 1.0, self.rate * (1.0 - progress) ** self.POWER, 0.0 * progress)


@keras.saving.register_keras_serializable(package="keras_resnet")
class Scaled(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule times a variable, for rules that depend on the course of the run; see `training.adaptive`.

    Args:
        schedule: rate or schedule.
        scale: initial value of the variable.

    Attributes:
        scale: the variable, f32[].
    """

    def __init__(self, schedule: Rate, scale: float = 1.0):
        self.schedule = schedule
        self.start = scale
        self.scale = compat.Variable(scale, trainable=False, dtype="float32", name="rate_scale")

    def __call__(self, step: Any) -> Any:
        return self.scale * (self.schedule(step) if callable(self.schedule) else self.schedule)

    def get_config(self) -> dict[str, Any]:
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "scale": self.start}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Scaled:
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["scale"])


SMOOTH = {"cosine": Cosine, "poly": Poly}
"""Schedules that fall to zero at the last step."""


def make(
    schedule: str,
    learning_rate: float,
    *,
    steps: int,
    decay_steps: Sequence[int] = (),
    warmup_steps: int = 0,
    warmup_rate: float = 0.0,
    warmup_error: float = 0.0,
) -> Rate:
    """Make the learning rate of a run.

    Args:
        schedule: "piecewise", the paper's: `warmup_rate` for `warmup_steps`, then `learning_rate`, divided by 10 at
            each of `decay_steps`, where step b, counted from 0, is the first with the new rate (sections 3.4 and 4.2);
            "cosine": a line from `warmup_rate` to `learning_rate`, then half a cosine to zero at the last step;
            "poly": the same with a power of 0.9 instead of the cosine;
            "plateau": `learning_rate`, to be divided by `training.adaptive.Plateau`.
        learning_rate: the highest rate.
        steps: steps of the run.
        decay_steps: increasing steps, for "piecewise".
        warmup_steps: steps of the warm-up.
        warmup_rate: rate of the warm-up, or at its start.
        warmup_error: training error in percent at which `training.adaptive.WarmUp` ends the warm-up, instead of
            `warmup_steps`; 0 for none.

    Returns:
        A number or a schedule; a `Scaled` schedule if a callback changes the rate.
    """
    if schedule in SMOOTH:
        return SMOOTH[schedule](learning_rate, steps, warmup_steps, warmup_rate)
    boundaries = list(decay_steps) if schedule == "piecewise" else []
    rates = [learning_rate / 10**i for i in range(len(boundaries) + 1)]
    if warmup_steps:
        boundaries.insert(0, warmup_steps)
        rates.insert(0, warmup_rate)
    rate: Rate = learning_rate
    if boundaries:
        # Keras' schedule keeps a rate up to and including its boundary.
        rate = keras.optimizers.schedules.PiecewiseConstantDecay([boundary - 1 for boundary in boundaries], rates)
    if warmup_error:
        return Scaled(rate, warmup_rate / learning_rate)
    return Scaled(rate) if schedule == "plateau" else rate


def describe(
    schedule: str,
    learning_rate: float,
    *,
    decay_steps: Sequence[int] = (),
    warmup_steps: int = 0,
    warmup_rate: float = 0.0,
    warmup_error: float = 0.0,
    patience: int = 0,
) -> str:
    """Describe the learning rate of a run in words, such as "learning rate 0.1 divided by 10 at steps 32000, 48000".

    Args:
        patience: evaluations without a lower error before the rate falls, for "plateau".

    The other arguments are those of `make`.
    """
    rate = f"{learning_rate:g}"
    if schedule in SMOOTH:
        curve = "on a cosine" if schedule == "cosine" else f"with power {Poly.POWER}"
        if not warmup_steps:
            return f"learning rate {rate} decaying to 0 {curve}"
        warmup = counted(warmup_steps, "step")
        return f"learning rate from {warmup_rate:g} to {rate} in {warmup}, then decaying to 0 {curve}"
    if warmup_error:
        rate = f"{warmup_rate:g} until the training error is below {warmup_error:g} %, then {rate}"
    elif warmup_steps:
        rate = f"{warmup_rate:g} for {counted(warmup_steps, 'step')}, then {rate}"
    if schedule == "plateau":
        return f"learning rate {rate} divided by 10 after {patience} evaluations without a lower error"
    if not decay_steps:
        return f"{'' if warmup_steps or warmup_error else 'constant '}learning rate {rate}"
    plural = "s" if len(decay_steps) > 1 else ""
    return f"learning rate {rate} divided by 10 at step{plural} {', '.join(map(str, decay_steps))}"
