"""Networks for fast inference in Python: batch norm folded, weights constant, bfloat16 where the processor has it.

fast = keras_resnet.optimized(keras_resnet.ResNet50(weights="imagenet"))
scores = fast(images)  # or fast.predict(images)
detections = keras_resnet.optimized(detector)({"images": images, "image_size": image_size})
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
        model: a functional network, f32[B,H,W,C] -> f32[B,K] or maps, such as a classifier or a segmenter; or a
            detector. It is not changed, and later changes of its weights do not reach the copy.
        precision: "auto" for bfloat16 if the processor computes with it (AVX512-BF16 or AMX on CPUs, compute capability
            8.0 of GPUs) and float32 otherwise; or "float32", "float16" or "bfloat16".

    Returns:
        A `keras.Model` for `predict`, `predict_on_batch` and calls, without variables; outputs that are no integers are
        float32. Inputs are cast to the network's dtypes; those of other shapes raise a `ValueError`.

    Raises:
        ValueError: unknown precision, the model is neither functional nor a detector, or Keras' backend is not
            TensorFlow.
    """
    check_choice("precision", precision, PRECISIONS)
    if keras.backend.backend() != "tensorflow":
        raise InputError(f"optimized requires Keras on TensorFlow; its backend is {keras.backend.backend()!r}.")
    detector: Any = model if hasattr(model, "folded") else None  # which is not functional and folds itself
    if detector is not None:
        return OptimizedModel(detector.folded(_chosen(precision)), detector.inference_inputs, name=model.name)
    check_functional(model)
    dtype = _chosen(precision, is_integer=folding.is_integer(model))
    signature = tf.nest.map_structure(
        lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name), model.input
    )
    return OptimizedModel(folding.fold(model, dtype), signature, name=model.name)


def _chosen(precision: str, is_integer: bool = False) -> str:
    """The dtype of a precision; networks of integers compute in float32."""
    if precision != "auto":
        return precision
    return "bfloat16" if computes_in_bfloat16() and not is_integer else "float32"


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
        model: a model for inference.
        signature: the structure of its inputs, of `tf.TensorSpec`.
        name: name of the model.
    """

    def __init__(self, model: keras.Model, signature: Any, name: str | None = None):
        super().__init__(name=name)

        def call(*inputs: tf.Tensor) -> Any:
            outputs = model(tf.nest.pack_sequence_as(signature, inputs), training=False)
            return tf.nest.map_structure(_not_half, outputs)

        function = tf.function(call, input_signature=tf.nest.flatten(signature), autograph=False)
        concrete = function.get_concrete_function()
        self._graph = convert_variables_to_constants_v2(concrete)
        # Keras would track a dictionary, and change its type.
        self._arguments = functools.partial(_arguments, signature)
        self._pack = functools.partial(tf.nest.pack_sequence_as, concrete.structured_outputs)
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs = self._graph(*self._arguments(inputs))
        return self._pack(tf.nest.flatten(outputs))


def _arguments(signature: Any, inputs: Any) -> list[tf.Tensor]:
    """The flat inputs of a graph, cast to its dtypes; a graph checks no shapes, and some kernels abort the process."""
    specs = tf.nest.flatten(signature)
    if isinstance(inputs, dict):  # which may have more, such as the ground truth
        names = sorted(signature) if isinstance(signature, dict) else [spec.name for spec in specs]
        if missing := [name for name in names if name not in inputs]:
            raise InputError(f"inputs must have {', '.join(names)}; got none for {', '.join(missing)}.")
        inputs = [inputs[name] for name in names]
    tensors = [tf.convert_to_tensor(values) for values in tf.nest.flatten(inputs)]
    shapes = [tensor.shape for tensor in tensors]
    if len(tensors) != len(specs) or not all(map(tf.TensorShape.is_compatible_with, shapes, (s.shape for s in specs))):
        required = ", ".join(str(spec.shape) for spec in specs)
        raise InputError(f"inputs must be of shape {required}; got {', '.join(map(str, shapes))}.")
    return [
        tensor if tensor.dtype == spec.dtype else tf.cast(tensor, spec.dtype)
        for tensor, spec in zip(tensors, specs, strict=True)
    ]


def _not_half(values: tf.Tensor) -> tf.Tensor:
    """Cast numbers of half precision to float32."""
    return tf.cast(values, tf.float32) if values.dtype.is_floating else values
