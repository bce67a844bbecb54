"""The network that is exported, as the exporters see it."""

from __future__ import annotations

from typing import Any, Protocol

import keras

from keras_resnet.data.dataset import DatasetInfo
from keras_resnet.data.transforms import EvalTransform


class NetworkConfig(Protocol):
    """The part of a run's configuration that an export reads."""

    @property
    def model(self) -> str:
        """Name of the network, with which the names of TFLite files begin."""


class ServableClassifier(Protocol):
    """A trained network that can be exported, such as a run or published weights of `keras_resnet.classification`."""

    @property
    def config(self) -> NetworkConfig:
        """The configuration."""

    @property
    def dataset_info(self) -> DatasetInfo:
        """The data set that the network was trained on, with the names of its classes."""

    @property
    def mean(self) -> Any:
        """Mean of each channel f[3], or of each pixel f64[H,W,3], in [0, 255]."""

    @property
    def std(self) -> Any:
        """Standard deviation of each channel f[3]."""

    def load_float(self) -> keras.Model:
        """Build the network and load its weights before their rounding, if it was trained for int8; else as `load`."""

    def photo_transform(self) -> EvalTransform:
        """Return the test transform of photos of any size."""

    def load(self) -> keras.Model:
        """Build the network and load its weights: f32[B,H,W,3] normalized -> probabilities f32[B,K]."""
