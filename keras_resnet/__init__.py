"""Deep residual learning for Keras: the networks, training, evaluation and export of He et al. (2015).

    import keras_resnet
    model = keras_resnet.ResNet50(classes=10)

The models and functions of this level work on every Keras backend, except `optimized`; `data`, `training`,
`evaluation`, `serving` and the tasks require TensorFlow. Everything is imported on first use, so that a command line
responds before Keras is loaded.
"""

import importlib
import sys
import typing

from keras_resnet.errors import did_you_mean
from keras_resnet.models import applications, registration

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
    "grad_cam",
    "list_weights",
    "load_weights",
    "model_info",
    "optimized",
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
        quantization,
        segmentation,
        serving,
        training,
    )
    from keras_resnet.models.architectures import ARCHITECTURES
    from keras_resnet.models.features import feature_info, features
    from keras_resnet.models.grad_cam import grad_cam
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
    from keras_resnet.models.weights.files import load as load_weights
    from keras_resnet.models.weights.published import list_weights, model_info
    from keras_resnet.ops.normalization import preprocess_input
    from keras_resnet.serving.optimized import optimized
else:  # hidden from type checkers, which would accept every name in a module that has a `__getattr__`
    _LOCATIONS = {
        **{name: f"keras_resnet.models.resnet:{name}" for name in __all__ if "Net" in name},
        "ARCHITECTURES": "keras_resnet.models.architectures:ARCHITECTURES",
        "decode_predictions": "keras_resnet.models.predictions:decode_predictions",
        "feature_info": "keras_resnet.models.features:feature_info",
        "features": "keras_resnet.models.features:features",
        "grad_cam": "keras_resnet.models.grad_cam:grad_cam",
        "list_weights": "keras_resnet.models.weights.published:list_weights",
        "load_weights": "keras_resnet.models.weights.files:load",
        "model_info": "keras_resnet.models.weights.published:model_info",
        "optimized": "keras_resnet.serving.optimized:optimized",
        "preprocess_input": "keras_resnet.ops.normalization:preprocess_input",
        "to_keras": "keras_resnet.models.to_keras:to_keras",
    }

    applications.install(sys.modules[__name__])
    registration.install()

    def _parts() -> list[str]:
        import pkgutil  # takes longer than the rest of this import

        return [module.name for module in pkgutil.iter_modules(__path__)]

    def __getattr__(name: str) -> object:
        if name in _LOCATIONS:
            module, attribute = _LOCATIONS[name].split(":")
            value = getattr(importlib.import_module(module), attribute)
        elif name in applications.MODULES or name in _parts():
            value = importlib.import_module(f"{__name__}.{name}")
        else:
            spelling = name.replace("_", "") if "net" in name.lower() else name
            hint = did_you_mean(spelling, [*__all__, *_parts()])
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted(
            {*__all__, *applications.MODULES, *_parts(), *(name for name in globals() if name.startswith("__"))}
        )
