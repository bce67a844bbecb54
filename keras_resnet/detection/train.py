"""Training of detectors by `model.fit`: joint, or in the four alternating steps of Faster R-CNN (section 3.2)."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import os
import pathlib
import pickle
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from keras_resnet import compat
from keras_resnet.detection import average_precision, inference
from keras_resnet.detection.average_precision import Detections
from keras_resnet.detection.config import DetectorConfig
from keras_resnet.detection.data import pipeline, sources
from keras_resnet.detection.data.annotations import Annotation, DetectionDataset
from keras_resnet.detection.data.transforms import DetectionTransform
from keras_resnet.detection.faster_rcnn import FasterRCNN
from keras_resnet.detection.run import DetectorRun
from keras_resnet.distribute import collectives
from keras_resnet.distribute.strategy import describe
from keras_resnet.errors import InputError
from keras_resnet.models import resnet, weights
from keras_resnet.training import finetuning, loop, optimizers
from keras_resnet.training.callbacks import BestWeights, Curves, MetricsLog, TensorBoardLog
from keras_resnet.training.checkpoints import Checkpoints
from keras_resnet.training.schedules import learning_rate

AUTHORS_MEAN = (123.68, 116.779, 103.939)
"""Mean of the RGB channels that the paper's authors subtract; used where no weights say another."""

logger = logging.getLogger(__name__)


class Evaluation(keras.callbacks.Callback):
    """Add a detector's average precision on some pictures to the logs, in percent, at the end of each epoch.

    The logs get `val_map50`, `val_error` (100 less it) and `val_ap50_CLASS`, all by VOC's rule of 2010. It must come
    before the callbacks that read them.

    Args:
        pictures: to evaluate on.
        view: how they are shown to the detector.
        class_names: names of the classes.
    """

    def __init__(self, pictures: Sequence[Annotation], view: DetectionTransform, class_names: Sequence[str]):
        super().__init__()
        self.pictures = pictures
        self.view = view
        self.class_names = class_names

    def set_model(self, model):
        if model is not self.model:  # each `fit` says it again, and tracing takes long
            self.predict = tf.function(lambda batch: model(batch, training=False), reduce_retracing=True)
        super().set_model(model)

    def _found(self) -> list[Detections]:
        """What the detector finds in each picture; workers share the pictures."""
        strategy = self.model.distribute_strategy
        count, chief = collectives.count(strategy), collectives.is_chief(strategy)
        own = self.pictures[collectives.index(strategy) :: count]
        parts = collectives.gather(
            strategy, pickle.dumps(inference.detect(self.predict, own, self.view, progress=chief))
        )
        found: list[Detections] = [None] * len(self.pictures)
        for number, part in enumerate(parts):
            found[number::count] = pickle.loads(part)
        return found

    def on_epoch_end(self, epoch, logs=None):
        found = self._found()
        curves = average_precision.curves(found, inference.truths(self.pictures), len(self.class_names))
        averages = [100 * curve.average() for curve in curves]
        logs["val_map50"] = average_precision.mean(averages)
        logs["val_error"] = 100 - logs["val_map50"]
        logs |= {f"val_ap50_{name}": value for name, value in zip(self.class_names, averages, strict=True)}


def train(
    config: DetectorConfig, workdir: str | os.PathLike, strategy: tf.distribute.Strategy | None = None
) -> DetectorRun:
    """Train the detector that `config` names on the data set that it names; see `fit`.

    Args:
        config: the run.
        workdir: as for `fit`; alternating training makes one such folder a step in it, `step1` .. `step4`.
        strategy: where to train, such as `training.strategy.make` builds; by default on one device. A run may go on
            with another one.
    """
    strategy = strategy or tf.distribute.get_strategy()
    with loop.scope(strategy, config):
        return _train(config, workdir, strategy)


def _train(config: DetectorConfig, workdir: str | os.PathLike, strategy: tf.distribute.Strategy) -> DetectorRun:
    keras.utils.set_random_seed(config.seed)
    dataset = collectives.chief_first(
        strategy, lambda: sources.load(config.dataset, config.data_dir, config.download, config.class_names)
    )
    path = info = None
    if config.backbone_weights:
        path, info = collectives.chief_first(
            strategy, lambda: finetuning.find(config.backbone_weights, config.backbone)
        )
    if info:
        dataset = finetuning.normalized_as(info, dataset)
    run = _opened(config, dataset, workdir, strategy)
    if not (config.backbone_weights or config.init_weights) and collectives.is_chief(strategy):
        logger.warning(
            "the detector starts from random weights: its batch norm does not train, activations grow from block to "
            "block, and little is learnt; --weights has those of a classifier to start from"
        )

    def started() -> FasterRCNN:
        model = run.build()
        if config.init_weights:
            weights.load(model, config.init_weights)
        elif path:
            classifier = resnet.constructor(config.backbone)()
            finetuning.initialize(classifier, path, info)
            model.load_backbone(classifier)
        return model

    if config.training == "joint":
        _fit(run, started(), *_pictures(run, dataset))
    else:
        collectives.chief_first(strategy, run.create)
        _alternate(run, started, *_pictures(run, dataset))
    return run


