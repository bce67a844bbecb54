"""Train localizers with `model.fit`: the per-class RPN of stage 1, or the R-CNN of stage 2 on its proposals."""

from __future__ import annotations

import functools
import logging
import os
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_resnet.data.transforms import NO_NORMALIZATION, WholeImageTransform
from keras_resnet.detection.data import pipeline as detection_pipeline
from keras_resnet.distribute import collectives
from keras_resnet.errors import InputError, counted, listed
from keras_resnet.experiment.config import resolved
from keras_resnet.localization import evaluate, proposals
from keras_resnet.localization.choices import SELECTIONS
from keras_resnet.localization.config import PRESETS, LocalizerConfig
from keras_resnet.localization.data import pipeline
from keras_resnet.localization.data.examples import Example, LocalizationDataset
from keras_resnet.localization.inference import Localizer
from keras_resnet.localization.metrics import LocalizationError
from keras_resnet.localization.models import RCNN, PerClassRPN
from keras_resnet.localization.run import LocalizerRun, load_dataset
from keras_resnet.models import resnet, weights
from keras_resnet.training import finetuning, loop

AUTHORS_MEAN = (123.68, 116.779, 103.939)
"""Mean of the RGB channels that the paper's authors subtract; used unless the weights come with their own."""

logger = logging.getLogger(__name__)


class Evaluation(keras.callbacks.Callback):
    """Add the measures with the true class given to the logs at the end of each epoch.

    The logs get `val_error`, the localization error in percent, and `val_iou_loss`, 1 minus the mean IoU. This callback
    must come before those that read them.

    Args:
        examples: the images to evaluate on.
        transform: the transform of the images.
        localizer: function from the network in training to the `Localizer`.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        transform: WholeImageTransform,
        localizer: Callable[[PerClassRPN | RCNN], Localizer],
    ):
        super().__init__()
        self.examples = examples
        self.transform = transform
        self.make_localizer = localizer

    def set_model(self, model: PerClassRPN | RCNN) -> None:
        if model is not self.model:  # each `fit` sets the model again, and tracing takes long
            self.localizer = self.make_localizer(model)
        super().set_model(model)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        strategy = self.model.distribute_strategy
        workers, worker = collectives.count(strategy), collectives.index(strategy)
        outcomes = evaluate.evaluate(self.localizer, self.examples[worker::workers], self.transform).error.outcomes
        numbered = {worker + workers * index: outcome for index, outcome in outcomes.items()}
        total = LocalizationError()
        for part in collectives.gather(strategy, pickle.dumps(numbered)):
            total.outcomes.update(pickle.loads(part))
        result = total.result()
        logs["val_error"], logs["val_iou_loss"] = result.true_class_error, 1 - result.mean_iou


def train(
    config: LocalizerConfig | str, workdir: str | os.PathLike, strategy: tf.distribute.Strategy | None = None
) -> LocalizerRun:
    """Train the network of a configuration on its data set.

    An interrupted run is resumed from its newest checkpoint: its batches, and the sampling of each step, are pure
    functions of seed and step. The weights with the lowest error on `eval_split`, with the true class given, or with
    the highest mean IoU are kept, as `select_by` says.

    Args:
        config: the run, or the name of a preset.
        workdir: folder for `config.json`, `checkpoints/`, `best.weights.h5`, `metrics.jsonl`, `tensorboard/`,
            `curves.png` and, in stage 2, `proposals.npz`.
        strategy: where to train, such as `distribute.strategy.make` builds; by default on one device. A run may be
            resumed with another strategy.

    Returns:
        The `LocalizerRun`.

    Raises:
        ValueError: the configuration has an unknown name or differs from that of the run in the folder; or an
            annotation or image cannot be read.
        FloatingPointError: the loss or a weight is not finite.
        errors.Stopped: SIGTERM or SIGINT arrived; a checkpoint of the current step is saved.
        errors.PeerLost: another worker ended or does not answer.
    """
    config = resolved(config, LocalizerConfig, PRESETS)
    strategy = strategy or tf.distribute.get_strategy()
    with loop.scope(strategy, config, workdir):
        dataset = collectives.chief_first(strategy, lambda: load_dataset(config))
        examples = _examples(config, dataset, strategy)  # before weights are downloaded
        path, info, dataset = loop.backbone_start(config.backbone_weights, config.backbone, dataset, strategy)
        run = loop.open_run(LocalizerRun.new(workdir, config, dataset.info, AUTHORS_MEAN, (1.0, 1.0, 1.0)), strategy)
        if run.starts_from_random_weights and collectives.is_chief(strategy):
            logger.warning(
                "the localizer starts from random weights; --backbone_weights starts from those of a classifier"
            )
        model = run.build()
        if config.init_weights:
            weights.load(model, config.init_weights)
        elif path:
            classifier = resnet.constructor(config.backbone)(stride_in_1x1=config.stride_in_1x1)
            finetuning.initialize(classifier, path, info)
            model.load_backbone(classifier)
        _fit(run, model, *examples)
    return run


def _examples(
    config: LocalizerConfig, dataset: LocalizationDataset, strategy: tf.distribute.Strategy
) -> tuple[list[Example], list[Example]]:
    """The images to train and to evaluate on, of which the latter can be decoded."""
    examples = [example for example in dataset.examples(config.train_split, "train_split") if len(example.boxes)]
    if not examples:
        raise InputError(f"train_split must have images with boxes of their class; {config.train_split!r} has none.")
    eval_examples = dataset.examples(config.eval_split, "eval_split")

    def check() -> None:
        if not collectives.is_chief(strategy):
            return
        seen = {example.label for example in examples}
        if missing := [name for label, name in enumerate(dataset.info.class_names) if label not in seen]:
            logger.warning("%s: no image in %s to learn %s", dataset.info.name, config.train_split, listed(missing))
        decoder = WholeImageTransform(*NO_NORMALIZATION, config.exif)
        detection_pipeline.check_images(eval_examples, decoder)

    collectives.chief_first(strategy, check)
    return examples, eval_examples


def _fit(
    run: LocalizerRun, model: PerClassRPN | RCNN, examples: Sequence[Example], eval_examples: Sequence[Example]
) -> None:
    """Train a model in the run's folder, from its newest checkpoint to the last step."""
    config = run.config
    slow = model.trunk.trainable_variables if config.backbone_lr_mult != 1 else ()
    loop.compile_model(model, config, slow=slow, slow_multiplier=config.backbone_lr_mult, jit_compile=False)
    if isinstance(model, RCNN):
        rpn = run.first_stage().load()
        found = collectives.chief_first(
            model.distribute_strategy, lambda: _proposals(run, run.localizer(models=(rpn, None)), examples)
        )
        batches = functools.partial(
            pipeline.train_crops,
            examples,
            found,
            config.batch_size,
            run.train_transform(),
            positive_fraction=config.positive_fraction,
            positive_iou=config.positive_iou,
            negative_iou=config.negative_iou,
            context_pixels=config.context_pixels,
            seed=config.seed,
        )
        localizer = _second_localizer(run, rpn)
        recall = proposals.recall(found, examples)
        note = f"; {recall:.1f} % have a proposal with an IoU of at least 0.5"
    else:
        batches = functools.partial(
            pipeline.train,
            examples,
            config.batch_size,
            run.train_transform(),
            seed=config.seed,
            max_boxes=config.max_boxes,
            max_broken=config.max_broken,
        )
        localizer, note = _first_localizer(run), ""
    loop.fit(
        model,
        run,
        batches,
        monitor=SELECTIONS[config.select_by],
        shown=("error", "localization error {:.2f} %"),
        lines={"val_error": "test, true class given"},
        label="localization error (%)",
        callbacks=[Evaluation(eval_examples, run.transform(), localizer)],
        log=loop.headline(model, run, len(examples), network=_describe(run, model, examples, note)),
    )


