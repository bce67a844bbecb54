"""TensorFlow's converter: from a function of a Keras model to the content of a TFLite file."""

from __future__ import annotations

import pathlib
import tempfile
import warnings
from collections.abc import Callable

import keras
import tensorflow as tf

from keras_resnet.serving import saved_model
from keras_resnet.serving.signatures import Endpoint


def convert(
    model: keras.Model, endpoint: Endpoint, configure: Callable[[tf.lite.TFLiteConverter], None] | None = None
) -> bytes:
    """Convert a function of a model, with any outputs, to a TFLite file of built-in operators.

    Args:
        model: the model whose variables the function uses.
        endpoint: the function and its input.
        configure: sets the options of the converter; by default the file is float32.

    Returns:
        The file's content.
    """
    with tempfile.TemporaryDirectory() as temporary:
        # Not from a concrete function, of which the converter silently omits the weights of Keras 3.
        folder = pathlib.Path(temporary, "model")
        saved_model.write(model, {"serving_default": endpoint}, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if configure:
            configure(converter)
        with warnings.catch_warnings():
            # The converter calls the interpreter that it reports as deprecated.
            warnings.filterwarnings("ignore", "(?s).*tf.lite.Interpreter is deprecated")
            return converter.convert()
