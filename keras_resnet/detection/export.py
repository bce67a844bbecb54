"""Export detectors: SavedModels with the signature of the TF Object Detection API, and TFLite files."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from keras_resnet import files
from keras_resnet.detection.data.transforms import DetectionTransform
from keras_resnet.detection.faster_rcnn import FasterRCNN
from keras_resnet.errors import InputError, check_choice
from keras_resnet.ops import image
from keras_resnet.serving import conversion, publish, saved_model, signatures, tf_serving, warmup

STYLES = ("tf_od", "model_garden")


def detector(
    model: FasterRCNN, transform: DetectionTransform, style: str = "tf_od"
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Return the function that a SavedModel serves: images u8[B,H,W,3] of one size -> detections.

    Args:
        model: a detector, float32.
        transform: the transform of the images, which is part of the function.
        style: "tf_od" for the outputs of the TF Object Detection API: `detection_boxes` f32[B,N,4] (ymin, xmin, ymax,
            xmax as fractions of the image), `detection_scores` f32[B,N], `detection_classes` f32[B,N] from 1 and
            `num_detections` f32[B]; with masks `detection_masks` f32[B,N,M,M], the probability of each cell of a box.
            "model_garden" for those of TensorFlow's Model Garden: boxes in pixels of the
            resized image, integers for classes and counts, and `image_info` f32[B,4,2].
    """
    check_choice("style", style, STYLES)

    def detect(images: tf.Tensor) -> dict[str, tf.Tensor]:
        resized = transform.resize_and_normalize(images)
        batch_size, size = tf.shape(images)[0], tf.cast(tf.shape(resized)[1:3], tf.float32)
        image_size = tf.tile(size[None], [batch_size, 1])
        detections = model({"images": transform.pad(resized), "image_size": image_size}, training=False)
        if style == "tf_od":
            return tf_od_outputs(detections, size)
        original_size = tf.cast(tf.shape(images)[1:3], tf.float32)
        info = tf.stack([original_size, size, size / original_size, tf.zeros([2])])
        return {
            "detection_boxes": detections["boxes"],
            "detection_scores": detections["scores"],
            "detection_classes": detections["classes"],
            "num_detections": detections["count"],
            "image_info": tf.tile(info[None], [batch_size, 1, 1]),
            **_mask_outputs(detections),
        }

    return detect


def tf_od_outputs(detections: Mapping[str, tf.Tensor], size: tf.Tensor) -> dict[str, tf.Tensor]:
    """Convert a detector's output for images of `size` f32[2] to that of the TF Object Detection API."""
    return {
        "detection_boxes": detections["boxes"] / tf.tile(size, [2]),
        "detection_scores": detections["scores"],
        "detection_classes": tf.cast(detections["classes"], tf.float32),
        "num_detections": tf.cast(detections["count"], tf.float32),
        **_mask_outputs(detections),
    }


