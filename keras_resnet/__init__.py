"""Deep residual learning for Keras: the networks, training, evaluation and export of He et al. (2015).

    import keras_resnet
    model = keras_resnet.ResNet50(classes=10)

The models and functions of this level work on every Keras backend. `data`, `training`, `evaluation` and `serving` need
TensorFlow. Everything is imported when first used, so that a command line can answer before Keras has started.
"""

import importlib
import typing

from keras_resnet.models.architectures import ARCHITECTURES

if typing.TYPE_CHECKING:
    from keras_resnet.models.predictions import decode_predictions  # noqa: F401
    from keras_resnet.models.resnet import *  # noqa: F403
    from keras_resnet.models.weights.published import model_info  # noqa: F401
    from keras_resnet.ops.normalization import preprocess_input  # noqa: F401

__version__ = "0.1.0"

_HOME = {
    "decode_predictions": "keras_resnet.models.predictions",
    "model_info": "keras_resnet.models.weights.published",
    "preprocess_input": "keras_resnet.ops.normalization",
    **dict.fromkeys(["ResNet", *ARCHITECTURES], "keras_resnet.models.resnet"),
}
_SUBPACKAGES = (
    "classification",
    "data",
    "detection",
    "evaluation",
    "experiment",
    "models",
    "ops",
    "paper",
    "serving",
    "training",
)

__all__ = sorted({"ARCHITECTURES", *_HOME})


def __getattr__(name: str):
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    elif name in _SUBPACKAGES:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_SUBPACKAGES})