def _first_localizer(run: LocalizerRun) -> Callable[[Any], Localizer]:
    return lambda model: run.localizer(models=(model, None))


def _second_localizer(run: LocalizerRun, rpn: PerClassRPN) -> Callable[[Any], Localizer]:
    return lambda model: run.localizer(models=(rpn, model), proposals=run.config.eval_proposals or None)


def _proposals(run: LocalizerRun, localizer: Localizer, examples: Sequence[Example]) -> Any:
    """The proposals of the training images, from the run's folder if they are there."""
    if not run.proposals.exists():
        run.create()
        print(f"{run.path}: finding the proposals of {counted(len(examples), 'image')}", flush=True)
        proposals.save(run.proposals, proposals.collect(localizer, examples, run.transform(), progress=True))
    return proposals.read(run.proposals, len(examples))


def _describe(run: LocalizerRun, model: PerClassRPN | RCNN, examples: Sequence[Example], note: str) -> str:
    """Describe the network and the training images, for the log."""
    config, names = run.config, run.dataset_info.class_names
    kind = "R-CNN" if config.stage == 2 else "per-class RPN"
    trainable = loop.count_numbers(model.trainable_variables)
    return (
        f"stage {config.stage}, {kind} on {config.backbone}: "
        f"{model.count_params():,} parameters ({trainable:,} trainable)\n"
        f"{counted(len(examples), 'training image')} with boxes of {counted(len(names), 'class', 'classes')}: "
        f"{listed(names, 20)}{note}"
    )
