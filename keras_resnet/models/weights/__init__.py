"""Weights files: `.weights.h5`, `.h5`, safetensors, PyTorch and TensorFlow checkpoints.

from keras_resnet.models import weights
weights.load(model, "resnet50.safetensors")
weights.save(model, "resnet50.weights.h5")
"""

from keras_resnet.models.weights.files import (
    HEAD,
    PARTIAL,
    SUFFIX,
    StoredWeights,
    check_file,
    load,
    opened,
    reverse_input_channels,
    save,
    save_safetensors,
)

__all__ = [
    "HEAD",
    "PARTIAL",
    "SUFFIX",
    "StoredWeights",
    "check_file",
    "load",
    "opened",
    "reverse_input_channels",
    "save",
    "save_safetensors",
]
