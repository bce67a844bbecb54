"""The signatures of exported models; their names and meanings are the same for every network.

serving_default   image_bytes string[N]   -> probabilities f32[N,K], classes string[N,k], scores f32[N,k]
images            images u8[N,H,W,3]      -> the same
features          image_bytes string[N]   -> features f32[N,D]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from keras_resnet.data.transforms import EvalTransform
from keras_resnet.errors import InputError
from keras_resnet.models.submodels import submodel
from keras_resnet.ops import codecs


class Endpoint(NamedTuple):
    """A function and the specification of its one input."""

    function: Callable[[tf.Tensor], dict[str, tf.Tensor]]
    input: tf.TensorSpec


IMAGE_BYTES = tf.TensorSpec([None], tf.string, name="image_bytes")
IMAGES = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")


def endpoints(
    model: keras.Model,
    transform: EvalTransform,
    class_names: Sequence[str],
    *,
    top: int = 5,
    max_pixels: int = codecs.MAX_PIXELS,
) -> dict[str, Endpoint]:
    """Return the functions behind the signatures of this module.

    Args:
        model: f32[N,H,W,3] normalized -> probabilities f32[N,K]; its last layer is the classifier of pooled features.
        transform: the test transform of photos.
        class_names: names of the K classes.
        top: length of the outputs `classes` and `scores`, which list the best classes; at most K.
        max_pixels: images whose header declares more pixels are rejected before they are decoded.

    Returns:
        Name -> endpoint. An image that cannot be decoded or is too large fails the whole batch with an
        `InvalidArgumentError` that names the cause.

    Raises:
        ValueError: the number of `class_names` is not that of the network's classes, or `top` is below 1.
    """
    classes = model.output_shape[-1]
    if len(class_names) != classes:
        raise InputError(f"class_names must be the names of the {classes} classes; got {len(class_names)}.")
    if top < 1:
        raise InputError(f"top must be at least 1; got {top}.")
    names, count = tf.constant(list(class_names)), min(top, classes)
    classifier = model.layers[-1]
    backbone = submodel(model, classifier.input)

    def decode_images(image_bytes: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(
            lambda contents: transform.decode(contents, max_pixels),
            not_empty(image_bytes),
            fn_output_signature=tf.TensorSpec([*transform.size, 3], tf.float32),
        )

    # Tracing this takes most of the time of an export: once for all signatures.
    decode = tf.function(decode_images).get_concrete_function(IMAGE_BYTES)

    def features(pixels: tf.Tensor) -> tf.Tensor:
        return backbone(transform.batch(pixels), training=False)

    def classify(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = tf.cast(classifier(features(pixels)), tf.float32)
        scores, best = tf.math.top_k(probabilities, count)
        return {"probabilities": probabilities, "classes": tf.gather(names, best), "scores": scores}

    return {
        "serving_default": Endpoint(lambda image_bytes: classify(decode(image_bytes)), IMAGE_BYTES),
        "images": Endpoint(lambda images: classify(transform.crop(not_empty(images))), IMAGES),
        "features": Endpoint(lambda image_bytes: {"features": features(decode(image_bytes))}, IMAGE_BYTES),
    }


def not_empty(images: tf.Tensor) -> tf.Tensor:
    """Return the same images; an empty batch fails with a clear message instead of one of the convolutions."""
    message = "the batch must have at least one image, of at least one pixel; its shape is"
    with tf.control_dependencies([tf.debugging.Assert(tf.size(images) > 0, [message, tf.shape(images)])]):
        return tf.identity(images)
