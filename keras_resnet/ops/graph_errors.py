"""Input errors raised inside TensorFlow graphs, and their messages read back from TensorFlow's exceptions.

A graph cannot raise `InputError`. It fails with an assertion whose text starts with "InputError: ", and callers that
catch TensorFlow's exception ask `message_of` for the sentence.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Callable

import numpy as np
import tensorflow as tf

PREFIX = "InputError: "


def check(condition: tf.Tensor | bool, *message: str | tf.Tensor) -> tf.Operation | None:
    """Return an operation that fails with an input error unless a condition holds.

    Args:
        condition: bool[].
        *message: the parts of one sentence: text, and tensors of strings or numbers, whose values are joined by commas.

    Returns:
        The operation, for `tf.control_dependencies`; None when called eagerly.

    Raises:
        tf.errors.InvalidArgumentError: the condition does not hold.
    """
    if all(isinstance(part, str) for part in message):
        return tf.debugging.Assert(condition, ["".join([PREFIX, *message])])
    return tf.debugging.Assert(condition, [tf.strings.join([PREFIX, *map(_text, message)])])


def _text(part: str | tf.Tensor) -> str | tf.Tensor:
    """Return a part of a message as string[]."""
    if isinstance(part, str):
        return part
    return tf.strings.reduce_join(part if part.dtype == tf.string else tf.strings.as_string(part), separator=", ")


def check_call(function: Callable[[np.ndarray], str], argument: tf.Tensor) -> tf.Operation | None:
    """Return an operation that calls a Python function and fails if it returns a message.

    Args:
        function: takes the NumPy value of `argument` and returns one sentence, or "" if there is no error.
        argument: any tensor.

    Raises:
        tf.errors.InvalidArgumentError: the function returned a message.
    """
    message = tf.numpy_function(lambda value: np.array(function(value), dtype=object), [argument], tf.string)
    return check(tf.strings.length(message) == 0, message)


def message_of(error: BaseException) -> str | None:
    """Return the message of an input error raised inside a graph, or None for any other exception.

    Args:
        error: an exception of `tf.errors`; its input error comes from `check`, or from an `InputError` raised in a
            Python function that TensorFlow called.
    """
    if not isinstance(error, tf.errors.OpError):
        return None
    if match := re.search(rf"\[{PREFIX}(.*)\]\s*$", error.message, re.MULTILINE):
        return re.sub(r"\\(.)", r"\1", match[1])
    if match := re.search(rf"\bb(['\"]){PREFIX}.*\1\s*$", error.message, re.MULTILINE):
        return ast.literal_eval(match[0].strip()).decode(errors="replace").removeprefix(PREFIX)
    if match := re.search(rf"{PREFIX}(.*)$", error.message, re.MULTILINE):
        return match[1]
    return None


def first_line(error: tf.errors.OpError) -> str:
    """Return the message of any TensorFlow exception without the names of nodes, source lines and nested details."""
    text = re.sub(
        r"\{\{.*?\}\}|\[Op:.*|\t.*|assertion failed:|Expected .* Summarized data:|b(?=['\"])"
        r"|Graph execution error:|Detected at node .*|^ *File \".*",
        "",
        error.message,
        flags=re.MULTILINE,
    )
    lines = [re.sub(r"[\[\]'\"]", "", line).strip(" .") for line in text.splitlines()]
    lines = [line for line in lines if line] or ["unknown error"]
    # The values of an assertion have lines of their own.
    numbers = itertools.takewhile(lambda line: re.fullmatch(r"[-\d. ]+", line), lines[1:])
    return " ".join([lines[0], *numbers])
