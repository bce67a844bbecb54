"""Export localizers as SavedModels: image files in, classes with a score and a box each out; and as TFLite files.

serving_default   image_bytes string[N]   -> classes string[N,T], scores f32[N,T], boxes f32[N,T,4],
                                             box_scores f32[N,T]

With a classifier, `classes` are its most probable classes and `scores` their probabilities; without one they are all
classes of the localizer, and `scores` are those of the boxes. Boxes are top, left, bottom and right in pixels.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import files
from keras_resnet.errors import InputError
from keras_resnet.localization import classifiers, inference
from keras_resnet.localization.classifiers import Classifier
from keras_resnet.localization.inference import Localizer
from keras_resnet.ops import codecs
from keras_resnet.serving import conversion, publish, saved_model, signatures, tf_serving, warmup
from keras_resnet.serving.signatures import Endpoint

TOLERANCE = 1e-3
"""Largest relative difference between an output of an export and of the networks; a larger one is an error."""

WARMUP_SIZE = (240, 320)
"""Height and width of the image of the warm-up request."""


def function(
    localizer: Localizer,
    class_names: Sequence[str],
    classifier: tuple[keras.Model, Callable[[tf.Tensor], tf.Tensor], np.ndarray] | None = None,
    top: int = 5,
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Return the function from one image u8[H,W,3] to the outputs of a SavedModel, without the batch axis.

    Args:
        localizer: the localizer, float32.
        class_names: names of the K classes.
        classifier: a network f32[1,h,w,3] -> probabilities f32[1,C], the function from images u8[1,H,W,3] to its input,
            and the localizer's class of each of its classes i64[C]; None to localize all classes.
        top: number of classes that the classifier selects.
    """
    names = tf.constant(list(class_names))

    def localize(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        if classifier is None:
            classes = tf.range(len(class_names))
            boxes, box_scores = localizer.localize(pixels, classes)
            scores = box_scores
        else:
            model, transform, numbers = classifier
            probabilities = model(transform(pixels[None]), training=False)[0]
            scores, best = tf.math.top_k(probabilities, min(top, len(numbers)))
            classes = tf.gather(tf.constant(numbers, tf.int32), best)
            boxes, box_scores = localizer.localize(pixels, classes)
        return {"classes": tf.gather(names, classes), "scores": scores, "boxes": boxes, "box_scores": box_scores}

    return localize


def export(
    localizer: Localizer,
    out: str | os.PathLike,
    class_names: Sequence[str],
    *,
    classifier: Classifier | None = None,
    top: int = 5,
    max_pixels: int = codecs.MAX_PIXELS,
    version: int | None = None,
) -> pathlib.Path:
    """Publish a localizer as the next version in the folder `out`, by a single rename.

    Before the rename the version is loaded in the way of TF Serving, and its answer to the warm-up request is compared
    with that of the networks.

    Args:
        localizer: the localizer, float32.
        out: folder of all versions, created if missing.
        class_names: names of the K classes, for `assets/labels.txt`.
        classifier: the classifier that selects the classes; None to localize all classes.
        top: number of classes that it selects.
        max_pixels: images whose header declares more pixels are rejected before they are decoded.
        version: number of the version; by default the largest in `out` plus 1.

    Returns:
        The path of the version.

    Raises:
        ValueError: the version exists, `out` cannot be written, an argument is not allowed, or the export answers
            differently from the networks.
        tf.errors.OpError: TF Serving's loader cannot load it, or the warm-up request fails.
    """
    base = pathlib.Path(out)
    publish.check_version(base, version)
    if top < 1:
        raise InputError(f"top must be at least 1; got {top}.")
    parts = None
    if classifier is not None:
        numbers = classifiers.class_map(classifier.dataset_info.class_names, class_names)
        transform = classifier.photo_transform()
        parts = (classifier.load(), lambda images: transform.batch(images), numbers)
    localize = function(localizer, class_names, parts, top)
    count = len(class_names) if parts is None else min(top, len(parts[2]))

    def from_file(contents: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([codecs.checked_dimensions(contents, max_pixels)]):
            return localize(localizer.transform.decode(tf.identity(contents)))

    def from_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        # One after the other, since the images may have different sizes.
        specs = {
            "classes": tf.TensorSpec([count], tf.string),
            "scores": tf.TensorSpec([count]),
            "boxes": tf.TensorSpec([count, 4]),
            "box_scores": tf.TensorSpec([count]),
        }
        return tf.map_fn(from_file, signatures.not_empty(image_bytes), fn_output_signature=specs)

    archive = _Tracked([localizer.rpn, localizer.rcnn, parts and parts[0]])
    files.check_no_bracket(base)
    with files.staging(base) as folder:
        saved_model.write(archive, {"serving_default": Endpoint(from_bytes, signatures.IMAGE_BYTES)}, folder)
        saved_model.write_labels(class_names, folder)
        pixels = warmup.smooth_image(*WARMUP_SIZE)
        contents = np.array([tf.io.encode_png(pixels).numpy()], object)
        requests = {"serving_default": {"image_bytes": contents}}
        warmup.write(folder, requests)
        _check(warmup.replay(folder, requests)["serving_default"], localize(tf.constant(pixels)))
        path = publish.publish(folder, base, version)
        tf_serving.write_configuration(base)
    return path


def export_tflite(localizer: Localizer, out: str | os.PathLike, classes: int, size: Sequence[int]) -> None:
    """Write a float32 TFLite file of built-in operators with stage 1, for images of one size.

    The input `images` is a resized image f32[1,H,W,3] in [0, 255]. The outputs are the box of each class, `boxes`
    f32[1,K,4], top, left, bottom and right in pixels of the input, and its score, `scores` f32[1,K].

    Args:
        localizer: the localizer of a run of stage 1, float32.
        out: the `.tflite` file to create; it must not exist.
        classes: number of classes K.
        size: height and width in pixels.

    Raises:
        ValueError: `out` exists, the size is not allowed, or the localizer has a second stage.
    """
    out = pathlib.Path(out)
    if localizer.rcnn is not None:
        raise InputError("TFLite files contain stage 1 alone: workdir must be a run of stage 1, or format saved_model.")
    if out.exists():
        raise InputError(f"out must be a file that does not exist yet; {str(out)!r} does.")
    if len(size) != 2 or min(size) < localizer.rpn.stride:
        raise InputError(
            f"size must be a height and a width of at least {localizer.rpn.stride} pixels; got {list(size)}."
        )

    def localize(images: tf.Tensor) -> dict[str, tf.Tensor]:
        logits, boxes = localizer.rpn.localize(localizer.transform.normalize(images), tf.range(classes)[None])
        found = inference.inside(boxes[0], tf.sigmoid(logits[0]), tf.constant(list(size)))
        boxes, scores = inference.best(found, localizer.vote_thresh)
        return {"boxes": boxes[None], "scores": scores[None]}

    endpoint = Endpoint(localize, tf.TensorSpec([1, *size, 3], name="images"))
    content = conversion.convert(localizer.rpn, endpoint)
    files.make_parent(out)
    files.write(out, content)


class _Tracked(keras.Model):
    """The networks of an export, so that their variables are saved."""

    def __init__(self, networks: Sequence[keras.Model | None]):
        super().__init__(name="localizer")
        self.networks = [network for network in networks if network is not None]
        self.built = True


def _check(answer: dict[str, np.ndarray], expected: dict[str, tf.Tensor]) -> None:
    """Raise `InputError` unless the answer to the warm-up request is that of the networks."""
    size = max(WARMUP_SIZE)
    difference = max(
        float(np.abs(answer[name][0] - expected[name].numpy()).max()) / scale
        for name, scale in (("scores", 1), ("box_scores", 1), ("boxes", size))
    )
    if not difference <= TOLERANCE:
        raise InputError(
            f"the networks must give the same scores and boxes after the export; they differ by {difference:.2g}, more "
            f"than {TOLERANCE}."
        )
