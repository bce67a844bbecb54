"""TFLite files for phones and CPUs: built-in operators only, normalisation inside."""

from __future__ import annotations

import os
import pathlib
import tempfile

import keras
import tensorflow as tf

from keras_resnet.errors import InputError
from keras_resnet.serving import saved_model


def export(model: keras.Model, out: str | os.PathLike, mean, std) -> None:
    """Write a float32 TFLite file: images u8[1,H,W,3] -> probabilities f32[1,K]; the batch can be resized.

    Args:
        model: f32[N,H,W,3] normalised -> f32[N,K] probabilities.
        out: the `.tflite` file to make; it must not exist.
        mean: mean of each channel, in [0, 255].
        std: standard deviation of each channel.

    Raises:
        ValueError: `out` exists.
    """
    out = pathlib.Path(out)
    if out.exists():
        raise InputError(f"out must be a file that does not exist yet; {str(out)!r} does.")
    with tempfile.TemporaryDirectory() as folder:
        # By way of a SavedModel: from a concrete function, the converter silently leaves the weights of Keras 3 out.
        saved_model.export(model, pathlib.Path(folder, "model"), mean, std)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(pathlib.Path(folder, "model")))
        content = converter.convert()
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{os.getpid()}.{out.name}")
    try:
        partial.write_bytes(content)
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
