"""Networks for fast inference in Python: batch norm folded, weights constant, bfloat16 where the processor has it.

fast = keras_resnet.optimized(keras_resnet.ResNet50(weights="imagenet"))
scores = fast(images)  # or fast.predict(images)
"""

from __future__ import annotations

import functools
import pathlib
from typing import Any

import keras
import tensorflow as tf

# The function that makes variables constants has no public name.
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from keras_resnet.errors import InputError, check_choice
from keras_resnet.models.submodels import check_functional
from keras_resnet.serving import folding

PRECISIONS = ("auto", *folding.DTYPES)


def optimized(model: keras.Model, precision: str = "auto") -> OptimizedModel:
    """Return a copy of a network that is fast in Python, in graphs whose weights are constants.

    The copy computes the same function, to the rounding of its weights. On 100 photographs, the probabilities of the
    authors' ResNet-50 differ by at most 3.3e-6 in float32, 0.004 in float16 and 0.032 in bfloat16, where two
    photographs get another class. A call is one graph, also outside of `predict`; the first one of each size of images
    takes seconds.

    Args:
        model: a functional network, f32[B,H,W,C] -> f32[B,K] or maps; it is not changed, and later changes of its
            weights do not reach the copy.
        precision: "auto" for bfloat16 if the processor computes with it (AVX512-BF16 or AMX on CPUs, compute capability
            8.0 of GPUs) and float32 otherwise; or "float32", "float16" or "bfloat16".

    Returns:
        A `keras.Model` for `predict`, `predict_on_batch` and calls, without variables; outputs are float32.

    Raises:
        ValueError: unknown precision, the model is not functional, or Keras' backend is not TensorFlow.
    """
    check_choice("precision", precision, PRECISIONS)
    if keras.backend.backend() != "tensorflow":
        raise InputError(f"optimized requires Keras on TensorFlow; its backend is {keras.backend.backend()!r}.")
    check_functional(model)
    if precision == "auto":
        integer = folding.is_integer(model)
        precision = "bfloat16" if computes_in_bfloat16() and not integer else "float32"
    return OptimizedModel(folding.fold(model, precision), name=model.name)


def computes_in_bfloat16() -> bool:
    """Return whether the GPU, or without one the processor, has instructions for bfloat16."""
    if gpus := tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0)) >= (8, 0)
    try:
        flags = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:  # not Linux
        return False
    return bool({"avx512_bf16", "amx_bf16"} & set(flags))


class OptimizedModel(keras.Model):
    """A network whose weights are constants of a graph; see `optimized`.

    Args:
        model: a functional network for inference.
        name: name of the model.
    """

    def __init__(self, model: keras.Model, name: str | None = None):
        super().__init__(name=name)
        signature = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in model.inputs]

        def call(*inputs: Any) -> Any:
            outputs = model(inputs[0] if len(inputs) == 1 else list(inputs), training=False)
            return tf.nest.map_structure(lambda values: tf.cast(values, tf.float32), outputs)

        function = tf.function(call, input_signature=signature, autograph=False)
        self._graph = convert_variables_to_constants_v2(function.get_concrete_function())
        # Keras would track a dictionary of outputs, and change its type.
        self._pack = functools.partial(tf.nest.pack_sequence_as, model.output)
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs = self._graph(*tf.nest.flatten(inputs))
        return self._pack(tf.nest.flatten(outputs))
