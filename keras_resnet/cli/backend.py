"""The backend of Keras, checked before Keras is imported, which takes seconds and may fail with a traceback."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator

from keras_resnet.errors import InputError, check_choice

BACKENDS = ("tensorflow", "jax", "torch", "openvino")
"""Backends of Keras, and the packages that they require."""

ANY_BACKEND = ("convert", "costs", "curves", "launch")
"""Verbs that do not require TensorFlow."""


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
    """Raise `InputError` unless the verb works with the backend of Keras."""
    name, source = configured()
    check_choice(source, name, BACKENDS)
    if verb not in ANY_BACKEND and name != "tensorflow":
        raise InputError(f"{source} must be 'tensorflow' for {verb}; got {name!r}.")


@contextlib.contextmanager
def required(verb: str) -> Iterator[None]:
    """Raise `InputError` if the package of a backend turns out not to be installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in BACKENDS:
            raise
        raise InputError(f"{verb} requires {error.name}, which is not installed: pip install {error.name}.") from error
