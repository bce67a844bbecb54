"""Deep residual learning for Keras: the networks, training, evaluation and export of He et al. (2015).

    import keras_resnet
    model = keras_resnet.ResNet50(classes=10)

The models and functions of this level work on every Keras backend; `data`, `training`, `evaluation`, `serving` and the
tasks require TensorFlow. Everything is imported on first use, so that a command line responds before Keras is loaded.
"""

import importlib
import importlib.util
import pkgutil
import typing

from keras_resnet.models.architectures import ARCHITECTURES

__version__ = "0.2.0"

__all__ = [
    "ARCHITECTURES",
    "PlainNet18",
    "PlainNet20",
    "PlainNet32",
    "PlainNet34",
    "PlainNet44",
    "PlainNet56",
    "PlainNet110",
    "ResNet",
    "ResNet18",
    "ResNet20",
    "ResNet32",
    "ResNet34",
    "ResNet44",
    "ResNet50",
    "ResNet56",
    "ResNet101",
    "ResNet110",
    "ResNet152",
    "ResNet1202",
    "decode_predictions",
    "feature_info",
    "features",
    "list_weights",
    "model_info",
    "preprocess_input",
    "to_keras",
]

if typing.TYPE_CHECKING:
    from keras_resnet import (  # noqa: F401
        classification,
        data,
        detection,
        evaluation,
        experiment,
        models,
        ops,
        paper,
        serving,
        training,
    )
    from keras_resnet.models.features import feature_info, features
    from keras_resnet.models.predictions import decode_predictions
    from keras_resnet.models.resnet import (
        PlainNet18,
        PlainNet20,
        PlainNet32,
        PlainNet34,
        PlainNet44,
        PlainNet56,
        PlainNet110,
        ResNet,
        ResNet18,
        ResNet20,
        ResNet32,
        ResNet34,
        ResNet44,
        ResNet50,
        ResNet56,
        ResNet101,
        ResNet110,
        ResNet152,
        ResNet1202,
    )
    from keras_resnet.models.to_keras import to_keras
    from keras_resnet.models.weights.published import list_weights, model_info
    from keras_resnet.ops.normalization import preprocess_input
else:  # hidden from type checkers, which would accept every name in a module that has a `__getattr__`
    _MODULES = {
        "decode_predictions": "keras_resnet.models.predictions",
        "feature_info": "keras_resnet.models.features",
        "features": "keras_resnet.models.features",
        "list_weights": "keras_resnet.models.weights.published",
        "model_info": "keras_resnet.models.weights.published",
        "preprocess_input": "keras_resnet.ops.normalization",
        "to_keras": "keras_resnet.models.to_keras",
        **dict.fromkeys(["ResNet", *ARCHITECTURES], "keras_resnet.models.resnet"),
    }

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            value = getattr(importlib.import_module(_MODULES[name]), name)
        elif importlib.util.find_spec(f"{__name__}.{name}"):
            value = importlib.import_module(f"{__name__}.{name}")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_MODULES, *(module.name for module in pkgutil.iter_modules(__path__))})
