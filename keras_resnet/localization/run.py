"""The folder of a localizer's run, and what the configuration implies: transforms, the networks, their weights."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any, ClassVar

from keras_resnet.data.transforms import WholeImageTransform
from keras_resnet.errors import InputError
from keras_resnet.experiment.run import BackboneRun
from keras_resnet.localization.config import LocalizerConfig
from keras_resnet.localization.data import sources
from keras_resnet.localization.data.examples import LocalizationDataset
from keras_resnet.localization.data.transforms import TrainTransform
from keras_resnet.localization.inference import Localizer, Views
from keras_resnet.localization.models import RCNN, PerClassRPN
from keras_resnet.models import weights


@dataclasses.dataclass(frozen=True)
class LocalizerRun(BackboneRun):
    """A run of one of the two stages.

    Attributes:
        path: the folder; its files are those of `Run`, and `proposals.npz` for stage 2.
        config: how the network is trained.
        dataset_info: the data set it is trained on: classes and splits.
    """

    TASK: ClassVar[str] = "localization"
    CONFIG: ClassVar[type[LocalizerConfig]] = LocalizerConfig

    config: LocalizerConfig

    @property
    def proposals(self) -> pathlib.Path:
        """The proposals of stage 1 for the training images, on which stage 2 trains."""
        return self.path / "proposals.npz"

    def transform(self) -> WholeImageTransform:
        """Return the transform of images in testing and serving."""
        return WholeImageTransform(self.mean, self.std, self.config.exif)

    def train_transform(self) -> TrainTransform:
        """Return the transform of images and boxes in training."""
        config = self.config
        return TrainTransform(
            self.mean,
            self.std,
            config.exif,
            crop_size=config.crop_size,
            scale_range=(config.scale_range[0], config.scale_range[1]),
            min_coverage=config.min_coverage,
            mirror=config.mirror,
        )

    def views(self, **options: Any) -> Views:
        """Return the views of an image for stage 1; `options` are fields of `Views` to change."""
        config = self.config
        values = {name: getattr(config, name) for name in ("protocol", "crop_size", "resize", "scales")}
        return Views(**{**values, **options})

    def dataset(self, data_dir: str | None = None) -> LocalizationDataset:
        """Open the data set that the run is trained on, with the classes of the run."""
        return load_dataset(dataclasses.replace(self.config, class_names=self.dataset_info.class_names), data_dir)

    def build(self, policy: str | None = None) -> PerClassRPN | RCNN:
        """Build the run's network with fresh weights.

        Args:
            policy: dtype policy of the convolutions; by default the run's `precision`.
        """
        config, classes = self.config, len(self.dataset_info.class_names)
        options: dict[str, Any] = {
            "box_loss_weight": config.box_loss_weight,
            "freeze_stages": config.freeze_stages,
            "freeze_norm": config.freeze_norm,
            "stride_in_1x1": config.stride_in_1x1,
            "synchronized": config.synchronized_norm,
            "policy": policy or config.precision,
        }
        if config.stage == 2:
            return RCNN(config.backbone, classes, **options)
        return PerClassRPN(
            config.backbone,
            classes,
            filters=config.rpn_filters,
            anchor_scales=config.anchor_scales,
            anchor_ratios=config.anchor_ratios,
            batch_size_per_image=config.batch_size_per_image,
            iou_thresholds=(config.negative_iou, config.positive_iou),
            output_stride=config.output_stride,
            **options,
        )

    def load(self, policy: str | None = None) -> PerClassRPN | RCNN:
        """Build the network and load the run's best weights.

        Args:
            policy: as for `build`.

        Raises:
            ValueError: the run has no weights yet, or they do not fit.
        """
        model = self.build(policy)
        weights.load(model, self.weights)
        return model

    def first_stage(self) -> LocalizerRun:
        """Return the run of stage 1: this one, or the one whose proposals it uses.

        Raises:
            ValueError: `stage_one` is no run of stage 1, or has other classes.
        """
        if self.config.stage == 1:
            return self
        path = self.config.stage_one
        run = LocalizerRun.open(path, "stage_one")
        if run.config.stage != 1:
            raise InputError(f"stage_one must be the folder of a run of stage 1; {path!r} holds one of stage 2.")
        if run.dataset_info.class_names != self.dataset_info.class_names:
            raise InputError(f"stage_one must be a run with the classes of dataset; {path!r} has other ones.")
        return run

    def localizer(
        self,
        policy: str | None = None,
        *,
        models: tuple[PerClassRPN, RCNN | None] | None = None,
        vote_thresh: float | None = None,
        proposals: int | None = None,
        multiply_scores: bool | None = None,
        **views: Any,
    ) -> Localizer:
        """Load the networks of the run, and of its stage 1 if it is one of stage 2.

        Args:
            policy: as for `build`.
            models: the networks, if they are loaded already.
            vote_thresh: by default that of the configuration.
            proposals: number of proposals of each class, by default that of the configuration.
            multiply_scores: by default as in the configuration.
            **views: fields of `Views` to change, such as `protocol` and `scales`.
        """
        config, first = self.config, self.first_stage()
        if models is None:
            own = self.load(policy)
            models = (first.load(policy), own) if isinstance(own, RCNN) else (own, None)
        rpn, rcnn = models
        return Localizer(
            rpn,
            first.transform(),
            self.views(crop_size=first.config.crop_size, **views),
            rcnn,
            rcnn_transform=self.transform(),
            crop_size=config.crop_size,
            context_pixels=config.context_pixels,
            proposals=proposals or config.proposals,
            proposal_nms_thresh=config.proposal_nms_thresh,
            multiply_scores=config.multiply_scores if multiply_scores is None else multiply_scores,
            vote_thresh=config.vote_thresh if vote_thresh is None else vote_thresh,
        )


def load_dataset(config: LocalizerConfig, data_dir: str | None = None) -> LocalizationDataset:
    """Open the data set of a configuration; see `data.sources.load`.

    Args:
        config: the configuration.
        data_dir: folder of prepared tensorflow-datasets, by default that of the configuration.
    """
    return sources.load(
        config.dataset, data_dir or config.data_dir, config.download, config.class_names, config.exif, config.seed
    )
