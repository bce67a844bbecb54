"""Let Keras load saved models whenever `keras_resnet` is imported, without importing the networks.

    import keras, keras_resnet
    model = keras.saving.load_model("model.keras")

A saved model names its classes, and Keras finds those of other packages only if they are registered. Importing the
modules that define them would import Keras, so each class is registered by a placeholder that imports it on first use.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

PACKAGE = "keras_resnet"

CLASSES = {
    "BatchNormalization": "keras_resnet.models.layers",
    "IdentityShortcut": "keras_resnet.models.layers",
    "StochasticDepth": "keras_resnet.models.layers",
    "DilatedConv2D": "keras_resnet.models.layers",
    "PointwiseConv2D": "keras_resnet.models.layers",
    "ReLU": "keras_resnet.models.layers",
    "ResizeLike": "keras_resnet.models.layers",
    "RecomputingModel": "keras_resnet.models.recomputation",
    "ColorPadding2D": "keras_resnet.quantization.layers",
    "Quantize": "keras_resnet.quantization.layers",
    "QuantizedConv2D": "keras_resnet.quantization.layers",
    "QuantizedDense": "keras_resnet.quantization.layers",
    "ToPixels": "keras_resnet.quantization.layers",
    "LossScale": "keras_resnet.compat",
    "BinaryCrossEntropy": "keras_resnet.training.losses",
    "CrossEntropy": "keras_resnet.training.losses",
    "Top1Error": "keras_resnet.training.losses",
    "PixelCrossEntropy": "keras_resnet.segmentation.losses",
    "MeanIoU": "keras_resnet.segmentation.losses",
    "Cosine": "keras_resnet.training.schedules",
    "Poly": "keras_resnet.training.schedules",
    "Scaled": "keras_resnet.training.schedules",
    "EachStep": "keras_resnet.training.optimizers",
    "SGD": "keras_resnet.training.optimizers",
    "SelectiveSGD": "keras_resnet.training.optimizers",
    "SelectiveSGDW": "keras_resnet.training.optimizers",
    "SelectiveAdamW": "keras_resnet.training.optimizers",
    "SelectiveLamb": "keras_resnet.training.optimizers",
    "CoupledSGD": "keras_resnet.training.addons",
    "Decay": "keras_resnet.training.addons",
    "FasterRCNN": "keras_resnet.detection.faster_rcnn",
    "PerClassDense": "keras_resnet.localization.models",
}
"""Class -> the module that registers it as `keras_resnet>CLASS`."""

BARE_NAMES = ("RecomputingModel", "FasterRCNN", "IdentityShortcut", "Cosine", "Scaled")
"""Classes that some `.h5` files name without the package: models, and with Keras 2 what is inside another object."""


class Placeholder:
    """A class that is imported when one of its attributes is used.

    Args:
        name: name of the class.
        module: module that defines and registers it.
    """

    def __init__(self, name: str, module: str):
        self._path = (module, name)

    def _load(self) -> Any:
        module, name = object.__getattribute__(self, "_path")
        return getattr(importlib.import_module(module), name)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._load(), attribute)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._load()(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{'.'.join(self._path)}>"


def register(keras: ModuleType) -> None:
    """Register a placeholder for each class that is not registered yet.

    Args:
        keras: the module `keras`.
    """
    known = keras.saving.get_custom_objects()
    for name, module in CLASSES.items():
        known.setdefault(f"{PACKAGE}>{name}", Placeholder(name, module))
    for name in BARE_NAMES:
        known.setdefault(name, Placeholder(name, CLASSES[name]))


class _KerasFinder:
    """A finder of `sys.meta_path` that registers the classes as soon as Keras has been imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "keras":
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        specs = (finder.find_spec(name, path, target) for finder in others if hasattr(finder, "find_spec"))
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            loader.exec_module = self._registering(loader.exec_module)
        return spec

    def _registering(self, execute: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
        """Return `exec_module` of Keras' loader, followed by `register`."""

        def exec_module(module: ModuleType) -> None:
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            register(module)

        return exec_module


def install() -> None:
    """Register the classes now if Keras has been imported, and otherwise when it is."""
    keras = sys.modules.get("keras")
    if keras is not None:
        register(keras)
    elif "keras" not in sys.modules:
        sys.meta_path.insert(0, _KerasFinder())
