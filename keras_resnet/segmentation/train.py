"""Train segmenters with `model.fit`."""

from __future__ import annotations

import functools
import logging
import os
import pickle
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.data.transforms import WholeImageTransform
from keras_resnet.distribute import collectives
from keras_resnet.errors import counted, listed
from keras_resnet.experiment.config import resolved
from keras_resnet.models import resnet, weights
from keras_resnet.segmentation import losses, metrics, models, pretrained
from keras_resnet.segmentation.config import PRESETS, SegmenterConfig
from keras_resnet.segmentation.data import pipeline
from keras_resnet.segmentation.data.examples import Example, SegmentationDataset
from keras_resnet.segmentation.data.survey import Survey, check_class_names, check_two_classes, survey
from keras_resnet.segmentation.run import SegmenterRun, load_dataset
from keras_resnet.training import finetuning, loop

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""Mean and standard deviation of the RGB channels, used unless weights come with their own."""

LINES = 8
"""Classes in the plot of the learning curves."""

logger = logging.getLogger(__name__)


class Evaluation(keras.callbacks.Callback):
    """Add the mean IoU of a segmenter, in percent, to the logs at the end of each epoch.

    The logs get `val_miou`, `val_error` (100 - `val_miou`), `val_pixel_accuracy` and `val_iou_CLASS` of the classes
    that occur. This callback must come before those that read them.

    Args:
        examples: the images to evaluate on, at their own size.
        transform: the transform of the images.
        class_names: names of the classes.
    """

    def __init__(self, examples: Sequence[Example], transform: WholeImageTransform, class_names: Sequence[str]):
        super().__init__()
        self.examples = examples
        self.transform = transform
        self.class_names = class_names

    def set_model(self, model: keras.Model) -> None:
        if model is not self.model:  # each `fit` sets the model again, and tracing takes long
            segmenter = models.inference_model(model)
            self.predict = tf.function(
                lambda images: tf.argmax(segmenter(images, training=False), -1, output_type=tf.int32),
                reduce_retracing=True,
            )
        super().set_model(model)

    def _confusion(self) -> np.ndarray:
        """The confusion matrix i64[K,K] over all images; workers share them."""
        strategy, classes = self.model.distribute_strategy, len(self.class_names)
        workers, worker = collectives.count(strategy), collectives.index(strategy)
        matrix = np.zeros((classes, classes), "int64")
        for _, images, labels in pipeline.evaluate(self.examples[worker::workers], self.transform):
            matrix += metrics.confusion_matrix(labels.numpy(), self.predict(images).numpy(), classes)
        return np.sum([pickle.loads(part) for part in collectives.gather(strategy, pickle.dumps(matrix))], axis=0)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        matrix = self._confusion()
        logs["val_miou"] = 100 * float(metrics.mean_iou(matrix))
        logs["val_error"] = 100 - logs["val_miou"]
        logs["val_pixel_accuracy"] = 100 * float(metrics.pixel_accuracy(matrix))
        for name, value in zip(self.class_names, metrics.iou(matrix), strict=True):
            if np.isfinite(value):
                logs[f"val_iou_{name}"] = 100 * float(value)


def train(
    config: SegmenterConfig | str, workdir: str | os.PathLike, strategy: tf.distribute.Strategy | None = None
) -> SegmenterRun:
    """Train the segmenter of a configuration on its data set; see `fit`.

    Args:
        config: the run, or the name of a preset.
        workdir: as for `fit`.
        strategy: where to train, such as `distribute.strategy.make` builds; by default on one device. A run may be
            resumed with another strategy.
    """
    config = resolved(config, SegmenterConfig, PRESETS)
    strategy = strategy or tf.distribute.get_strategy()
    with loop.scope(strategy, config, workdir):
        dataset = collectives.chief_first(strategy, lambda: load_dataset(config))
        for name in ("train_split", "eval_split"):
            dataset.examples(getattr(config, name), name)  # before weights are downloaded
        path, info, dataset = loop.backbone_start(config.backbone_weights, config.backbone, dataset, strategy)
        run = loop.open_run(SegmenterRun.new(workdir, config, dataset.info, *IMAGENET), strategy)
        if run.starts_from_random_weights and collectives.is_chief(strategy):
            logger.warning(
                "the segmenter starts from random weights; --backbone_weights starts from those of a classifier"
            )
        model = run.build()
        if config.init_weights:
            weights.load(model, config.init_weights)
        elif path:
            classifier = resnet.constructor(config.backbone)(stride_in_1x1=config.stride_in_1x1)
            finetuning.initialize(classifier, path, info)
            pretrained.load_backbone(model, classifier)
        _fit(run, model, dataset)
    return run


def fit(
    model: keras.Model, dataset: SegmentationDataset, config: SegmenterConfig | str, workdir: str | os.PathLike
) -> SegmenterRun:
    """Train a segmenter as `config` says and write everything about the run to `workdir`.

    An interrupted run is resumed from its newest checkpoint: its batches are pure functions of seed and step. The
    weights with the highest mean IoU on `eval_split` are kept.

    Args:
        model: a model of `segmentation.models` for the data set's classes, trained from its current weights; a model
            made in the scope of a strategy is trained on its replicas. `config` should describe it, so that `evaluate`,
            `predict` and `export` can rebuild it.
        dataset: a data set of `data.sources.load`; `dataset`, `data_dir`, `backbone_weights` and `init_weights` of
            `config` are only recorded.
        config: the run, or the name of a preset.
        workdir: folder for `config.json`, `checkpoints/`, `best.weights.h5`, `metrics.jsonl`, `tensorboard/` and
            `curves.png`.

    Returns:
        The `SegmenterRun`.

    Raises:
        ValueError: the configuration has an unknown name or differs from that of the run in the folder; or a mask or an
            image of `eval_split` cannot be used.
        FloatingPointError: the loss or a weight is not finite.
        errors.Stopped: SIGTERM or SIGINT arrived; a checkpoint of the current step is saved.
        errors.PeerLost: another worker ended or does not answer.
    """
    config = resolved(config, SegmenterConfig, PRESETS)
    with loop.scope(model.distribute_strategy, config, workdir):
        run = loop.open_run(SegmenterRun.new(workdir, config, dataset.info, *IMAGENET), model.distribute_strategy)
        _fit(run, model, dataset)
    return run


def _fit(run: SegmenterRun, model: keras.Model, dataset: SegmentationDataset) -> None:
    """Train a model in the run's folder, from its newest checkpoint to the last step."""
    config, class_names, strategy = run.config, run.dataset_info.class_names, model.distribute_strategy
    examples = dataset.examples(config.train_split, "train_split")
    eval_examples = dataset.examples(config.eval_split, "eval_split")

    check_class_names(class_names)

    def surveyed() -> Survey | None:
        if dataset.is_drawn and config.class_weights == "none":
            return None
        _warn_of_shared(examples, eval_examples)
        found = survey(examples, class_names, config.train_split, config.exif, config.max_broken)
        check_two_classes(found, class_names, config.train_split)
        survey(eval_examples, class_names, config.eval_split, config.exif)
        return found

    found = collectives.chief_first(strategy, surveyed)
    finetuning.freeze(models.backbone_of(model), config.freeze_stages, config.freeze_norm)
    _compile(run, model, found)
    batches = functools.partial(
        pipeline.train,
        examples,
        config.batch_size,
        run.train_transform(),
        seed=config.seed,
        max_broken=config.max_broken,
    )
    loop.fit(
        model,
        run,
        functools.partial(_batches, batches, config.auxiliary),
        monitor="val_error",
        shown=("miou", "mIoU {:.2f} %"),
        lines={"val_miou": "mean"} | {f"val_iou_{name}": name for name in class_names[:LINES]},
        label="IoU (%)",
        callbacks=[Evaluation(eval_examples, run.transform(), class_names)],
        log=loop.headline(model, run, len(examples), network=_describe(run, model, found)),
    )


