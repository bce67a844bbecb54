"""Where Keras 2 and Keras 3 differ, by capability: everything else in the package is written once for both."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import io
import os
import warnings
from collections.abc import Iterable

import keras
import numpy as np

from keras_resnet.errors import InputError

try:  # Keras 3, any backend
    from keras import Variable
    from keras.backend import standardize_dtype
    from keras.config import dtype_policy, image_data_format, set_dtype_policy
    from keras.dtype_policies import get as policy_of
    from keras.ops import argmax, average_pool, cast, cos, one_hot, pad, reshape, where
    from keras.random import SeedGenerator
    from keras.tree import flatten

    class LossScale(keras.optimizers.LossScaleOptimizer):
        """Keras' loss scaling for float16, counting also the steps that it skips because a gradient overflowed.

        With Keras' own count, the schedule and the position in the data would fall behind each other.
        """

        def _stateful_handle_non_finite_grads(self):
            super()._stateful_handle_non_finite_grads()
            self.inner_optimizer._iterations.assign_add(1)

except ImportError:  # Keras 2 has no such modules, and only TensorFlow
    from keras.backend import image_data_format
    from keras.mixed_precision import LossScaleOptimizer as LossScale  # counts the steps that it skips
    from keras.mixed_precision import Policy
    from keras.mixed_precision import global_policy as dtype_policy
    from keras.mixed_precision import set_global_policy as set_dtype_policy
    from keras.src.utils.generic_utils import to_snake_case
    from tensorflow import Variable, argmax, cast, cos, nn, one_hot, pad, reshape, where
    from tensorflow.nest import flatten

    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        raise InputError(
            f"KERAS_BACKEND must be 'tensorflow' with Keras {keras.__version__}, which has no other."
        ) from None

    SeedGenerator = object

    def average_pool(inputs, pool_size, strides, padding):
        return nn.avg_pool(inputs, pool_size, strides, padding.upper())

    def policy_of(policy) -> Policy:
        return policy if isinstance(policy, Policy) else Policy(policy)

    def standardize_dtype(dtype) -> str:
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
    "cos",
    "current_rate",
    "dtype_policy",
    "flatten",
    "has_addons",
    "image_data_format",
    "is_keras_tensor",
    "name_layers",
    "one_hot",
    "pad",
    "path",
    "policy_of",
    "reshape",
    "set_dtype_policy",
    "slow_down",
    "standardize_dtype",
    "tf_variable",
    "where",
    "write_out",
]


def check_layer(name: str, argument: str) -> None:
    """Raise `InputError` where this Keras lacks the layer `name` that `argument` needs."""
    if not hasattr(keras.layers, name):
        raise InputError(f"{argument} needs keras.layers.{name} of Keras 3; this is Keras {keras.__version__}.")


def has_addons() -> bool:
    """Whether tensorflow-addons is there; it is for TensorFlow 2.15 and Keras 2.15 only."""
    return importlib.util.find_spec("tensorflow_addons") is not None


def addons(argument: str):
    """Return the module tensorflow_addons.

    Raises:
        ValueError: it is absent, and `argument` needs it.
    """
    if not has_addons():
        raise InputError(
            f"{argument} needs tensorflow-addons: pip install 'keras-resnet-zoo[addons]' in an environment of its own, "
            "with Python 3.10 or 3.11."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is no longer developed: docs/stacks.md says so
        return importlib.import_module("tensorflow_addons")


def is_keras_tensor(value) -> bool:
    """Whether a value is a Keras tensor; Keras 2 raises an error of its own for those that are not symbolic."""
    try:
        return keras.backend.is_keras_tensor(value)
    except ValueError:
        return False


def path(variable) -> str:
    """A variable's name with that of its layer, such as "conv1_conv/kernel"."""
    return getattr(variable, "path", None) or variable.name.split(":")[0]


def tf_variable(variable):
    """TensorFlow's own variable behind one of Keras."""
    return variable.value if hasattr(variable, "path") else variable


