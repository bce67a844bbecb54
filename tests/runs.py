"""Tools for tests of runs: signals at a step, and the comparison of checkpoints."""

import contextlib
import os
import pathlib
import signal
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from keras_resnet.experiment.run import Run
from keras_resnet.training.checkpoints import StopOnSignal


@contextlib.contextmanager
def after_each_step(action: Callable[[StopOnSignal], None]) -> Iterator[None]:
    """Call `action` after each training step of the runs in this context, before they look for signals."""
    original = StopOnSignal.on_train_batch_end

    def on_train_batch_end(self, batch, logs=None):
        action(self)
        original(self, batch, logs)

    StopOnSignal.on_train_batch_end = on_train_batch_end
    try:
        yield
    finally:
        StopOnSignal.on_train_batch_end = original


def signal_at(step: int, number: int = signal.SIGTERM) -> contextlib.AbstractContextManager[None]:
    """Send this process a signal when a run in this context reaches a step."""
    sent = []

    def send(callback: StopOnSignal) -> None:
        if callback.checkpoints.step >= step and not sent:
            sent.append(step)
            os.kill(os.getpid(), number)

    return after_each_step(send)


def newest_step(run: pathlib.Path) -> int:
    """Return the step of the newest checkpoint in a run's folder; 0 without one."""
    newest = tf.train.latest_checkpoint(run / "checkpoints")
    return int(newest.rsplit("-", 1)[1]) if newest else 0


def variables_of(run: Run) -> dict[str, np.ndarray]:
    """Return every variable of a run's newest checkpoint by name, except the counter of saves."""
    reader = tf.train.load_checkpoint(str(run.checkpoints))
    skipped = ("CHECKPOINTABLE", "save_counter")
    names = [name for name in reader.get_variable_to_shape_map() if not any(part in name for part in skipped)]
    return {name: reader.get_tensor(name) for name in names}


def assert_equal(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray], atol: float = 0.0) -> None:
    """Assert that two checkpoints hold the same names and values; bit by bit unless `atol` is given."""
    assert first.keys() == second.keys()
    for name in first:
        if atol:
            np.testing.assert_allclose(second[name], first[name], atol=atol, err_msg=name)
        else:
            np.testing.assert_array_equal(second[name], first[name], err_msg=name)
