"""Export segmentation networks as SavedModels: image files or pixels in, the class of every pixel out.

serving_default   image_bytes string[N]   -> mask u8[N,H,W], size i32[N,2]
images            images u8[N,H,W,3]      -> mask u8[N,H,W]
probabilities     image_bytes string[N]   -> probabilities f32[N,h,w,K], for a height and width that are chosen here

The images of `image_bytes` may have different sizes: `size` is the height and width of each, and a smaller mask is
padded with 255 at the bottom and right.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import files
from keras_resnet.errors import InputError
from keras_resnet.ops import codecs
from keras_resnet.segmentation import inference, models
from keras_resnet.segmentation.choices import IGNORE_LABEL
from keras_resnet.serving import folding, publish, saved_model, signatures, tf_serving, warmup
from keras_resnet.serving.signatures import Endpoint

TOLERANCE = 1e-3
"""Largest difference between a probability of an export and of the network; a larger one is an error."""

WARMUP_SIZE = (256, 256)
"""Height and width of the image of the warm-up requests."""


class Transform(Protocol):
    """The part of a transform that is exported."""

    def decode(self, contents: tf.Tensor) -> tf.Tensor:
        """Decode an image file, string[] -> u8[H,W,3]."""

    def normalize(self, images: tf.Tensor) -> tf.Tensor:
        """Normalize images, u8[B,H,W,3] -> f32[B,H,W,3]."""


def export(
    model: keras.Model,
    out: str | os.PathLike,
    transform: Transform,
    class_names: Sequence[str],
    *,
    probability_size: Sequence[int] = (),
    max_pixels: int = codecs.MAX_PIXELS,
    warmup_size: Sequence[int] = WARMUP_SIZE,
    version: int | None = None,
) -> pathlib.Path:
    """Publish a segmentation network as the next version in the folder `out`, by a single rename.

    Batch norm is folded into the convolutions. Before the rename the version is loaded in the way of TF Serving, and
    its answers to the warm-up requests are compared with those of the network.

    Args:
        model: a float32 model of `segmentation.models`.
        out: folder of all versions, created if missing.
        transform: the transform of the images, which is part of the export.
        class_names: names of the K classes, for `assets/labels.txt`.
        probability_size: height and width of the signature `probabilities`; () to leave it out.
        max_pixels: images whose header declares more pixels are rejected before they are decoded.
        warmup_size: height and width of the image of the warm-up requests.
        version: number of the version; by default the largest in `out` plus 1.

    Returns:
        The path of the version.

    Raises:
        ValueError: the version exists, `out` cannot be written, an argument is not allowed, or the export answers
            differently from the network.
        tf.errors.OpError: TF Serving's loader cannot load it, or a warm-up request fails.
    """
    base = pathlib.Path(out)
    publish.check_version(base, version)
    model = models.inference_model(model)
    classes = model.output_shape[-1]
    if len(class_names) != classes:
        raise InputError(f"class_names must be the names of the {classes} classes; got {len(class_names)}.")
    dtype = model.layers[1].compute_dtype
    if dtype != "float32":
        raise InputError(f"model must compute in float32 to be exported; it computes in {dtype}.")
    served = folding.fold(model)
    pixels = warmup.smooth_image(*warmup_size)
    contents = np.array([tf.io.encode_png(pixels).numpy()], object)
    requests = {"serving_default": {"image_bytes": contents}, "images": {"images": pixels[None]}}
    if probability_size:
        requests["probabilities"] = {"image_bytes": contents}
    files.check_no_bracket(base)
    with files.staging(base) as folder:
        saved_model.write(served, endpoints(served, transform, probability_size, max_pixels), folder)
        saved_model.write_labels(class_names, folder)
        warmup.write(folder, requests)
        _check(warmup.replay(folder, requests), model, transform, pixels, probability_size)
        path = publish.publish(folder, base, version)
        tf_serving.write_configuration(base)
    return path


def endpoints(
    model: keras.Model,
    transform: Transform,
    probability_size: Sequence[int] = (),
    max_pixels: int = codecs.MAX_PIXELS,
) -> dict[str, Endpoint]:
    """Return the functions behind the signatures of this module.

    Args:
        model: f32[B,H,W,3] normalized -> logits f32[B,H,W,K].
        transform: the transform of the images.
        probability_size: as for `export`.
        max_pixels: as for `export`.

    Returns:
        Name -> endpoint. An image that cannot be decoded or is too large fails the whole batch with an
        `InvalidArgumentError` that names the cause.

    Raises:
        ValueError: `probability_size` is not a height and a width.
    """
    if probability_size and (len(probability_size) != 2 or min(probability_size) < 1):
        raise InputError(f"probability_size must be a height and a width in pixels; got {list(probability_size)}.")

    def decoded(contents: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies([codecs.checked_dimensions(contents, max_pixels)]):
            return transform.decode(tf.identity(contents))[None]

    def logits(images: tf.Tensor) -> tf.Tensor:
        return model(transform.normalize(images), training=False)

    def mask_of(images: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.argmax(logits(images), -1), tf.uint8)

    def mask_of_file(contents: tf.Tensor) -> tuple[tf.RaggedTensor, tf.Tensor]:
        mask = mask_of(decoded(contents))[0]
        return tf.RaggedTensor.from_tensor(mask), tf.shape(mask)

    def from_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        # One after the other, since the images may have different sizes.
        specs = (tf.RaggedTensorSpec([None, None], tf.uint8), tf.TensorSpec([2], tf.int32))
        masks, sizes = tf.map_fn(mask_of_file, signatures.not_empty(image_bytes), fn_output_signature=specs)
        return {"mask": masks.to_tensor(IGNORE_LABEL), "size": sizes}

    def probabilities(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = tf.TensorSpec([*probability_size, model.output_shape[-1]])
        values = tf.map_fn(
            lambda contents: inference.probabilities(logits(decoded(contents)), probability_size)[0],
            signatures.not_empty(image_bytes),
            fn_output_signature=spec,
        )
        return {"probabilities": values}

    result = {
        "serving_default": Endpoint(from_bytes, signatures.IMAGE_BYTES),
        "images": Endpoint(lambda images: {"mask": mask_of(signatures.not_empty(images))}, signatures.IMAGES),
    }
    return result | ({"probabilities": Endpoint(probabilities, signatures.IMAGE_BYTES)} if probability_size else {})


def _check(
    answers: dict[str, dict[str, np.ndarray]],
    model: keras.Model,
    transform: Transform,
    pixels: np.ndarray,
    probability_size: Sequence[int],
) -> None:
    """Raise `InputError` unless the answers to the warm-up requests are those of the network."""
    logits = model(transform.normalize(tf.constant(pixels[None])), training=False)
    expected = tf.nn.softmax(logits).numpy()
    # The most probable class of each pixel, except where others are equally probable within the tolerance.
    losses = [
        expected.max(-1) - np.take_along_axis(expected, answers[name]["mask"][..., None].astype("int64"), -1)[..., 0]
        for name in ("serving_default", "images")
    ]
    if probability_size:
        smaller = inference.probabilities(logits, probability_size).numpy()
        losses.append(np.abs(answers["probabilities"]["probabilities"] - smaller))
    difference = max(float(loss.max()) for loss in losses)
    if not difference <= TOLERANCE:
        raise InputError(
            f"the network must give the same probabilities after the export; they differ by {difference:.2g}, more "
            f"than {TOLERANCE}."
        )
