"""All differences between Keras 2 and Keras 3; the rest of the package uses these functions on both."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import io
import os
import types
import warnings
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_resnet.errors import InputError

try:  # Keras 3, any backend
    from keras import Variable
    from keras.backend import standardize_dtype
    from keras.config import dtype_policy, image_data_format, set_dtype_policy
    from keras.dtype_policies import get as policy_of
    from keras.ops import (
        argmax,
        average_pool,
        cast,
        convert_to_tensor,
        cos,
        flip,
        one_hot,
        pad,
        reshape,
        shape,
        take,
        take_along_axis,
        top_k,
        where,
    )
    from keras.ops import mean as reduce_mean
    from keras.ops import sum as reduce_sum
    from keras.random import SeedGenerator
    from keras.tree import flatten, map_structure

    @keras.saving.register_keras_serializable(package="keras_resnet")
    class LossScale(keras.optimizers.LossScaleOptimizer):
        """Keras' loss scaling for float16, which also counts the steps skipped because a gradient overflowed.

        With Keras' count, the learning rate schedule would fall behind the position in the data. If gradients are
        accumulated, a micro-batch that overflowed adds nothing, and if it is the last one, the step is skipped.
        """

        def _stateful_handle_non_finite_grads(self) -> None:
            super()._stateful_handle_non_finite_grads()
            inner = self.inner_optimizer
            inner._iterations.assign_add(1)
            if inner.gradient_accumulation_steps:
                is_within = cast(inner._iterations % inner.gradient_accumulation_steps != 0, "float32")
                for total in inner._accumulated_gradients:
                    total.assign(total * cast(is_within, total.dtype))

except ImportError:  # Keras 2, which has none of these modules and only the TensorFlow backend
    from keras.backend import image_data_format
    from keras.mixed_precision import LossScaleOptimizer as LossScale  # counts skipped steps
    from keras.mixed_precision import Policy
    from keras.mixed_precision import global_policy as dtype_policy
    from keras.mixed_precision import set_global_policy as set_dtype_policy
    from keras.src.utils.generic_utils import to_snake_case
    from tensorflow import (  # type: ignore[no-redef]
        Variable,
        argmax,
        cast,
        convert_to_tensor,
        cos,
        gather,
        nn,
        one_hot,
        pad,
        reduce_mean,
        reduce_sum,
        reshape,
        reverse,
        shape,
        where,
    )
    from tensorflow import gather as take  # type: ignore[no-redef]
    from tensorflow.math import top_k  # type: ignore[no-redef]
    from tensorflow.nest import flatten, map_structure  # type: ignore[no-redef]

    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        raise InputError(
            f"KERAS_BACKEND must be 'tensorflow' with Keras {keras.__version__}; got {os.environ['KERAS_BACKEND']!r}."
        ) from None

    SeedGenerator = object  # type: ignore[misc, assignment]

    def flip(x: Any, axis: int) -> Any:
        return reverse(x, [axis])

    def take_along_axis(x: Any, indices: Any, axis: int) -> Any:
        return gather(x, indices, axis=axis, batch_dims=axis)

    def average_pool(inputs: Any, pool_size: int, strides: int, padding: str) -> Any:
        return nn.avg_pool(inputs, pool_size, strides, padding.upper())

    def policy_of(policy: Any) -> Policy:
        return policy if isinstance(policy, Policy) else Policy(policy)

    def standardize_dtype(dtype: Any) -> str:
        return getattr(dtype, "name", dtype)


__all__ = [
    "LossScale",
    "SeedGenerator",
    "Variable",
    "addons",
    "argmax",
    "average_pool",
    "built_variables",
    "cast",
    "check_layer",
    "convert_to_tensor",
    "cos",
    "current_rate",
    "dtype_policy",
    "flatten",
    "flip",
    "has_addons",
    "image_data_format",
    "is_keras_tensor",
    "map_structure",
    "name_layers",
    "one_hot",
    "pad",
    "path",
    "policy_of",
    "reduce_mean",
    "reduce_sum",
    "reshape",
    "set_dtype_policy",
    "shape",
    "standardize_dtype",
    "take",
    "take_along_axis",
    "tf_variable",
    "top_k",
    "where",
    "write_out",
]


def check_layer(name: str, argument: str) -> None:
    """Raise `InputError` if the installed Keras lacks the layer `name`, which `argument` requires."""
    if not hasattr(keras.layers, name):
        raise InputError(
            f"{argument} requires Keras 3 (keras.layers.{name}); the installed version is {keras.__version__}."
        )


def has_addons() -> bool:
    """Return whether tensorflow-addons is installed; it supports TensorFlow 2.15 with Keras 2.15 only."""
    return importlib.util.find_spec("tensorflow_addons") is not None


def addons(argument: str) -> types.ModuleType:
    """Return the module tensorflow_addons.

    Args:
        argument: the argument that requires it, for the error message.

    Raises:
        ValueError: tensorflow-addons is not installed.
    """
    if not has_addons():
        raise InputError(
            f"{argument} requires tensorflow-addons: pip install 'keras-resnet-zoo[addons]' in a separate environment "
            "with Python 3.10 or 3.11."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tensorflow-addons warns that its development has ended
        return importlib.import_module("tensorflow_addons")


def is_keras_tensor(value: Any) -> bool:
    """Return whether a value is a Keras tensor."""
    try:
        return keras.backend.is_keras_tensor(value)
    except ValueError:  # Keras 2, for other types than tensors
        return False


def path(variable: Any) -> str:
    """Return the name of a variable with that of its layer, such as "conv1_conv/kernel"."""
    return getattr(variable, "path", None) or variable.name.split(":")[0]


def tf_variable(variable: Any) -> Any:
    """Return the TensorFlow variable of a Keras variable."""
    return variable.value if hasattr(variable, "path") else variable


def name_layers(file: Any, model: keras.Model) -> None:
    """Write the name of each layer to its group in a weights file, which Keras 3 has already done.

    Args:
        file: an open HDF5 file or group, written by `model.save_weights`.
        model: the model whose weights it contains.
    """
    if "name" in file["vars"].attrs:
        return
    parts = [(getattr(model, name, None), file[name]) for name in file if name != "layers"]
    counts: dict[str, int] = {}
    for layer in model.layers if "layers" in file else ():
        layer_type = to_snake_case(type(layer).__name__)
        number = counts.get(layer_type, 0)
        counts[layer_type] = number + 1
        parts.append((layer, file[f"layers/{layer_type}_{number}" if number else f"layers/{layer_type}"]))
    for part, group in parts:
        if isinstance(part, keras.Model):
            name_layers(group, part)
        elif isinstance(part, keras.layers.Layer):
            group["vars"].attrs["name"] = part.name


def call_arguments(layer: keras.layers.Layer) -> dict[str, Any]:
    """Return what a layer of a functional model is called with except its inputs, such as {"training": True}."""
    node = layer._inbound_nodes[0]
    arguments = getattr(node, "arguments", None)
    args, kwargs = (arguments.args, arguments.kwargs) if arguments else (node.call_args, node.call_kwargs)
    positional = {f"argument {number}": value for number, value in enumerate(args[1:], 2)}
    return positional | {name: value for name, value in kwargs.items() if value is not None}


def write_out(archive: Any, folder: str) -> None:
    """Write a `keras.export.ExportArchive` to a folder without printing its summary.

    Gradients that are written in Python are left out: tracing them takes a third of a segmenter's export, and servers
    compute none.
    """
    import tensorflow as tf  # only runs on the TensorFlow backend

    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    with contextlib.redirect_stdout(io.StringIO()):
        archive.write_out(folder, options=options)


# Optimizers of Keras 3, of Keras 2, and Keras 2's legacy ones, which tensorflow-addons uses


RATE_IS_ARGUMENT = "learning_rate" in inspect.signature(keras.optimizers.Optimizer.update_step).parameters
"""Whether the learning rate is an argument of `update_step`, as in Keras 3."""


def built_variables(optimizer: Any, weights: Iterable[Any]) -> list[Any]:
    """Build an optimizer for the given weights and return its variables."""
    if hasattr(optimizer, "build"):
        optimizer.build(weights)
    else:
        optimizer._create_all_weights(weights)
    variables = optimizer.variables
    return list(variables() if callable(variables) else variables)


def current_rate(optimizer: Any) -> float:
    """Return the learning rate of the next step."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    rate = optimizer.learning_rate
    if not RATE_IS_ARGUMENT:
        # In Keras 2 `learning_rate` is the rate of the last step, and `_learning_rate` the variable or the schedule.
        rate = getattr(optimizer, "_learning_rate", rate)
        rate = rate(optimizer.iterations) if callable(rate) else rate
    return float(np.asarray(rate))
