"""The folder of a segmenter's run, and what the configuration implies: the transforms, the segmenter, its weights."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import keras
import numpy as np

from keras_resnet.data.dataset import DatasetInfo
from keras_resnet.data.transforms import WholeImageTransform
from keras_resnet.experiment.run import BackboneRun
from keras_resnet.models import weights
from keras_resnet.segmentation import models
from keras_resnet.segmentation.config import SegmenterConfig
from keras_resnet.segmentation.data import sources
from keras_resnet.segmentation.data.examples import SegmentationDataset, SegmentationInfo
from keras_resnet.segmentation.data.labels import LabelOptions
from keras_resnet.segmentation.data.transforms import TrainTransform


@dataclasses.dataclass(frozen=True)
class SegmenterRun(BackboneRun):
    """A segmenter's run.

    Attributes:
        path: the folder; its files are those of `Run`.
        config: how the segmenter is trained.
        dataset_info: the data set it is trained on: classes, their colors, and splits.
    """

    TASK: ClassVar[str] = "segmentation"
    CONFIG: ClassVar[type[SegmenterConfig]] = SegmenterConfig
    INFO: ClassVar[type[DatasetInfo]] = SegmentationInfo

    config: SegmenterConfig
    dataset_info: SegmentationInfo

    @property
    def palette(self) -> np.ndarray:
        """Color of each class in pictures, u8[K,3]."""
        return self.dataset_info.palette

    def transform(self) -> WholeImageTransform:
        """Return the transform of images in testing and serving."""
        return WholeImageTransform(self.mean, self.std, self.config.exif)

    def train_transform(self) -> TrainTransform:
        """Return the transform of images and labels in training."""
        config = self.config
        return TrainTransform(
            self.mean,
            self.std,
            config.exif,
            crop_size=(config.crop_size[0], config.crop_size[1]),
            scale_range=(config.scale_range[0], config.scale_range[1]),
            base_size=config.base_size,
            mirror=config.mirror,
            pca_noise=config.pca_noise,
        )

    def dataset(self, data_dir: str | None = None, name: str | None = None) -> SegmentationDataset:
        """Open a data set with the classes of the run.

        Args:
            data_dir: as for `load_dataset`.
            name: its name; by default that of the data set that the run is trained on.
        """
        name = name or self.config.dataset
        config = dataclasses.replace(self.config, dataset=name, class_names=self.dataset_info.class_names)
        return load_dataset(config, data_dir)

    def build(self, policy: str | None = None) -> keras.Model:
        """Build the run's segmenter with fresh weights, f32[B,H,W,3] -> logits f32[B,H,W,K].

        Args:
            policy: dtype policy of the convolutions; by default the run's `precision`.
        """
        config = self.config
        options: dict[str, Any] = {} if config.dropout is None else {"dropout": config.dropout}
        return models.build(
            config.head,
            config.backbone,
            len(self.dataset_info.class_names),
            output_stride=config.output_stride,
            auxiliary=config.auxiliary,
            multi_grid=config.multi_grid or None,
            stride_in_1x1=config.stride_in_1x1,
            synchronized=config.synchronized_norm,
            dtype=policy or config.precision,
            **options,
        )

    def load(self, policy: str | None = None) -> keras.Model:
        """Build the segmenter and load the run's best weights; without the auxiliary head.

        Args:
            policy: as for `build`.

        Raises:
            ValueError: the run has no weights yet, or they do not fit.
        """
        model = self.build(policy)
        weights.load(model, self.weights)
        return models.inference_model(model)


def load_dataset(config: SegmenterConfig, data_dir: str | None = None) -> SegmentationDataset:
    """Open the data set of a configuration; see `data.sources.load`.

    Args:
        config: the configuration.
        data_dir: folder of prepared tensorflow-datasets, by default that of the configuration.
    """
    options = LabelOptions(config.class_names, config.label_values, config.ignore_labels, config.label_colors)
    return sources.load(config.dataset, data_dir or config.data_dir, config.download, options)