def fit(
    model: FasterRCNN, dataset: DetectionDataset, config: DetectorConfig, workdir: str | os.PathLike
) -> DetectorRun:
    """Train a detector as `config` says and write everything about it to `workdir`.

    A run that was interrupted goes on from its newest checkpoint: its batches, and what each step samples, are pure
    functions of seed and step. The weights with the highest mAP on `eval_split` are kept. Training is joint; `train`
    has the alternating steps.

    Args:
        model: a detector of the data set's classes; `config` should describe it, so that `evaluate`, `predict` and
            `export` can build it again. It trains where it was made, in the scope of a strategy on its replicas, and
            from the weights that it has.
        dataset: of `data.sources.load`; `config.dataset`, `data_dir`, `weights` and `start` are only recorded.
        config: the run.
        workdir: folder for `config.json`, `checkpoints/`, `best.weights.h5`, `metrics.jsonl`, `tensorboard/` and
            `curves.png`.

    Returns:
        The run's `DetectorRun`.

    Raises:
        ValueError: the configuration names something unknown, is not that of the folder's run or of alternating
            training, or an annotation or image cannot be read.
        FloatingPointError: the loss or a weight is not finite.
        errors.Stopped: SIGTERM or SIGINT came; a checkpoint of the current step is saved.
        errors.PeerLost: another worker ended or is silent.
    """
    if config.training != "joint":
        raise InputError(f"training must be 'joint' for a detector that is given; got {config.training!r}.")
    with loop.scope(model.distribute_strategy, config):
        keras.utils.set_random_seed(config.seed)
        run = _opened(config, dataset, workdir, model.distribute_strategy)
        _fit(run, model, *_pictures(run, dataset))
    return run


def _opened(
    config: DetectorConfig,
    dataset: DetectionDataset,
    workdir: str | os.PathLike,
    strategy: tf.distribute.Strategy,
) -> DetectorRun:
    """The run's folder, new or that of the same run before."""
    info = dataset.info
    if info.mean is None:
        info = dataclasses.replace(info, mean=AUTHORS_MEAN, std=(1.0, 1.0, 1.0))
    return collectives.chief_first(strategy, lambda: loop.reopened(DetectorRun(pathlib.Path(workdir), config, info)))


def _pictures(run: DetectorRun, dataset: DetectionDataset) -> tuple[list[Annotation], list[Annotation]]:
    """What the run is trained and evaluated on."""
    config, names = run.config, dataset.info.class_names
    pictures = list(dataset.annotations(config.train_split))
    if config.extra_dataset:
        extra = sources.load(config.extra_dataset, config.data_dir, config.download, names)
        if extra.info.class_names != names:
            raise InputError(f"extra_dataset must have the classes of dataset, {', '.join(names)}.")
        pictures += extra.annotations(config.train_split)
    return pictures, dataset.annotations(config.eval_split)


def _fit(run: DetectorRun, model: FasterRCNN, pictures, tests) -> None:
    """Train a model in the run's folder from its newest checkpoint to the last step."""
    config = run.config
    optimizer = optimizers.make(
        config.optimizer,
        learning_rate(config),
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
        decay_norm=config.decay_norm,
        clip_norm=config.clip_norm,
    )
    if config.precision == "mixed_float16":
        optimizer = compat.LossScale(optimizer)
    optimizers.over_replicas(optimizer)
    model.compile(optimizer, jit_compile=False)
    batches = functools.partial(
        pipeline.train,
        pictures,
        config.batch_size,
        run.transform(),
        seed=config.seed,
        mirror=config.mirror,
        vertical_flip=config.vertical_flip,
        max_gt_boxes=config.max_gt_boxes,
    )
    headline = _facts(run, model, pictures)
    batches()  # so that wrong arguments are found before anything is written
    collectives.chief_first(model.distribute_strategy, run.create)
    with collectives.own_folder(model.distribute_strategy, run) as own:
        saver = Checkpoints(model, own.checkpoints, config.checkpoint_steps)
        lines = {"val_map50": "mean"} | {f"val_ap50_{name}": name for name in run.dataset_info.class_names[:8]}
        recorders = []
        # In the second alternating step the network has no proposals of its own that it could be judged by.
        judged = model.train_detector and model.proposer is None
        if judged:
            recorders += [Evaluation(tests, run.transform(), run.dataset_info.class_names)]
            recorders += [Curves(own.metrics, own.curves, lines, "average precision (%)")]
            recorders += [BestWeights(own.weights, saver.best, monitor="val_error")]
        recorders[1:1] = [MetricsLog(own.metrics), TensorBoardLog(own.tensorboard)]
        loop.fit(model, run, batches, saver, recorders, headline=headline, error="error")
        if not judged:
            weights.save(model, own.weights)


def _alternate(run: DetectorRun, started: Callable[[], FasterRCNN], pictures, tests) -> None:
    """The four steps: proposals, a detector on them, proposals on its trunk, and the detector's own layers again."""

    def step(number: int, model: FasterRCNN, parts: Sequence[str]) -> FasterRCNN:
        model.train_rpn, model.train_detector = "rpn" in parts, "siblings" in parts
        for part in ("trunk", "rpn", "region_network", "siblings"):
            if part not in parts:
                getattr(model, part).trainable = False
        folder = dataclasses.replace(run, path=run.path / f"step{number}")
        _fit(folder, model, pictures, tests)
        collectives.chief_first(model.distribute_strategy, lambda: weights.load(model, folder.weights))
        return model

    first = step(1, started(), ("trunk", "rpn"))
    second = started()
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


def _facts(run: DetectorRun, model: FasterRCNN, pictures) -> str:
    """What follows from the configuration, for the first lines of the log."""
    config = run.config
    trained = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    passes = config.steps * config.batch_size / len(pictures)
    found = sum(len(picture.labels) for picture in pictures)
    return (
        f"faster R-CNN on {config.backbone}: {model.count_params():,} parameters, {trained:,} of them trained\n"
        f"{config.steps} steps of {config.batch_size} images, {passes:.1f} passes over {len(pictures)} images with "
        f"{found} boxes of {', '.join(run.dataset_info.class_names)}\n"
        f"{config.optimizer}, rate {config.learning_rate:g}; {config.precision} on "
        f"{describe(model.distribute_strategy, config.batch_size)}"
    )
