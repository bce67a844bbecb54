"""The folder of a detector's run."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from keras_resnet.config import Values
from keras_resnet.data import boxes
from keras_resnet.detection.faster_rcnn import FasterRCNN, faster_rcnn
from keras_resnet.detector_config import DetectorConfig
from keras_resnet.models import weights
from keras_resnet.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class DetectorWorkdir(Workdir):
    """Paths of a detector's run, its configuration and the facts of its data set.

    Attributes:
        path: the folder; its files are those of a `Workdir`.
        config: how it was trained.
        facts: the data set it was trained on: classes and splits.
    """

    config: DetectorConfig

    CONFIG: ClassVar[type[Values]] = DetectorConfig

    @property
    def mean(self) -> tuple[float, ...]:
        """What is subtracted from the channels: by the configuration, or that of the weights the run started from."""
        return self.config.mean or self.facts.mean

    @property
    def std(self) -> tuple[float, ...]:
        """What the channels are divided by, likewise."""
        return self.config.std or self.facts.std

    def view(self) -> boxes.BoxView:
        """How the run's images are shown to the detector, in training, testing and serving."""
        return boxes.BoxView(self.config.shorter, self.config.longer, self.mean, self.std)

    eval_view = train_view = photo_view = view

    def dataset(self, data_dir: str | None = None) -> boxes.BoxDataset:
        """The data set that the run is trained on."""
        config = self.config
        return boxes.load(config.dataset, data_dir or config.data_dir, config.download, self.facts.class_names)

    def build(self, **options) -> FasterRCNN:
        """Build the run's detector with fresh weights.

        Args:
            **options: arguments of `faster_rcnn` that are not to be as in training, such as `refine=True`.
        """
        return faster_rcnn(classes=len(self.facts.class_names), **{**self.config.detector_options(), **options})

    def load(self, **options) -> FasterRCNN:
        """Build the detector and load the run's best weights.

        Args:
            **options: as for `build`.

        Raises:
            ValueError: the run has no weights yet, or they do not fit.
        """
        model = self.build(**options)
        weights.load(model, self.weights)
        return model
