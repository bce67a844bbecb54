"""SavedModels that TF Serving's loader takes: named inputs and outputs, normalisation inside."""

from __future__ import annotations

import os
import pathlib

import keras
import tensorflow as tf

from keras_resnet.errors import InputError
from keras_resnet.ops import image


def signature(model: keras.Model, mean, std) -> tf.types.experimental.GenericFunction:
    """The function that every export serves: images u8[N,H,W,3] -> {"probabilities": f32[N,K]}.

    Args:
        model: f32[N,H,W,3] normalised -> f32[N,K] probabilities.
        mean: mean of each channel, in [0, 255].
        std: standard deviation of each channel.
    """

    def predict(images):
        return {"probabilities": model(image.normalize(images, mean, std), training=False)}

    spec = tf.TensorSpec([None, *model.input_shape[1:]], tf.uint8, name="images")
    return tf.function(predict, input_signature=[spec])


def export(model: keras.Model, out: str | os.PathLike, mean, std) -> None:
    """Write a SavedModel with the signature `serving_default`: images u8[N,H,W,3] -> probabilities f32[N,K].

    It goes through `keras.export.ExportArchive`: what `tf.saved_model.save` writes of a Keras 3 model fails in the
    C++ loader that TF Serving uses.

    Args:
        model: f32[N,H,W,3] normalised -> f32[N,K] probabilities.
        out: folder to make; it must not exist.
        mean: mean of each channel, in [0, 255].
        std: standard deviation of each channel.

    Raises:
        ValueError: `out` exists or cannot be made.
    """
    out = pathlib.Path(out)
    if out.exists():
        raise InputError(f"out must be a folder that does not exist yet; {str(out)!r} does.")
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", signature(model, mean, std))
    partial = out.with_name(f".{os.getpid()}.{out.name}")
    try:
        archive.write_out(str(partial), verbose=False)
        os.replace(partial, out)
    finally:
        if partial.exists():
            tf.io.gfile.rmtree(str(partial))