def _mask_outputs(detections: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The masks of detections, if there are some."""
    return {"detection_masks": detections["masks"]} if "masks" in detections else {}


def export(
    model: FasterRCNN,
    out: str | os.PathLike,
    transform: DetectionTransform,
    class_names: Sequence[str],
    *,
    style: str = "tf_od",
    version: int | None = None,
) -> pathlib.Path:
    """Publish a detector as the next version in the folder `out`, by a single rename.

    Before the rename the version is loaded in the way of TF Serving and answers its warm-up requests.

    The input of `serving_default` is `input_tensor` u8[B,H,W,3], images of one size, named `inputs` in Model Garden's
    style; that of `serving_bytes` is `image_bytes` string[B], files that `ops.codecs.decode` reads, of any sizes.

    Args:
        model: a detector, float32.
        out: folder of all versions, created if missing.
        transform: the transform of the images.
        class_names: names of the classes, for `assets/labels.txt`.
        style: see `detector`.
        version: number of the version; by default the largest in `out` plus 1.

    Returns:
        The path of the version.

    Raises:
        ValueError: the version exists, or `out` cannot be written.
        tf.errors.OpError: TF Serving's loader cannot load it, or a warm-up request fails.
    """
    base = pathlib.Path(out)
    publish.check_version(base, version)
    detect = detector(model, transform, style)
    name = {"tf_od": "input_tensor", "model_garden": "inputs"}[style]

    def detect_file(contents: tf.Tensor) -> dict[str, tf.Tensor]:
        return {key: value[0] for key, value in detect(transform.decode(contents)[None]).items()}

    def from_bytes(contents: tf.Tensor) -> dict[str, tf.Tensor]:
        # One after the other, since the images may have different sizes.
        return tf.map_fn(detect_file, contents, fn_output_signature=_output_specs(style, model))

    endpoints = {
        "serving_default": signatures.Endpoint(detect, tf.TensorSpec([None, None, None, 3], tf.uint8, name=name)),
        "serving_bytes": signatures.Endpoint(from_bytes, signatures.IMAGE_BYTES),
    }
    files.check_no_bracket(base)
    with files.staging(base) as folder:
        saved_model.write(model, endpoints, folder)
        saved_model.write_labels(class_names, folder)
        pixels = warmup.smooth_image(transform.min_size, transform.max_size)
        contents = np.array([tf.io.encode_png(pixels).numpy()], object)
        requests = {"serving_default": {name: pixels[None]}, "serving_bytes": {"image_bytes": contents}}
        warmup.write(folder, requests)
        warmup.replay(folder, requests)
        published = publish.publish(folder, base, version)
        tf_serving.write_configuration(base)
    return published


def _output_specs(style: str, model: FasterRCNN) -> dict[str, tf.TensorSpec]:
    """The outputs of `detector` for one image."""
    number, count = (tf.float32 if style == "tf_od" else tf.int32), model.config.detections_per_image
    specs = {
        "detection_boxes": tf.TensorSpec([count, 4], tf.float32),
        "detection_scores": tf.TensorSpec([count], tf.float32),
        "detection_classes": tf.TensorSpec([count], number),
        "num_detections": tf.TensorSpec([], number),
    }
    if model.config.masks:
        specs["detection_masks"] = tf.TensorSpec([count, model.mask_size, model.mask_size], tf.float32)
    if style == "model_garden":
        specs["image_info"] = tf.TensorSpec([4, 2], tf.float32)
    return specs


def export_tflite(
    model: FasterRCNN, out: str | os.PathLike, transform: DetectionTransform, size: tuple[int, int]
) -> None:
    """Write a float32 TFLite file of built-in operators for images of one size.

    The input is a resized image f32[1,H,W,3] in [0, 255]; the outputs are those of the TF Object Detection API.

    Args:
        model: a detector, float32.
        out: the `.tflite` file to create; it must not exist.
        transform: the transform whose mean and standard deviation are part of the file.
        size: height and width in pixels, multiples of 16.

    Raises:
        ValueError: `out` exists, a side is not a multiple of 16, or the detector has masks.
    """
    out = pathlib.Path(out)
    if model.config.masks:
        raise InputError("TFLite files cannot have masks: export a SavedModel, or a detector without masks.")
    if out.exists():
        raise InputError(f"out must be a file that does not exist yet; {str(out)!r} does.")
    multiple = transform.multiple
    if any(side % multiple or side < multiple for side in size):
        raise InputError(f"size must be multiples of {multiple}; got {size[0]}x{size[1]}.")

    def detect(images: tf.Tensor) -> dict[str, tf.Tensor]:
        image_size = tf.constant(size, tf.float32)
        normalized = image.normalize(images, transform.mean, transform.std)
        detections = model({"images": normalized, "image_size": image_size[None]}, training=False)
        return tf_od_outputs(detections, image_size)

    endpoint = signatures.Endpoint(detect, tf.TensorSpec([1, *size, 3], name="images"))
    content = conversion.convert(model, endpoint)
    files.make_parent(out)
    files.write(out, content)
