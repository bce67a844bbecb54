"""Train detectors with `model.fit`: jointly, or in the four alternating steps of Faster R-CNN (section 3.2)."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import pickle
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from keras_resnet.detection import average_precision, inference
from keras_resnet.detection.average_precision import Detections
from keras_resnet.detection.config import PRESETS, DetectorConfig
from keras_resnet.detection.data import pipeline, sources
from keras_resnet.detection.data.annotations import Annotation, DetectionDataset
from keras_resnet.detection.data.transforms import DetectionTransform
from keras_resnet.detection.faster_rcnn import FasterRCNN
from keras_resnet.detection.run import DetectorRun
from keras_resnet.distribute import collectives
from keras_resnet.errors import InputError, counted
from keras_resnet.experiment.config import resolved
from keras_resnet.models import resnet, weights
from keras_resnet.training import finetuning, loop

AUTHORS_MEAN = (123.68, 116.779, 103.939)
"""Mean of the RGB channels that the paper's authors subtract; used unless the weights come with their own."""

logger = logging.getLogger(__name__)


class Evaluation(keras.callbacks.Callback):
    """Add the average precision of a detector, in percent, to the logs at the end of each epoch.

    The logs get `val_map50`, `val_error` (100 - `val_map50`) and `val_ap50_CLASS`, all by the rules of VOC 2010, and of
    a detector with masks `val_mask_map50`, at their overlap. This callback must come before those that read them.

    Args:
        annotations: the images to evaluate on.
        transform: the transform of the images.
        class_names: names of the classes.
    """

    def __init__(self, annotations: Sequence[Annotation], transform: DetectionTransform, class_names: Sequence[str]):
        super().__init__()
        self.annotations = annotations
        self.transform = transform
        self.class_names = class_names

    def set_model(self, model: FasterRCNN) -> None:
        if model is not self.model:  # each `fit` sets the model again, and tracing takes long
            self.predict = tf.function(lambda batch: model(batch, training=False), reduce_retracing=True)
        super().set_model(model)

    def _detections(self) -> list[Detections]:
        """The detections in each image; workers share the images."""
        strategy = self.model.distribute_strategy
        workers, worker = collectives.count(strategy), collectives.index(strategy)
        detections_of_worker = inference.detect(
            self.predict, self.annotations[worker::workers], self.transform, progress=collectives.is_chief(strategy)
        )
        detections: dict[int, Detections] = {}
        for number, content in enumerate(collectives.gather(strategy, pickle.dumps(detections_of_worker))):
            detections |= zip(range(number, len(self.annotations), workers), pickle.loads(content), strict=True)
        return [detections[index] for index in range(len(self.annotations))]

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        has_masks = self.model.config.masks
        detections, ground_truth = self._detections(), inference.ground_truth(self.annotations, masks=has_masks)
        curves = average_precision.curves(detections, ground_truth, len(self.class_names))
        averages = [100 * curve.average() for curve in curves]
        logs["val_map50"] = average_precision.mean(averages)
        logs["val_error"] = 100 - logs["val_map50"]
        logs |= {f"val_ap50_{name}": value for name, value in zip(self.class_names, averages, strict=True)}
        if has_masks:
            curves = average_precision.curves(detections, ground_truth, len(self.class_names), masks=True)
            logs["val_mask_map50"] = average_precision.mean([100 * curve.average() for curve in curves])


def train(
    config: DetectorConfig | str, workdir: str | os.PathLike, strategy: tf.distribute.Strategy | None = None
) -> DetectorRun:
    """Train the detector of a configuration on its data set; see `fit`.

    Args:
        config: the run, or the name of a preset.
        workdir: as for `fit`; alternating training makes such a folder for each step in it, `step1` .. `step4`.
        strategy: where to train, such as `distribute.strategy.make` builds; by default on one device. A run may be
            resumed with another strategy.
    """
    config = resolved(config, DetectorConfig, PRESETS)
    strategy = strategy or tf.distribute.get_strategy()
    with loop.scope(strategy, config, workdir):
        return _train(config, workdir, strategy)


