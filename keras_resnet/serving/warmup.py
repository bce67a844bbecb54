"""Warm-up requests, which TensorFlow Serving sends to a version before the first client does.

They are a TFRecord file of `tensorflow.serving.PredictionLog` messages. If one cannot be read or fails, TensorFlow
Serving does not load the version, so they are replayed before a version is published.
"""

from __future__ import annotations

import contextlib
import logging
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf

FILE = "assets.extra/tf_serving_warmup_requests"
"""Path of the requests in a version."""

Requests = Mapping[str, Mapping[str, np.ndarray]]
"""Signature -> input -> array."""


def smooth_image(height: int, width: int) -> np.ndarray:
    """Return a smooth image for requests, u8[height,width,3]."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) % 256], -1).astype("uint8")


def write(folder: pathlib.Path, requests: Requests) -> None:
    """Write one record for each signature to a SavedModel's folder."""
    path = folder / FILE
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests.items():
            writer.write(prediction_log(signature, inputs))


def prediction_log(signature: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """Return a serialized `PredictionLog` of one request.

    The package tensorflow-serving-api has these messages but requires the full build of TensorFlow, so the five fields
    in use are encoded here: `PredictionLog.predict_log` (6), `PredictLog.request` (1),
    `PredictRequest.model_spec` (1) with `ModelSpec.signature_name` (3), and `PredictRequest.inputs` (2), a map.
    """
    request = _field(1, _field(3, signature.encode()))
    for name, array in inputs.items():
        tensor = tf.make_tensor_proto(array).SerializeToString()
        request += _field(2, _field(1, name.encode()) + _field(2, tensor))
    return _field(6, _field(1, request))


def _field(number: int, content: bytes) -> bytes:
    """Encode a field of a protocol buffer whose value is a string or a message."""
    length, size = b"", len(content)
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def replay(folder: pathlib.Path, requests: Requests) -> dict[str, dict[str, np.ndarray]]:
    """Send requests to a SavedModel with the loader that TensorFlow Serving uses, without the network's Python code.

    Returns:
        Signature -> output -> array.

    Raises:
        tf.errors.OpError: the SavedModel cannot be loaded, or a request fails.
    """
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        with _without_warnings():  # about this loader's age; TensorFlow Serving uses it
            signatures = tf.compat.v1.saved_model.load(session, ["serve"], str(folder)).signature_def
        answers = {}
        for name, inputs in requests.items():
            signature = signatures[name]
            feeds = {signature.inputs[key].name: value for key, value in inputs.items()}
            fetches = {key: tensor.name for key, tensor in signature.outputs.items()}
            answers[name] = session.run(fetches, feeds)
    return answers


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    logger = tf.get_logger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
