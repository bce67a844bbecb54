"""SavedModels that TF Serving's loader takes, published as numbered versions.

out/1/saved_model.pb, variables/         the network with the signatures of `signatures`
out/1/assets/labels.txt                  the class names, one a line
out/1/assets.extra/                      warm-up requests
out/1/batching_params.pbtxt              for --enable_per_model_batching_parameters
out/1/manifest.sha256                    checksums, for `sha256sum --check` or `publish.verify`
out/models.config, out/compose.yaml      how to start TF Serving
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import compat
from keras_resnet.errors import InputError
from keras_resnet.ops import codecs, graph_errors
from keras_resnet.serving import folding, publish, signatures, tf_serving, warmup

TOLERANCE = {"float32": 1e-3, "float16": 0.1, "bfloat16": 0.1}
"""How far probabilities of an export may be from the network's before it is refused as broken, by dtype."""


def export(
    source,
    out: str | os.PathLike,
    *,
    version: int | None = None,
    top: int = 5,
    max_pixels: int = codecs.MAX_PIXELS,
    fold: bool = True,
    dtype: str = "float32",
) -> pathlib.Path:
    """Publish a trained network as the next version in the folder `out`.

    The folder of the version appears by one rename, after the network in it was loaded the way TF Serving loads it and
    gave the answers that the network gives.

    Args:
        source: a trained network; see `classification.run.TrainedClassifier`.
        out: folder of all versions; made where it is missing.
        version: number of the version; by default one more than the largest in `out`.
        top: how many of the best classes `classes` and `scores` have.
        max_pixels: images whose header promises more pixels are refused before they are decoded.
        fold: fold batch norms into the convolutions; off, the network is written layer by layer as it was trained.
        dtype: weights are cast to "float32", "float16" or "bfloat16" and computed with in it; needs `fold`, but for
            float32.

    Returns:
        The path of the version.

    Raises:
        ValueError: the source has no weights, the version exists, `out` cannot be written, or an argument is not
            allowed.
    """
    base = pathlib.Path(out)
    publish.check_version(base, version)
    if not fold and dtype != "float32":
        raise InputError(f"dtype must be 'float32' where batch norms are not folded; got {dtype!r}.")
    model, view = source.load(), source.photo_transform()
    served = folding.fold(model, dtype) if fold else model
    endpoints = signatures.endpoints(served, view, source.dataset_info.class_names, top=top, max_pixels=max_pixels)
    with publish.staging(base) as folder:
        write(served, endpoints, folder)
        write_labels(source.dataset_info.class_names, folder)
        (folder / "batching_params.pbtxt").write_text(tf_serving.BATCHING_PARAMETERS, encoding="utf-8")
        requests = _requests(view.size)
        warmup.write(folder, requests)
        answers = warmup.replay(folder, requests)
        # The very pixels of the request, since the network is compared here and not the decoder.
        expected = model.predict_on_batch(view.batch(view.crop(requests["images"]["images"])))
        for name in ("serving_default", "images"):
            _check(answers[name]["probabilities"], expected, TOLERANCE[dtype])
        published = publish.publish(folder, base, version)
        tf_serving.write_configuration(base)
    return published


def write(model: keras.Model, endpoints: dict[str, signatures.Endpoint], folder: pathlib.Path) -> None:
    """Write a SavedModel with these endpoints into an empty folder.

    It goes through `keras.export.ExportArchive`: what `tf.saved_model.save` writes of a Keras 3 model fails in the
    C++ loader that TF Serving uses.

    Raises:
        ValueError: the folder cannot be written, such as on a full disk.
    """
    archive = keras.export.ExportArchive()
    archive.track(model)
    for name, endpoint in endpoints.items():
        archive.add_endpoint(name, endpoint.function, input_signature=[endpoint.input])
    try:
        compat.write_out(archive, str(folder))
    except tf.errors.OpError as error:
        reason = graph_errors.first_line(error)
        raise InputError(
            f"out must be a place that can be written; {str(folder.parent)!r} cannot: {reason}."
        ) from error


def write_labels(class_names: Sequence[str], folder: pathlib.Path) -> None:
    """Write `assets/labels.txt` of a SavedModel, a name a line."""
    (folder / "assets").mkdir(exist_ok=True)
    (folder / "assets" / "labels.txt").write_text("".join(f"{name}\n" for name in class_names), encoding="utf-8")


def write_file(path: pathlib.Path, content: bytes) -> None:
    """Write a file.

    Raises:
        ValueError: it cannot be written, such as on a full disk.
    """
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InputError(f"out must be a place that can be written; {str(path)!r} cannot: {error.strerror}.") from error


def _requests(size: tuple[int, int]) -> warmup.Requests:
    """One request for each signature: the same smooth picture of the network's size, as pixels and as a PNG."""
    picture = warmup.picture(*size)
    contents = np.array([tf.io.encode_png(picture).numpy()], object)
    return {
        "serving_default": {"image_bytes": contents},
        "images": {"images": picture[None]},
        "features": {"image_bytes": contents},
    }


def _check(probabilities: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Raise `InputError` where an export's answer is not the network's."""
    difference = np.abs(probabilities - expected).max()
    if not difference <= tolerance:
        raise InputError(
            f"the network must give the same finite probabilities after the export; they differ by {difference:.2g}, "
            f"more than {tolerance}."
        )