def _train(config: DetectorConfig, workdir: str | os.PathLike, strategy: tf.distribute.Strategy) -> DetectorRun:
    dataset = collectives.chief_first(
        strategy,
        lambda: sources.load(
            config.dataset, config.data_dir, config.download, config.class_names, config.exif, config.seed
        ),
    )
    path, info, dataset = loop.backbone_start(config.backbone_weights, config.backbone, dataset, strategy)
    run = loop.open_run(DetectorRun.new(workdir, config, dataset.info, AUTHORS_MEAN, (1.0, 1.0, 1.0)), strategy)
    if run.starts_from_random_weights and collectives.is_chief(strategy):
        logger.warning(
            "the detector starts from random weights: its batch norm does not train, activations grow from block to "
            "block, and it learns little; --backbone_weights starts from those of a classifier"
        )

    def initialized() -> FasterRCNN:
        model = run.build()
        if config.init_weights:
            weights.load(model, config.init_weights)
        elif path:
            classifier = resnet.constructor(config.backbone)()
            finetuning.initialize(classifier, path, info)
            model.load_backbone(classifier)
        return model

    annotations, eval_annotations = _annotations(run, dataset, strategy)
    if config.training == "joint":
        _fit(run, initialized(), annotations, eval_annotations)
    else:
        collectives.chief_first(strategy, run.create)
        _alternate(run, initialized, annotations, eval_annotations)
    return run


def fit(
    model: FasterRCNN, dataset: DetectionDataset, config: DetectorConfig | str, workdir: str | os.PathLike
) -> DetectorRun:
    """Train a detector as `config` says and write everything about the run to `workdir`.

    An interrupted run is resumed from its newest checkpoint: its batches, and the sampling of each step, are pure
    functions of seed and step. The weights with the highest mAP on `eval_split` are kept. Training is joint; use
    `train` for alternating training.

    Args:
        model: a detector of the data set's classes, trained from its current weights; a model made in the scope of a
            strategy is trained on its replicas. `config` should describe it, so that `evaluate`, `predict` and
            `export` can rebuild it.
        dataset: a data set of `data.sources.load`; `dataset`, `data_dir`, `backbone_weights` and `init_weights` of
            `config` are only recorded.
        config: the run, or the name of a preset.
        workdir: folder for `config.json`, `checkpoints/`, `best.weights.h5`, `metrics.jsonl`, `tensorboard/` and
            `curves.png`.

    Returns:
        The `DetectorRun`.

    Raises:
        ValueError: the configuration has an unknown name, differs from that of the run in the folder, or is of
            alternating training; or an annotation or image cannot be read.
        FloatingPointError: the loss or a weight is not finite.
        errors.Stopped: SIGTERM or SIGINT arrived; a checkpoint of the current step is saved.
        errors.PeerLost: another worker ended or does not answer.
    """
    config = resolved(config, DetectorConfig, PRESETS)
    if config.training != "joint":
        raise InputError(f"training must be 'joint' for a detector that is given; got {config.training!r}.")
    with loop.scope(model.distribute_strategy, config, workdir):
        run = loop.open_run(
            DetectorRun.new(workdir, config, dataset.info, AUTHORS_MEAN, (1.0, 1.0, 1.0)), model.distribute_strategy
        )
        _fit(run, model, *_annotations(run, dataset, model.distribute_strategy))
    return run


def _annotations(
    run: DetectorRun, dataset: DetectionDataset, strategy: tf.distribute.Strategy
) -> tuple[list[Annotation], list[Annotation]]:
    """The images to train and to evaluate on."""
    config, class_names = run.config, dataset.info.class_names
    annotations = list(dataset.annotations(config.train_split, "train_split"))
    if config.extra_dataset:
        extra = sources.load(
            config.extra_dataset, config.data_dir, config.download, class_names, config.exif, config.seed
        )
        if extra.info.class_names != class_names:
            raise InputError(f"extra_dataset must have the classes of dataset, {', '.join(class_names)}.")
        annotations += extra.annotations(config.train_split)
    eval_annotations = dataset.annotations(config.eval_split, "eval_split")
    for name, split in (("train_split", annotations), ("eval_split", eval_annotations)):
        if config.masks and not any(any(annotation.masks or ()) for annotation in split):
            raise InputError(
                f"masks requires objects with masks, such as COCO's polygons; {getattr(config, name)!r} of "
                f"{config.dataset!r} has none."
            )

    def check() -> None:
        if collectives.is_chief(strategy):
            pipeline.check_images(eval_annotations, run.transform())

    collectives.chief_first(strategy, check)
    return annotations, eval_annotations


