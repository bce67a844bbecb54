"""Outputs of TensorFlow on weights that are the same everywhere, with which other backends are compared.

python -m tests.backends.reference     writes tests/backends/tensorflow.npz
"""

import pathlib

import keras
import numpy as np

import keras_resnet
from keras_resnet.models.architectures import Architecture, Stage
from keras_resnet.segmentation import models

PATH = pathlib.Path(__file__).with_name("tensorflow.npz")
NETWORKS = ("ResNet20", "ResNet50", "DeepLabv3")
SIDES = {"ResNet20": 32, "ResNet50": 64, "DeepLabv3": 45}
BACKBONE = Architecture(
    "Tiny", 10, "imagenet", "basic", (Stage(16, 1, 1), Stage(16, 1, 2), Stage(16, 1, 2), Stage(16, 1, 2)), "B", 64, 10
)
SAMPLES = 64
"""Number of values that are stored of each feature map."""


def network(name: str) -> keras.Model:
    """Build a network that returns logits."""
    if name == "DeepLabv3":
        return models.deeplabv3(BACKBONE, classes=10)
    side = SIDES[name]
    return getattr(keras_resnet, name)(input_shape=(side, side, 3), classes=10, classifier_activation=None)


def outputs(name: str) -> dict[str, np.ndarray]:
    """Return the logits of a network and values of each level of its feature pyramid, by "{network}/{output}"."""
    side, model = SIDES[name], network(name)
    random = np.random.default_rng(0)
    for variable in model.weights:
        shape = tuple(variable.shape)
        if len(shape) > 1:
            variable.assign(random.normal(0, np.sqrt(1 / np.prod(shape[:-1])), shape).astype("float32"))
        else:
            variable.assign(random.uniform(0.7, 1.2, shape).astype("float32"))
    images = random.normal(size=(2, side, side, 3)).astype("float32")
    logits = model.predict(images, verbose=0)
    found = {f"{name}/logits": logits[:, ::7, ::7] if logits.ndim == 4 else logits}
    for level, values in keras_resnet.features(model).predict(images, verbose=0).items():
        places = random.integers(0, values.size, SAMPLES)
        found[f"{name}/{level}"] = values.reshape(-1)[places]
    return found


if __name__ == "__main__":
    assert keras.backend.backend() == "tensorflow"
    np.savez(PATH, **{key: values for name in NETWORKS for key, values in outputs(name).items()})