def name_layers(file, model: keras.Model) -> None:
    """Note in an open weights file of Keras which layer each group belongs to; Keras 3 has done it by itself."""
    if "name" in file["vars"].attrs:
        return
    parts = [(getattr(model, name, None), file[name]) for name in file if name != "layers"]
    seen = {}
    for layer in model.layers if "layers" in file else ():
        kind = to_snake_case(type(layer).__name__)
        number = seen[kind] = seen.get(kind, -1) + 1
        parts.append((layer, file[f"layers/{kind}_{number}" if number else f"layers/{kind}"]))
    for part, group in parts:
        if isinstance(part, keras.Model):
            name_layers(group, part)
        elif isinstance(part, keras.layers.Layer):
            group["vars"].attrs["name"] = part.name


def write_out(archive, folder: str) -> None:
    """Write a `keras.export.ExportArchive` without a word on the terminal."""
    with contextlib.redirect_stdout(io.StringIO()):
        archive.write_out(folder)


# Optimizers: of Keras 3, of Keras 2, and Keras 2's legacy ones, of which those of tensorflow-addons are made.


RATE_IS_ARGUMENT = "learning_rate" in inspect.signature(keras.optimizers.Optimizer.update_step).parameters
"""Whether `update_step` is told the rate, as in Keras 3."""


def built_variables(optimizer, weights: Iterable) -> list:
    """Build an optimizer for these weights and return its variables."""
    if hasattr(optimizer, "build"):
        optimizer.build(weights)
    else:
        optimizer._create_all_weights(weights)
    variables = optimizer.variables
    return list(variables() if callable(variables) else variables)


def current_rate(optimizer) -> float:
    """The learning rate of the next step."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    rate = optimizer.learning_rate
    if not RATE_IS_ARGUMENT:
        # Keras 2 keeps the last step's rate there, or the schedule.
        rate = getattr(optimizer, "_learning_rate", rate)
        rate = rate(optimizer.iterations) if callable(rate) else rate
    return float(np.asarray(rate))


def slow_down(optimizer, variables: Iterable, factor: float) -> None:
    """Multiply the learning rate of some variables; decoupled weight decay keeps the whole rate.

    Args:
        optimizer: any, not yet used.
        variables: those that learn more slowly.
        factor: what their rate is multiplied by.
    """
    if not hasattr(optimizer, "update_step"):
        _slow_down_legacy(optimizer, {variable.ref() for variable in variables}, factor)
        return
    # TensorFlow hands its own variables to `update_step`; the key is what Keras knows both kinds by.
    slow = {optimizer._var_key(variable) for variable in variables}
    whole = optimizer.update_step

    def with_rate(gradient, variable, learning_rate):
        return whole(gradient, variable, learning_rate * (factor if optimizer._var_key(variable) in slow else 1.0))

    def without_rate(gradient, variable):
        # Keras 2 reads the rate inside; every rule of it takes a step that is proportional to the rate.
        before = variable.read_value()
        whole(gradient, variable)
        if optimizer._var_key(variable) in slow:
            variable.assign(before + factor * (variable - before))

    optimizer.update_step = with_rate if RATE_IS_ARGUMENT else without_rate


def _slow_down_legacy(optimizer, slow: set, factor: float) -> None:
    while hasattr(optimizer, "_optimizer"):  # the rule inside of Lookahead or an average
        optimizer = optimizer._optimizer
    whole, rate = optimizer._resource_apply_dense, optimizer._decayed_lr

    def apply(grad, var):
        container = getattr(var, "_distributed_container", lambda: None)()
        if (var if container is None else container).ref() not in slow:
            return whole(grad, var)
        optimizer._decayed_lr = lambda dtype: factor * rate(dtype)
        try:
            return whole(grad, var)
        finally:
            optimizer._decayed_lr = rate

    optimizer._resource_apply_dense = apply
