"""Input errors come back from TensorFlow's exceptions word for word."""

import pytest
import tensorflow as tf

from keras_resnet.errors import InputError
from keras_resnet.ops import graph_errors

PATH = '/a folder/it\'s "föld\\er" [3]/x].png'
MESSAGE = f"images 7, 8 of {PATH} must be smaller."


def check(value):
    """An operation that fails unless `value` is 0, and whose message has constants, strings and numbers."""
    numbers = tf.constant([7, 8], tf.int64) + value * 0
    return graph_errors.check(value == 0, "images ", numbers, " of ", tf.constant(PATH), " must be smaller.")


def checked(value):
    with tf.control_dependencies([check(value)]):
        return tf.identity(value)


def eagerly(function):
    function(tf.constant(1, tf.int64))


def in_a_function(function):
    tf.function(function)(tf.constant(1, tf.int64))


def in_a_pipeline(function):
    list(tf.data.Dataset.range(1, 2).map(function, num_parallel_calls=2))


@pytest.mark.parametrize("call", [eagerly, in_a_function, in_a_pipeline])
def test_messages_come_back(call):
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        call(checked)
    assert graph_errors.message_of(raised.value) == MESSAGE


@pytest.mark.parametrize("call", [eagerly, in_a_function, in_a_pipeline])
def test_constant_messages_come_back(call):
    def function(value):
        with tf.control_dependencies([graph_errors.check(value == 0, "value must be 0 [here].")]):
            return tf.identity(value)

    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        call(function)
    assert graph_errors.message_of(raised.value) == "value must be 0 [here]."


@pytest.mark.parametrize("call", [eagerly, in_a_function, in_a_pipeline])
def test_python_functions_report_by_their_return_value(call):
    def function(value):
        report = lambda number: "" if number == 0 else MESSAGE  # noqa: E731
        with tf.control_dependencies([graph_errors.check_call(report, value)]):
            return tf.identity(value)

    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        call(function)
    assert graph_errors.message_of(raised.value) == MESSAGE


@pytest.mark.parametrize("call", [in_a_function, in_a_pipeline])
def test_errors_raised_by_python_functions_come_back(call):
    def fail(_):
        raise InputError(MESSAGE)

    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        call(lambda value: tf.numpy_function(fail, [value], tf.int64))
    assert graph_errors.message_of(raised.value) == MESSAGE


def test_nothing_is_raised_where_the_condition_holds():
    assert int(tf.function(checked)(tf.constant(0, tf.int64))) == 0


@pytest.mark.parametrize("error", [ValueError("InputError: no."), tf.errors.InvalidArgumentError(None, None, "other")])
def test_other_errors_have_no_message(error):
    assert graph_errors.message_of(error) is None


def test_first_line_is_the_sentence():
    def function(value):
        with tf.control_dependencies([tf.debugging.Assert(value == 0, ["value must be 0"])]):
            return tf.identity(value)

    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        in_a_function(function)
    assert graph_errors.first_line(raised.value) == "value must be 0"
