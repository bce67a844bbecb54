"""The modules `keras_resnet.resnet50` and `keras_resnet.resnet`, with the names that keras.applications has there.

    from keras_resnet.resnet50 import ResNet50, decode_predictions, preprocess_input

They have no files, so that the package's folder lists its parts only; each name is that of `keras_resnet`.
"""

from __future__ import annotations

import importlib.machinery
import sys
import types
from collections.abc import Sequence
from typing import Any

FUNCTIONS = ("decode_predictions", "preprocess_input")

MODULES = {"resnet": ("ResNet18", "ResNet34", "ResNet50", "ResNet101", "ResNet152"), "resnet50": ("ResNet50",)}
"""Module -> its networks: those of keras.applications, and the other two of Table 1."""


class ApplicationModule(types.ModuleType):
    """A module whose names are those of the package.

    Args:
        package: the package.
        name: name of the module in it.
        networks: constructors that it has in addition to `FUNCTIONS`.
    """

    def __init__(self, package: types.ModuleType, name: str, networks: Sequence[str]):
        super().__init__(
            f"{package.__name__}.{name}", f"`keras.applications.{name}` with the networks of this package."
        )
        self.__spec__ = importlib.machinery.ModuleSpec(self.__name__, None)
        self.__all__ = [*networks, *FUNCTIONS]
        self._package = package

    def __getattr__(self, name: str) -> Any:
        if name in self.__all__:
            return getattr(self._package, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}; it has {', '.join(self.__all__)}")

    def __dir__(self) -> list[str]:
        return sorted(self.__all__)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{self.__name__!r} is a module; call {self._package.__name__}.ResNet50(...) instead")


def install(package: types.ModuleType) -> None:
    """Make the modules importable."""
    for name, networks in MODULES.items():
        module = ApplicationModule(package, name, networks)
        sys.modules[module.__name__] = module
