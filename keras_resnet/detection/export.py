"""Detectors for serving: SavedModels with the signature of the TF Object Detection API, and TFLite files."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import files
from keras_resnet.detection.data.transforms import DetectionTransform
from keras_resnet.errors import InputError, check_choice
from keras_resnet.ops import codecs, image
from keras_resnet.serving import publish, saved_model, signatures, tf_serving, warmup

STYLES = ("tf_od", "model_garden")


def detector(model: keras.Model, view: DetectionTransform, style: str = "tf_od"):
    """Return the function that every SavedModel serves: images u8[B,H,W,3] of any one size -> detections.

    Args:
        model: a detector, float32.
        view: how images are shown to it; resizing, normalisation and padding are part of the function.
        style: "tf_od" for the outputs of the TF Object Detection API: `detection_boxes` f32[B,N,4] (ymin, xmin, ymax,
            xmax as shares of the image), `detection_scores` f32[B,N], `detection_classes` f32[B,N] from 1 and
            `num_detections` f32[B]. "model_garden" for those of TensorFlow's Model Garden: boxes in pixels of the
            resized image, whole numbers for classes and counts, and `image_info` f32[B,4,2].
    """
    check_choice("style", style, STYLES)

    def detect(images):
        size = tf.shape(images)[1:3]
        shown = view.resize_and_normalize(images)
        shown_size = tf.shape(shown)[1:3]
        shown = view.pad(shown)
        batch = tf.shape(images)[0]
        own = tf.cast(shown_size, tf.float32)
        found = model({"images": shown, "image_size": tf.tile(own[None], [batch, 1])}, training=False)
        if style == "tf_od":
            return outputs(found, own)
        original = tf.cast(size, tf.float32)
        info = tf.stack([original, own, own / original, tf.zeros([2])])
        return {
            "detection_boxes": found["boxes"],
            "detection_scores": found["scores"],
            "detection_classes": found["classes"],
            "num_detections": found["count"],
            "image_info": tf.tile(info[None], [batch, 1, 1]),
        }

    return detect


def outputs(found: dict[str, tf.Tensor], size: tf.Tensor) -> dict[str, tf.Tensor]:
    """A detector's output with images of `size` f32[2] in the TF Object Detection API's form."""
    return {
        "detection_boxes": found["boxes"] / tf.tile(size, [2]),
        "detection_scores": found["scores"],
        "detection_classes": tf.cast(found["classes"], tf.float32),
        "num_detections": tf.cast(found["count"], tf.float32),
    }


def export(
    model: keras.Model,
    out: str | os.PathLike,
    view: DetectionTransform,
    class_names: Sequence[str],
    *,
    style: str = "tf_od",
    version: int | None = None,
) -> pathlib.Path:
    """Publish a detector as the next version in the folder `out`, by one rename.

    Before it, the version was loaded the way TF Serving loads it and asked with its warm-up requests.

    The input of `serving_default` is `input_tensor` u8[B,H,W,3], images of one size, `inputs` in Model Garden's style;
    that of `serving_bytes` is `image_bytes` string[B], encoded as `ops.codecs.decode` takes them, each of any size.

    Args:
        model: a detector, float32.
        out: folder of all versions; made where it is missing.
        view: how images are shown to it.
        class_names: names of the classes, for `assets/labels.txt`.
        style: see `detector`.
        version: number of the version; by default one more than the largest in `out`.

    Returns:
        The path of the version.

    Raises:
        ValueError: the version exists, or `out` cannot be written.
        tf.errors.OpError: TF Serving's loader cannot load it, or a warm-up request fails.
    """
    base = pathlib.Path(out)
    publish.check_version(base, version)
    detect = detector(model, view, style)
    name = {"tf_od": "input_tensor", "model_garden": "inputs"}[style]

    def one(contents):
        return {key: value[0] for key, value in detect(codecs.decode(contents)[None]).items()}

    def from_bytes(contents):
        # One after the other, since each may have another size.
        return tf.map_fn(one, contents, fn_output_signature=_types(style, model))

    endpoints = {
        "serving_default": signatures.Endpoint(detect, tf.TensorSpec([None, None, None, 3], tf.uint8, name=name)),
        "serving_bytes": signatures.Endpoint(from_bytes, signatures.IMAGE_BYTES),
    }
    with publish.staging(base) as folder:
        saved_model.write(model, endpoints, folder)
        saved_model.write_labels(class_names, folder)
        picture = warmup.picture(view.min_size, view.max_size)
        contents = np.array([tf.io.encode_png(picture).numpy()], object)
        requests = {"serving_default": {name: picture[None]}, "serving_bytes": {"image_bytes": contents}}
        warmup.write(folder, requests)
        warmup.replay(folder, requests)
        published = publish.publish(folder, base, version)
        tf_serving.write_configuration(base)
    return published


def _types(style: str, model) -> dict[str, tf.TensorSpec]:
    """What `detector` returns for one image."""
    number = tf.float32 if style == "tf_od" else tf.int32
    specs = {
        "detection_boxes": tf.TensorSpec([model.config.detections_per_image, 4], tf.float32),
        "detection_scores": tf.TensorSpec([model.config.detections_per_image], tf.float32),
        "detection_classes": tf.TensorSpec([model.config.detections_per_image], number),
        "num_detections": tf.TensorSpec([], number),
    }
    if style == "model_garden":
        specs["image_info"] = tf.TensorSpec([4, 2], tf.float32)
    return specs


def export_tflite(model: keras.Model, out: str | os.PathLike, view: DetectionTransform, size: tuple[int, int]) -> None:
    """Write a float32 TFLite file of built-in operators for images of one size.

    Its input is f32[1,H,W,3] in [0, 255], an image that was resized already; the outputs are those of the TF Object
    Detection API.

    Args:
        model: a detector, float32.
        out: the `.tflite` file to make; it must not exist.
        view: for mean and standard deviation.
        size: height and width in pixels, multiples of 16.

    Raises:
        ValueError: `out` exists, or a size that is not a multiple of 16.
    """
    out = pathlib.Path(out)
    if out.exists():
        raise InputError(f"out must be a file that does not exist yet; {str(out)!r} does.")
    if any(side % view.multiple or side < view.multiple for side in size):
        raise InputError(f"size must be multiples of {view.multiple}; got {size[0]}x{size[1]}.")

    def detect(images):
        own = tf.constant(size, tf.float32)
        shown = image.normalize(images, view.mean, view.std)
        return outputs(model({"images": shown, "image_size": own[None]}, training=False), own)

    endpoint = signatures.Endpoint(detect, tf.TensorSpec([1, *size, 3], name="images"))
    with tempfile.TemporaryDirectory() as folder:
        # By way of a SavedModel: from a concrete function, the converter silently leaves the weights of Keras 3 out.
        saved_model.write(model, {"serving_default": endpoint}, pathlib.Path(folder, "model"))
        content = tf.lite.TFLiteConverter.from_saved_model(str(pathlib.Path(folder, "model"))).convert()
    out.parent.mkdir(parents=True, exist_ok=True)
    files.write(out, content)