def _warn_of_shared(examples: Sequence[Example], eval_examples: Sequence[Example]) -> None:
    """Log if images of the evaluation are trained on."""
    shared = {example.path for example in examples} & {example.path for example in eval_examples}
    if shared:
        logger.warning("%d of the %d images of eval_split are in train_split too", len(shared), len(eval_examples))


def _batches(batches: Any, auxiliary: bool, **part: Any) -> tf.data.Dataset:
    """The training batches; with labels for both heads if there are two."""
    dataset = batches(**part)
    if not auxiliary:
        return dataset
    return dataset.map(lambda images, labels: (images, {"logits": labels, "auxiliary": labels}))


def _compile(run: SegmenterRun, model: keras.Model, found: Survey | None) -> None:
    config = run.config
    class_weights = None
    if found and config.class_weights == "median_frequency":
        class_weights = losses.median_frequency_weights(found.pixels, found.image_pixels)
    options = losses.compile_options(
        auxiliary=config.auxiliary,
        auxiliary_weight=config.auxiliary_weight,
        class_weights=class_weights,
        hard_fraction=config.hard_fraction,
    )
    slow = models.backbone_variables(model) if config.backbone_lr_mult != 1 else ()
    loop.compile_model(model, config, slow=slow, slow_multiplier=config.backbone_lr_mult, jit_compile=False, **options)


def _describe(run: SegmenterRun, model: keras.Model, found: Survey | None) -> str:
    """Describe the network and the training masks, for the log."""
    config, names = run.config, run.dataset_info.class_names
    trainable = loop.count_numbers(model.trainable_variables)
    ignored = f"; {100 * found.ignored_share:.1f} % of the pixels are ignored" if found else ""
    return (
        f"{config.head} on {config.backbone}, output stride {config.output_stride}: "
        f"{model.count_params():,} parameters ({trainable:,} trainable)\n"
        f"{counted(len(names), 'class', 'classes')}: {listed(names, 20)}{ignored}"
    )
