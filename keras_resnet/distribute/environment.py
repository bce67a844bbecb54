"""The versions and devices that numerical results depend on."""

from __future__ import annotations

import keras
import tensorflow as tf

import keras_resnet


def versions() -> dict[str, str]:
    """Return the versions of TensorFlow, Keras and this package."""
    return {"tensorflow": tf.__version__, "keras": keras.__version__, "keras_resnet": keras_resnet.__version__}


def environment() -> dict[str, str]:
    """Return the types of the devices and the versions, for reports."""
    devices = sorted({device.device_type for device in tf.config.list_logical_devices()})
    return {"device": ", ".join(devices), **versions()}
