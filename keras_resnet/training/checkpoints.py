"""Checkpoints that survive kill -9 and a full disk, and a callback that stops a run after saving one.

Keras' own saving overwrites its only file in place. `tf.train.CheckpointManager` writes a new checkpoint next to the
old ones, renames it, and then replaces the pointer file. A thread writes, from a copy of the state, while training
continues. Of several workers the chief's checkpoints count: all workers save, as copying the state can be collective,
each to its own folder.
"""

from __future__ import annotations

import math
import os
import pathlib
import signal
from collections.abc import Callable
from concurrent import futures
from types import FrameType
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import compat
from keras_resnet.distribute import collectives
from keras_resnet.errors import InputError, Stopped
from keras_resnet.training.callbacks import Logs, current_step
from keras_resnet.training.snapshots import Snapshot

if TYPE_CHECKING:
    from keras_resnet.training.averaging import WeightAverage

SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""Signals that end a run after the current step."""

SEEDS = "seeds"
"""Part of a checkpoint that holds the states of the random layers."""


class Checkpoints(keras.callbacks.Callback):
    """Save weights, optimizer, step and best error at regular steps, and restore the newest checkpoint.

    A step whose loss is not finite ends the run, and variables that are not finite are never written. A checkpoint is
    written in the background, one at a time: `save` copies the state, and an error of the writing is raised by the next
    `save`, by `wait`, or at the end of training.

    Args:
        model: a compiled model.
        folder: the folder of the checkpoints.
        every: steps between checkpoints.
        keep: number of checkpoints to keep.
        accumulate: micro-batches in a step.
        background: whether a thread writes, from a copy of the state in main memory; otherwise `save` does. With Keras
            2, and for models with values that are not variables, `save` writes in any case.
        **more: further objects by name, such as callbacks, whose lists `variables` belong to the state of the run.

    Attributes:
        saved: the step of the newest checkpoint; -1 before one is saved or restored.
        best: the lowest test error so far, a variable.
    """

    def __init__(
        self,
        model: keras.Model,
        folder: str | os.PathLike,
        every: int,
        keep: int = 3,
        accumulate: int = 1,
        background: bool = True,
        **more: Any,
    ):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.every = every
        self.accumulate = accumulate
        self.strategy = model.distribute_strategy
        self.saved = -1
        self.optimizer = model.optimizer
        self.best = tf.Variable(math.inf, trainable=False, name="best_error")
        self._evaluated = tf.Variable(-1, trainable=False, dtype=tf.int64, name="evaluated")
        self.variables = [*model.variables, *compat.built_variables(self.optimizer, model.trainable_variables)]
        parts: dict[str, Any] = {}
        for name, part in more.items():
            self.variables += part.variables
            parts[name] = tf.train.Checkpoint(variables=[compat.tf_variable(variable) for variable in part.variables])
        parts |= {"model": model, "optimizer": self.optimizer, "best": self.best, "evaluated": self._evaluated}
        self._without_seeds = tf.train.Checkpoint(**parts)
        # Keras does not track the states of the generators of its random layers, such as dropout.
        states = [variable for variable in model.variables if compat.path(variable).endswith("seed_generator_state")]
        seeds = [compat.tf_variable(state) for state in states]
        if seeds:
            parts[SEEDS] = tf.train.Checkpoint(variables=seeds)
        self.checkpoint = tf.train.Checkpoint(**parts)
        # Written by name too, since other versions of Keras find them only by name; see `models.weights.readers`.
        names = {compat.path(variable): compat.tf_variable(variable) for variable in model.weights}
        self.manager = self._manager(tf.train.Checkpoint(network=names, **parts), keep)
        self.background = background and hasattr(keras, "ops")
        self._snapshot: Snapshot | None = None
        self._thread = futures.ThreadPoolExecutor(1, "checkpoints")
        self._writing: futures.Future | None = None

    def _manager(self, checkpoint: tf.train.Checkpoint, keep: int) -> tf.train.CheckpointManager:
        return tf.train.CheckpointManager(checkpoint, str(self.folder), max_to_keep=keep)

    @property
    def step(self) -> int:
        """Number of steps taken."""
        return current_step(self.optimizer)

    @property
    def evaluated(self) -> int:
        """The step of the last evaluation; -1 before the first."""
        return int(self._evaluated.numpy())

    def restore(self, folder: str | os.PathLike | None = None) -> int:
        """Restore the newest checkpoint, if there is one, and remove the leftovers of a killed save.

        Args:
            folder: folder of the chief's checkpoints; by default that of this worker's.

        Returns:
            The step to resume from; 0 without a checkpoint.

        Raises:
            ValueError: the checkpoint belongs to another network or optimizer, is damaged, or is not visible to all
                workers.
        """
        self.wait()
        folder = pathlib.Path(folder or self.folder)
        collectives.chief_first(self.strategy, lambda: _remove_leftovers(folder))
        path = newest(folder)
        steps = collectives.gather(self.strategy, str(path and path.rsplit("-", 1)[1]).encode())
        if len(set(steps)) > 1:
            seen = ", ".join(f"{step.decode()} on worker {number}" for number, step in enumerate(steps))
            raise InputError(f"workdir must be on a file system that all workers share; its newest step is {seen}.")
        if path is None:
            return 0
        try:
            has_seeds = any(name.startswith(f"{SEEDS}/") for name, _ in tf.train.list_variables(path))
            checkpoint = self.checkpoint if has_seeds else self._without_seeds  # of a version that did not save them
            checkpoint.restore(path).assert_existing_objects_matched().expect_partial()
        except (AssertionError, ValueError, tf.errors.OpError) as error:
            raise InputError(f"checkpoint {path!r} does not fit this run: {str(error).splitlines()[0]}") from error
        self.saved = self.step
        return self.step

    def save(self) -> None:
        """Start to write a checkpoint of the current step, once the previous one is written.

        Raises:
            FloatingPointError: a variable was not finite in the previous checkpoint, which was not written. Without
                `background`, in this one.
            ValueError: the previous checkpoint could not be written, because the disk is full or the folder is not
                writable; older checkpoints are kept. Without `background`, this one.
        """
        self.wait()
        step = self.step
        if self.background and not self._snapshot:
            self._prepare_snapshot()
        if self._snapshot:
            self._snapshot.take()
            self._writing = self._thread.submit(self._write, step, self._snapshot.copy_of)
        else:
            self._write(step)
        self.saved = step

    def _prepare_snapshot(self) -> None:
        """Create the copies of all variables, or write without if there is more to a checkpoint."""
        try:
            self._snapshot = self._thread.submit(Snapshot, self.manager.checkpoint).result()
            self.manager = self._manager(self._snapshot.checkpoint, self.manager._max_to_keep)
        except TypeError:
            self.background = False

    def wait(self) -> None:
        """Wait until the checkpoint that is being written is complete.

        Raises:
            FloatingPointError: a variable was not finite; nothing was written.
            ValueError: the disk is full or the folder is not writable; older checkpoints are kept.
        """
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def close(self) -> None:
        """Wait like `wait`, but without raising an error of the writing; nothing more can be saved."""
        self._thread.shutdown()

    def _write(self, step: int, value_of: Callable[[Any], Any] = lambda variable: variable) -> None:
        """Write the checkpoint of a step, in which each variable had the value of `value_of(variable)`."""
        self._check(step, value_of)
        before = self.manager.checkpoints
        try:
            self.manager.save(checkpoint_number=step)
        except tf.errors.OpError as error:
            raise InputError(
                f"the checkpoint of step {step} cannot be written to {str(self.folder)!r}, older ones are kept: "
                f"{error.message.splitlines()[0]}"
            ) from error
        # TensorFlow does not find the files to remove if the path has the characters of a pattern.
        for old in set(before).difference(self.manager.checkpoints):
            for file in self.folder.glob(f"{os.path.basename(old)}.*"):
                file.unlink()

    def check(self) -> None:
        """Raise `FloatingPointError` if a variable is not finite."""
        self._check(self.step)

    def _check(self, step: int, value_of: Callable[[Any], Any] = lambda variable: variable) -> None:
        for variable in self.variables:
            if not np.isfinite(value_of(variable).numpy()).all():
                raise FloatingPointError(f"{compat.path(variable)} is not finite at step {step}; nothing was saved.")

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} at step {self.step}; nothing was saved after it.")
        if self.step % self.every == 0 and self.is_whole_step(batch) and batch + 1 < self.params["steps"]:
            self.save()

    def is_whole_step(self, batch: int) -> bool:
        """Return whether this batch of an epoch completes a step, rather than a micro-batch within one."""
        return (batch + 1) % self.accumulate == 0

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._evaluated.assign(self.step)
        self.save()

    def on_train_end(self, logs: Logs = None) -> None:
        self.wait()


def newest(folder: str | os.PathLike) -> str | None:
    """Return the path of the newest checkpoint in a folder, without a suffix; None if there is none.

    `tf.train.latest_checkpoint` finds none if the path has the characters of a pattern.
    """
    state = tf.train.get_checkpoint_state(os.fspath(folder))
    path = state.model_checkpoint_path if state else ""
    return path if os.path.exists(f"{path}.index") else None


def _remove_leftovers(folder: pathlib.Path) -> None:
    """Remove the leftovers of a killed save."""
    for leftover in folder.glob("*_temp*"):
        if leftover.is_dir():
            tf.io.gfile.rmtree(str(leftover))
        else:
            leftover.unlink()


class StopOnSignal(keras.callbacks.Callback):
    """On SIGTERM or SIGINT, finish the batch, save a checkpoint and raise `Stopped`, also during evaluations.

    A signal to one of several workers stops all of them at the same step: they exchange it after each batch.

    As a context manager it handles signals until the context ends, also between calls of `fit`; otherwise during `fit`.

    Args:
        checkpoints: the callback that saves.
        average: the `WeightAverage` that the model holds during evaluations, if any.
    """

    def __init__(self, checkpoints: Checkpoints, average: WeightAverage | None = None):
        super().__init__()
        self.checkpoints = checkpoints
        self.average = average
        self.received: int | None = None
        self.agreement = collectives.Agreement(checkpoints.strategy, max(SIGNALS))
        self.before: dict[int, Callable | int | None] = {}
        self.is_context = False

    def __enter__(self) -> StopOnSignal:
        self.is_context = True
        self._listen()
        return self

    def __exit__(self, *exception: object) -> None:
        self.is_context = False
        self._restore_handlers()

    def _listen(self) -> None:
        self.before = {number: signal.signal(number, self._note) for number in SIGNALS}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number

    def _restore_handlers(self) -> None:
        """Restore the signal handlers from before."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def _agreed(self) -> bool:
        """Return whether any worker has received a signal."""
        self.received = self.agreement.largest(self.received or 0) or None
        return self.received is not None

    def _stop(self) -> None:
        self._restore_handlers()
        if self.checkpoints.saved != self.checkpoints.step:
            self.checkpoints.save()
        self.checkpoints.wait()
        assert self.received is not None
        raise Stopped(self.received, self.checkpoints.step)

    def on_train_begin(self, logs: Logs = None) -> None:
        if not self.is_context:
            self._listen()
        elif self._agreed():
            self._stop()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        if self.checkpoints.is_whole_step(batch) and self._agreed():
            self._stop()

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        if self._agreed():
            if self.average:
                self.average.swap()
            self._stop()

    def on_train_end(self, logs: Logs = None) -> None:
        if not self.is_context:
            self._restore_handlers()
