"""The backend of Keras, checked before Keras is imported, which may take seconds and fail with a traceback."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib

from keras_resnet.errors import InputError, check_choice

PACKAGES = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch", "openvino": "openvino"}
"""Backend -> the package that it requires."""

ANY_BACKEND = ("convert", "curves")
"""Verbs that do not require TensorFlow."""

NO_BACKEND = ("costs", "launch")
"""Verbs that do not import Keras."""


def configured() -> tuple[str, str]:
    """Return the name of the backend that Keras will use, and where it is set."""
    if name := os.environ.get("KERAS_BACKEND"):
        return name, "KERAS_BACKEND"
    file = pathlib.Path(os.environ.get("KERAS_HOME", pathlib.Path.home() / ".keras"), "keras.json")
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["backend"]), f"backend of {str(file)!r}"
    except (OSError, ValueError, KeyError, TypeError):  # Keras uses its default too
        return "tensorflow", "backend"


def check(verb: str) -> None:
    """Raise `InputError` unless the verb works with the backend of Keras, and the backend is installed."""
    if verb in NO_BACKEND:
        return
    name, source = configured()
    check_choice(source, name, PACKAGES)
    if verb not in ANY_BACKEND and name != "tensorflow":
        raise InputError(f"{source} must be 'tensorflow' for {verb}; got {name!r}.")
    if importlib.util.find_spec(PACKAGES[name]) is None:
        raise InputError(f"{verb} requires {name}, which is not installed: pip install {PACKAGES[name]}.")
