"""The folder of a detector's run, and what the configuration implies: the transform, the detector, its weights."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from keras_resnet.detection.config import DetectorConfig
from keras_resnet.detection.data import sources
from keras_resnet.detection.data.annotations import DetectionDataset
from keras_resnet.detection.data.transforms import DetectionTransform
from keras_resnet.detection.faster_rcnn import FasterRCNN
from keras_resnet.experiment.run import BackboneRun
from keras_resnet.models import weights


@dataclasses.dataclass(frozen=True)
class DetectorRun(BackboneRun):
    """A detector's run.

    Attributes:
        path: the folder; its files are those of `Run`.
        config: how the detector is trained.
        dataset_info: the data set it is trained on: classes and splits.
    """

    TASK: ClassVar[str] = "detection"
    CONFIG: ClassVar[type[DetectorConfig]] = DetectorConfig

    config: DetectorConfig

    def transform(self) -> DetectionTransform:
        """Return the transform of the run's images in training, testing and serving."""
        config = self.config
        return DetectionTransform(config.min_size, config.max_size, self.mean, self.std, exif=config.exif)

    def dataset(self, data_dir: str | None = None) -> DetectionDataset:
        """Open the data set that the run is trained on."""
        config = self.config
        data_dir, class_names = data_dir or config.data_dir, self.dataset_info.class_names
        return sources.load(config.dataset, data_dir, config.download, class_names, config.exif, config.seed)

    def build(self, policy: str | None = None, **options: Any) -> FasterRCNN:
        """Build the run's detector with fresh weights.

        Args:
            policy: dtype policy of the convolutions; by default the run's `precision`.
            **options: fields of `FasterRCNNConfig` to change, such as `refine=True`.
        """
        config = self.config.network().replace(**options)
        return FasterRCNN(config, len(self.dataset_info.class_names), policy or self.config.precision)

    def load(self, policy: str | None = None, **options: Any) -> FasterRCNN:
        """Build the detector and load the run's best weights.

        Args:
            policy: as for `build`.
            **options: as for `build`.

        Raises:
            ValueError: the run has no weights yet, or they do not fit.
        """
        model = self.build(policy, **options)
        weights.load(model, self.weights)
        return model
