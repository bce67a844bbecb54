"""A stand-in for a trained network: random weights, and the batch statistics that fit them."""

from __future__ import annotations

import dataclasses
import io
import types

import keras
import numpy as np

from keras_resnet.data.dataset import DatasetInfo
from keras_resnet.data.transforms import EvalTransform
from keras_resnet.models.submodels import submodel

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 61.0, 62.0)


@dataclasses.dataclass
class Source:
    """A `ServableClassifier` of a given model."""

    model: keras.Model
    resize: int = 0
    exif: bool = False
    mean: object = MEAN
    std: tuple = STD

    @property
    def dataset_info(self) -> DatasetInfo:
        names = tuple(f"class {number}" for number in range(self.model.output_shape[-1]))
        return DatasetInfo("test", names, None, {}, MEAN, STD)

    @property
    def config(self):
        return types.SimpleNamespace(model=self.model.name)

    def load(self) -> keras.Model:
        return self.model

    def photo_transform(self) -> EvalTransform:
        size = self.model.input_shape[1:3]
        return EvalTransform(size, self.mean, self.std, self.resize or size[0], self.exif)


def settle(model: keras.Model, seed: int = 0) -> keras.Model:
    """Give a network random weights with which its activations and probabilities have a usual magnitude.

    The moving statistics are those of a batch of images: with others, activations of deep networks grow without bounds.
    The classifier is scaled so that its scores differ by a few units.
    """
    random = np.random.default_rng(seed)
    height, width = model.input_shape[1:3]
    images = np.stack([smooth(random, height, width) for _ in range(8)])
    inputs = (images - np.float32(MEAN)) / np.float32(STD)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    # Deep networks of random layers map all images to nearly the same output. Trained ones have small residuals, so the
    # residuals are scaled down; the layers of plain networks are the identity with a small change.
    residuals = {id(layer.input[1]) for layer in model.layers if isinstance(layer, keras.layers.Add)}
    small = 0.3 * min(1.0, np.sqrt(16 / max(len(residuals), 1)))
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    little = 0.2 * min(1.0, 16 / len(convolutions))
    for layer in convolutions:
        kernel = random.normal(size=layer.kernel.shape) * np.sqrt(2 / np.prod(layer.kernel.shape[:3]))
        near_identity = not residuals and layer.name != "conv1_conv"
        layer.kernel.assign(little * kernel + identity(kernel.shape) if near_identity else kernel)
    for norm in norms:
        count = norm.gamma.shape[0]
        scale = small if id(norm.output) in residuals else 1.0
        norm.gamma.assign(random.uniform(0.5, 1.5, count) * scale)
        # In a plain network, the bias lets most values pass the nonlinearity.
        norm.beta.assign(random.uniform(-0.5, 0.5, count) * scale + (0.0 if residuals else 1.5))
        norm.momentum, momentum = 0.0, norm.momentum
    model(inputs, training=True)
    for norm in norms:
        norm.momentum = momentum
    classifier = model.layers[-1]
    features = pooled(model).predict_on_batch(inputs)
    kernel = random.normal(size=classifier.kernel.shape)
    scores = (features - features.mean(0)) @ kernel
    kernel *= 2 / scores.std()
    classifier.set_weights([kernel, -features.mean(0) @ kernel])
    return model


def identity(shape: tuple[int, ...]) -> np.ndarray:
    """The kernel [k,k,C,F] of a convolution whose output has the channels of its input, in turn."""
    kernel = np.zeros(shape)
    outputs = np.arange(shape[3])
    kernel[shape[0] // 2, shape[1] // 2, outputs % shape[2], outputs] = 1.0
    return kernel


def pooled(model: keras.Model) -> keras.Model:
    """The part of a network before its classifier."""
    return submodel(model, model.layers[-1].input)


def encoded(image: np.ndarray, format: str = "PNG", **options) -> bytes:
    """An image u8[H,W,3] as a file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, format, **options)
    return file.getvalue()


def smooth(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A smooth random image u8[H,W,3]."""
    from PIL import Image

    small = random.integers(0, 256, (4, 4, 3)).astype("uint8")
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
