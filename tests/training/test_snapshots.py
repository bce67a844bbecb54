"""Copies of checkpoints: the files have the names and values of the original, and no memory in common with it."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.models.layers import BatchNormalization
from keras_resnet.training import averaging, optimizers
from keras_resnet.training.checkpoints import Checkpoints, newest
from keras_resnet.training.snapshots import Snapshot
from tests.conftest import KERAS_2

pytestmark = pytest.mark.skipif(KERAS_2, reason="with Keras 2 the step writes")


def trained():
    """A network with batch norm and dropout, AdamW, metrics and an average, after a step."""
    keras.utils.set_random_seed(0)
    inner = keras.Sequential([keras.layers.Dense(3), BatchNormalization()])
    model = keras.Sequential([keras.Input((4,)), inner, keras.layers.Dropout(0.5)])
    model.compile(optimizers.make("adamw", 0.1), "mse", weighted_metrics=["mae"], jit_compile=False)
    average = averaging.WeightAverage(model, 0.9)
    batches = tf.data.Dataset.from_tensors((tf.ones((4, 4)), tf.ones((4, 3)))).repeat()
    model.fit(batches, steps_per_epoch=1, verbose=0, shuffle=False, callbacks=[average])
    return model, average


def contents(folder):
    """The values of the newest checkpoint by name."""
    path = newest(folder)
    return {name: tf.train.load_variable(path, name) for name, _ in tf.train.list_variables(path)}


@pytest.mark.parametrize("replicas", [1, 2])
def test_files_are_those_of_the_original(replicas, two_replicas, tmp_path):
    found = []
    with two_replicas.scope() if replicas == 2 else contextlib.nullcontext():
        model, average = trained()
        for background in (False, True):
            saver = Checkpoints(model, tmp_path / str(background), 1, background=background, average=average)
            saver.save()
            saver.wait()
            assert bool(saver._snapshot) == background
            found.append(contents(saver.folder))
    values, copied = found
    assert values.keys() == copied.keys()
    assert any("average" in name for name in values)
    assert any("seeds" in name for name in values)
    for name, value in values.items():
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH":
            np.testing.assert_array_equal(value, copied[name], err_msg=name)


def test_copies_keep_their_values():
    """Whatever changes the variables: an assignment, an addition in place, or the operation of an optimizer."""
    variables = [keras.Variable(np.arange(5.0), dtype="float32") for _ in range(3)]
    snapshot = Snapshot(tf.train.Checkpoint(variables=[variable.value for variable in variables]))
    snapshot.take()
    optimizer = optimizers.make("sgd", 0.1)
    optimizer.build(variables[2:])
    variables[0].assign(np.zeros(5))
    variables[1].value.assign_add(tf.ones(5))
    optimizer.apply([tf.ones(5)])
    for variable in variables:
        np.testing.assert_array_equal(snapshot.copy_of(variable).numpy(), np.arange(5.0))
        assert not np.array_equal(variable.numpy(), np.arange(5.0))


def test_what_is_no_variable_is_saved_without_a_copy(tmp_path):
    """Lookup tables are part of checkpoints too."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    saver = Checkpoints(model, tmp_path, 1)
    saver.manager.checkpoint.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
    saver.save()
    assert saver._snapshot is None
    assert any("table" in name for name, _ in tf.train.list_variables(newest(tmp_path)))
