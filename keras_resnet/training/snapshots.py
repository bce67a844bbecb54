"""Copies of the state of a checkpoint, which a thread can write while training changes the state."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_resnet import compat

STATE = ("_serialize_to_tensors", "_gather_saveables_for_checkpoint")
"""Methods by which objects other than variables, such as lookup tables, add values to a checkpoint."""


class Snapshot:
    """Copies of all variables of a checkpoint in main memory, under the same names.

    Files written from the copies have the names and the values of files written from the original. The copies belong to
    no strategy, so create them in a thread that has not entered the scope of one.

    Args:
        original: a checkpoint whose variables exist.

    Attributes:
        checkpoint: the checkpoint of the copies.

    Raises:
        TypeError: the checkpoint contains values that are not variables, or slot variables of an optimizer.
    """

    def __init__(self, original: tf.train.Checkpoint):
        self.checkpoint = tf.train.Checkpoint()
        self._copied: dict[int, tuple[Any, Any]] = {id(original): (original, self.checkpoint)}
        self._copies: dict[int, tuple[tf.Variable, list[tf.Variable]]] = {}
        self._add_children(original)

    def _add_children(self, original: Any) -> None:
        """Give the copy of an object the copies of its children, in the same order."""
        for name, child in tf.train.TrackableView.children(original).items():
            if id(child) not in self._copied:
                is_variable = isinstance(child, (tf.Variable, compat.Variable))
                copy = self._variable(child) if is_variable else tf.__internal__.tracking.AutoTrackable()
                self._copied[id(child)] = child, copy
                if not is_variable:
                    _check(child)
                    self._add_children(child)
            setattr(self._copied[id(original)][1], name, self._copied[id(child)][1])

    def _variable(self, variable: Any) -> tf.Variable:
        """Return a new variable for the copy of one of TensorFlow or Keras, which can hold one of TensorFlow."""
        source = compat.tf_variable(variable)
        with tf.device("CPU:0"):
            copy = tf.Variable(tf.zeros(source.shape, source.dtype), trainable=False, name=source.name.split(":")[0])
        self._copies.setdefault(id(source), (source, []))[1].append(copy)
        return copy

    def copy_of(self, variable: Any) -> tf.Variable:
        """Return the copy of a variable of TensorFlow or Keras."""
        return self._copies[id(compat.tf_variable(variable))][1][0]

    def take(self) -> None:
        """Copy the present values."""
        with tf.device("CPU:0"):
            for source, copies in self._copies.values():
                # A copy of its own: what `read_value` returns may share the memory of the variable.
                value = tf.raw_ops.DeepCopy(x=source.read_value())
                for copy in copies:
                    copy.assign(value)


def _check(node: Any) -> None:
    """Raise `TypeError` if an object that is no variable holds values of a checkpoint."""
    kinds = [kind for kind in type(node).__mro__ if kind is not tf.__internal__.tracking.Trackable]
    if hasattr(node, "get_slot_names") or any(name in vars(kind) for kind in kinds for name in STATE):
        raise TypeError(f"{type(node).__name__} cannot be copied.")
