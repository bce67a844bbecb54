"""Outputs of TensorFlow on weights that are the same everywhere, with which other backends are compared.

python -m tests.backends.reference     writes tests/backends/tensorflow.npz
"""

import pathlib

import keras
import numpy as np

import keras_resnet

PATH = pathlib.Path(__file__).with_name("tensorflow.npz")
NETWORKS = ("ResNet20", "ResNet50")
SAMPLES = 64
"""Number of values that are stored of each feature map."""


def outputs(name: str) -> dict[str, np.ndarray]:
    """Return the logits of a network and values of each level of its feature pyramid, by "{network}/{output}"."""
    side = 32 if name == "ResNet20" else 64
    model = getattr(keras_resnet, name)(input_shape=(side, side, 3), classes=10, classifier_activation=None)
    random = np.random.default_rng(0)
    for variable in model.weights:
        shape = tuple(variable.shape)
        if len(shape) > 1:
            variable.assign(random.normal(0, np.sqrt(1 / np.prod(shape[:-1])), shape).astype("float32"))
        else:
            variable.assign(random.uniform(0.7, 1.2, shape).astype("float32"))
    images = random.normal(size=(2, side, side, 3)).astype("float32")
    found = {f"{name}/logits": model.predict(images, verbose=0)}
    for level, values in keras_resnet.features(model).predict(images, verbose=0).items():
        places = random.integers(0, values.size, SAMPLES)
        found[f"{name}/{level}"] = values.reshape(-1)[places]
    return found


if __name__ == "__main__":
    assert keras.backend.backend() == "tensorflow"
    np.savez(PATH, **{key: values for name in NETWORKS for key, values in outputs(name).items()})
