"""Weight files: `.weights.h5`, `.h5`, `.keras`, safetensors, PyTorch and TensorFlow checkpoints.

from keras_resnet.models import weights
weights.load(model, "resnet50.safetensors")
weights.save(model, "resnet50.weights.h5")
"""

from keras_resnet.models.weights.files import (
    PARTIAL,
    SUFFIX,
    Stored,
    check,
    check_file,
    load,
    opened,
    save,
    save_safetensors,
)

__all__ = ["PARTIAL", "SUFFIX", "Stored", "check", "check_file", "load", "opened", "save", "save_safetensors"]