def _fit(
    run: DetectorRun, model: FasterRCNN, annotations: Sequence[Annotation], eval_annotations: Sequence[Annotation]
) -> None:
    """Train a model in the run's folder, from its newest checkpoint to the last step."""
    config, class_names = run.config, run.dataset_info.class_names
    loop.compile_model(model, config, jit_compile=False)
    batches = functools.partial(
        pipeline.train,
        annotations,
        config.batch_size,
        run.transform(),
        seed=config.seed,
        mirror=config.mirror,
        vertical_flip=config.vertical_flip,
        max_gt_boxes=config.max_gt_boxes,
        max_broken=config.max_broken,
        masks=config.masks,
    )
    # Alternating steps 1 and 3 train no detector, and that of step 2 has no proposals of its own.
    is_evaluated = model.train_detector and model.proposer is None
    loop.fit(
        model,
        run,
        batches,
        monitor="val_error" if is_evaluated else None,
        shown=("map50", "mAP {:.2f} %"),
        lines={"val_map50": "mean"}
        | ({"val_mask_map50": "mean of masks"} if config.masks else {})
        | {f"val_ap50_{name}": name for name in class_names[:8]},
        label="average precision (%)",
        callbacks=[Evaluation(eval_annotations, run.transform(), class_names)] if is_evaluated else [],
        log=loop.headline(model, run, len(annotations), network=_describe(run, model, annotations)),
    )


def _alternate(
    run: DetectorRun,
    initialized: Callable[[], FasterRCNN],
    annotations: Sequence[Annotation],
    eval_annotations: Sequence[Annotation],
) -> None:
    """The four steps: proposals, a detector on them, proposals on its trunk, and the detector's own layers again."""

    def step(number: int, model: FasterRCNN, parts: Sequence[str]) -> FasterRCNN:
        model.train_rpn, model.train_detector = "rpn" in parts, "siblings" in parts
        for part in ("trunk", "rpn", "region_network", "siblings"):
            if part not in parts:
                getattr(model, part).trainable = False
        if model.mask_head is not None:
            model.mask_head.trainable = model.train_detector
        step_run = dataclasses.replace(run, path=run.path / f"step{number}")
        _fit(step_run, model, annotations, eval_annotations)
        collectives.chief_first(model.distribute_strategy, lambda: weights.load(model, step_run.weights))
        return model

    first = step(1, initialized(), ("trunk", "rpn"))
    second = initialized()
    second.proposer = lambda images, size: first.propose(first.trunk(images, training=False), size, training=True)
    second.rpn.set_weights(first.rpn.get_weights())
    second = step(2, second, ("trunk", "region_network", "siblings"))
    third = run.build()
    third.set_weights(second.get_weights())
    third = step(3, third, ("rpn",))
    fourth = run.build()
    fourth.set_weights(third.get_weights())
    fourth = step(4, fourth, ("region_network", "siblings"))
    if collectives.is_chief(fourth.distribute_strategy):
        weights.save(fourth, run.weights)


def _describe(run: DetectorRun, model: FasterRCNN, annotations: Sequence[Annotation]) -> str:
    """Describe the network and the training boxes, for the log."""
    trainable = loop.count_numbers(model.trainable_variables)
    boxes = counted(sum(len(annotation.labels) for annotation in annotations), "box", "boxes")
    return (
        f"Faster R-CNN on {run.config.backbone}: {model.count_params():,} parameters ({trainable:,} trainable)\n"
        f"{counted(len(annotations), 'training image')} with {boxes} of {', '.join(run.dataset_info.class_names)}"
    )
