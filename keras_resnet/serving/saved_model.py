"""SavedModels that TensorFlow Serving loads, published as numbered versions.

out/1/saved_model.pb, variables/         the network with the signatures of `signatures`
out/1/assets/labels.txt                  the class names, one a line
out/1/assets.extra/                      warm-up requests
out/1/batching_params.pbtxt              for --enable_per_model_batching_parameters
out/1/manifest.sha256                    checksums, for `sha256sum --check` or `publish.verify`
out/1.sha256                             the same checksums, for `sha256sum --check` in `out`
out/models.config, out/compose.yaml      how to start TensorFlow Serving
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import compat, files
from keras_resnet.errors import InputError
from keras_resnet.ops import codecs, graph_errors
from keras_resnet.serving import folding, publish, signatures, tf_serving, warmup
from keras_resnet.serving.source import ServableClassifier

TOLERANCE = {"float32": 1e-3, "float16": 0.1, "bfloat16": 0.1}
"""dtype -> largest difference between the probabilities of an export and of the network; a larger one is an error."""


def export(
    source: ServableClassifier,
    out: str | os.PathLike,
    *,
    version: int | None = None,
    top: int = 5,
    max_pixels: int = codecs.MAX_PIXELS,
    fold: bool = True,
    dtype: str = "float32",
) -> pathlib.Path:
    """Publish a trained network as the next version in the folder `out`.

    Before the version appears, by one rename, it is loaded as TensorFlow Serving loads it, and its answers are compared
    with those of the network.

    Args:
        source: the trained network, such as a `ClassifierRun`.
        out: folder of all versions; created if it is missing.
        version: number of the version; by default the largest one in `out` plus 1.
        top: length of the outputs `classes` and `scores`, which list the best classes.
        max_pixels: images whose header declares more pixels are rejected before they are decoded.
        fold: fold batch norm into the convolutions; if False, the network is written layer by layer as it was trained.
        dtype: dtype of weights and computation: "float32", "float16" or "bfloat16"; the last two require `fold`.

    Returns:
        The path of the version.

    Raises:
        ValueError: the source has no weights, the version exists, `out` cannot be written, or an argument is not
            allowed.
    """
    base = pathlib.Path(out)
    publish.check_version(base, version)
    if not fold and dtype != "float32":
        raise InputError(f"dtype must be 'float32' if batch norm is not folded; got {dtype!r}.")
    model, transform = source.load(), source.photo_transform()
    served = folding.fold(model, dtype) if fold else model
    class_names = source.dataset_info.class_names
    endpoints = signatures.endpoints(served, transform, class_names, top=top, max_pixels=max_pixels)
    files.check_no_bracket(base)
    with files.staging(base) as folder:
        write(served, endpoints, folder)
        write_labels(class_names, folder)
        (folder / "batching_params.pbtxt").write_text(tf_serving.BATCHING_PARAMETERS, encoding="utf-8")
        requests = _requests(transform.size)
        warmup.write(folder, requests)
        answers = warmup.replay(folder, requests)
        # Both get the pixels of the request, so that decoders are not compared.
        expected = model.predict_on_batch(transform.batch(transform.crop(requests["images"]["images"])))
        for name in ("serving_default", "images"):
            _check(answers[name]["probabilities"], expected, TOLERANCE[dtype])
        path = publish.publish(folder, base, version)
        tf_serving.write_configuration(base)
    return path


def write(model: keras.Model, endpoints: Mapping[str, signatures.Endpoint], folder: pathlib.Path) -> None:
    """Write a SavedModel with these endpoints to an empty folder.

    It is written by `keras.export.ExportArchive`: a Keras 3 model written by `tf.saved_model.save` fails in the C++
    loader that TensorFlow Serving uses.

    Raises:
        ValueError: the folder cannot be written, for example on a full disk.
    """
    archive = keras.export.ExportArchive()
    archive.track(model)
    for name, endpoint in endpoints.items():
        archive.add_endpoint(name, endpoint.function, input_signature=[endpoint.input])
    try:
        compat.write_out(archive, str(folder))
    except tf.errors.OpError as error:
        reason = graph_errors.first_line(error)
        raise InputError(f"out must be writable; {str(folder.parent)!r} is not: {reason}.") from error


def write_labels(class_names: Sequence[str], folder: pathlib.Path) -> None:
    """Write `assets/labels.txt` of a SavedModel, one name a line."""
    (folder / "assets").mkdir(exist_ok=True)
    (folder / "assets" / "labels.txt").write_text("".join(f"{name}\n" for name in class_names), encoding="utf-8")


def _requests(size: tuple[int, int]) -> warmup.Requests:
    """One request for each signature: the same test image of the network's size, as pixels and as a PNG."""
    pixels = warmup.smooth_image(*size)
    contents = np.array([tf.io.encode_png(pixels).numpy()], object)
    return {
        "serving_default": {"image_bytes": contents},
        "images": {"images": pixels[None]},
        "features": {"image_bytes": contents},
    }


def _check(probabilities: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Raise `InputError` unless the probabilities of an export are close to those of the network."""
    difference = np.abs(probabilities - expected).max()
    if not difference <= tolerance:
        raise InputError(
            f"the network must give the same finite probabilities after the export; they differ by {difference:.2g}, "
            f"more than {tolerance}."
        )
