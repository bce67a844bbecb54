"""Evaluation of classifiers: runs, published weights, their ensemble and exported networks, in one table."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence

import keras
import tensorflow as tf

from keras_resnet.classification import page
from keras_resnet.classification.eval_config import EvalConfig
from keras_resnet.classification.run import ClassifierRun, TrainedClassifier, unique_names
from keras_resnet.data import pipeline, sources, transforms
from keras_resnet.data.dataset import Dataset
from keras_resnet.data.transforms import EvalTransform, IdentityTransform, Transform
from keras_resnet.distribute import collectives
from keras_resnet.distribute.environment import environment
from keras_resnet.errors import InputError
from keras_resnet.evaluation import ensemble, exported, report
from keras_resnet.evaluation.batch_norm import recalibrate_batch_norm
from keras_resnet.models.class_names import label_map, readable
from keras_resnet.models.predictions import imagenet_classes
from keras_resnet.ops import codecs


@dataclasses.dataclass(frozen=True)
class EvalReport:
    """The result of an evaluation.

    Attributes:
        rows: the rows of its table.
        class_names: names of the networks' classes.
        dataset: the data set.
        split: the evaluated split.
        transform: the single-view test transform of the first network.
        config: the options of the evaluation.
        networks: name of a row -> how its network is loaded, and its transform; exports and ensembles are left out.
    """

    rows: list[report.Row]
    class_names: tuple[str, ...]
    dataset: Dataset
    split: str
    transform: Transform
    config: EvalConfig
    networks: Mapping[str, tuple[Callable[[], keras.Model], EvalTransform]] = dataclasses.field(default_factory=dict)

    def write(self, out: str | os.PathLike, command: str) -> None:
        """Write tables, figures and a web page to a new folder; see `evaluation.report.write` and `page.write`."""
        config = self.config
        multi_scale = "multi_scale" in config.views
        details = {
            "command": command,
            "dataset": self.dataset.info.name,
            "split": self.split,
            "average": config.average,
            "scales": list(config.scales) if multi_scale else None,
            "mirror": config.mirror_views if multi_scale else None,
            "recalibrated_over": config.recalibrate or None,
            **environment(),
        }
        details = {name: value for name, value in details.items() if value is not None}
        names = readable(self.class_names)
        with report.new(out, self.rows, names, self.dataset, self.split, self.transform, details) as folder:
            page.write(folder, self.rows, names, self.dataset, self.split, self.transform, details, self.networks)


def evaluate(
    classifiers: Sequence[TrainedClassifier],
    config: EvalConfig,
    *,
    saved_model: str | None = None,
    tflite: str | None = None,
    onnx: str | None = None,
    openvino: str | None = None,
    dataset: str | None = None,
    data_dir: str | None = None,
    split: str | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> EvalReport:
    """Evaluate trained networks, their ensemble if there are several, and exported networks.

    Args:
        classifiers: trained networks: `ClassifierRun`s and `Pretrained`s.
        config: the options of the evaluation.
        saved_model: folder of a SavedModel to evaluate too.
        tflite: TFLite file to evaluate too.
        onnx: ONNX file to evaluate too.
        openvino: OpenVINO file to evaluate too.
        dataset: name of the data set; by default that of the first classifier.
        data_dir: folder of prepared tensorflow-datasets; by default that of the first classifier.
        split: split to evaluate on; by default the first of test, validation and val that the data set has.
        strategy: distribution strategy; its workers and replicas share the images. By default one device.

    Raises:
        ValueError: there is no network, the networks' classes differ, or the data set, split or a view is unsuitable.
    """
    data = open_dataset(classifiers, dataset, data_dir)
    split = split or default_split(data, classifiers)
    data.count(split)  # reports an unknown split before networks are loaded
    networks = _networks(classifiers, data, config)
    members = _members(classifiers, networks, strategy)
    exports = [
        _exported_member(read(path), classifiers, data, config)
        for read, path in (
            (exported.saved_model, saved_model),
            (exported.tflite, tflite),
            (exported.onnx, onnx),
            (exported.openvino, openvino),
        )
        if path
    ]
    groups = [members] if members else []
    groups += [[member] for member in exports]
    class_names = [group[0].class_names or () for group in groups]
    rows = []
    for protocol in config.views:
        for group, names in zip(groups, class_names, strict=True):
            results = ensemble.evaluate(
                [_with_margin(member, protocol, data) for member in group],
                data,
                split=split,
                protocol=protocol,
                scales=config.scales,
                mirror=config.mirror_views,
                average=config.average,
                batch_size=config.batch_size,
                max_pixels=classifiers[0].config.max_pixels if classifiers else codecs.MAX_PIXELS,
                label_map=label_map(data.info.class_names, names),
                strategy=strategy,
                progress=strategy is None or collectives.is_chief(strategy),
            )
            rows += [report.Row(name, protocol, result) for name, result in results.items()]
    return EvalReport(rows, class_names[0], data, split, groups[0][0].transform, config, networks)


def open_dataset(classifiers: Sequence[TrainedClassifier], dataset: str | None, data_dir: str | None) -> Dataset:
    """Load a data set by name, by default that of the first classifier.

    Raises:
        ValueError: there is neither a name nor a classifier.
    """
    name = dataset or (classifiers[0].config.dataset if classifiers else None)
    if not name:
        raise InputError("dataset must be given if no run is evaluated: --dataset=...")
    return sources.load(name, data_dir or (classifiers[0].config.data_dir if classifiers else None))


def default_split(dataset: Dataset, classifiers: Sequence[TrainedClassifier] = ()) -> str:
    """Return the split to evaluate on: the first of test, validation and val that a data set has.

    A data set without them, on which the first classifier was trained, has the split on which training evaluated.

    Args:
        dataset: the data set.
        classifiers: the trained networks to evaluate.

    Raises:
        ValueError: there is no such split.
    """
    splits = dataset.info.splits
    for name in ("test", "validation", "val"):
        if name in splits:
            return name
    if classifiers and classifiers[0].dataset_info.name == dataset.info.name:
        config = classifiers[0].config
        if config.eval_split.split("[")[0] in splits:
            return config.eval_split
    raise InputError(f"split must be given for a data set without test or validation: one of {', '.join(splits)}.")


def eval_transform(classifier: TrainedClassifier, dataset: Dataset, resize: int | None = None) -> EvalTransform:
    """Return the test transform of a classifier for a data set.

    It is the classifier's own for images of the size that it was trained on, and that of photos for others.

    Args:
        classifier: the trained network.
        dataset: the images.
        resize: shorter side in pixels before cropping; by default the classifier's.
    """
    sizes = (tuple(classifier.image_size), classifier.dataset_info.image_size)
    own = dataset.info.image_size in sizes
    transform = classifier.eval_transform() if own else classifier.photo_transform()
    return transform if resize is None else dataclasses.replace(transform, resize=resize)


def _with_margin(member: ensemble.Member, protocol: str, dataset: Dataset) -> ensemble.Member:
    """The member with a resize that leaves a margin for ten crops, if the images all have another size than its own."""
    transform = member.transform
    if protocol != "ten_crop" or transform.resize or dataset.info.image_size in (None, tuple(transform.size)):
        return member
    resize = transforms.default_resize(transform.size)
    return dataclasses.replace(member, transform=dataclasses.replace(transform, resize=resize))


def _networks(
    classifiers: Sequence[TrainedClassifier], dataset: Dataset, config: EvalConfig
) -> dict[str, tuple[Callable[[], keras.Model], EvalTransform]]:
    """Name of each classifier -> a function that loads its network with logits, and its transform."""
    return {
        name: (_loader(classifier, dataset, config.recalibrate), eval_transform(classifier, dataset, config.resize))
        for name, classifier in zip(unique_names(classifiers), classifiers, strict=True)
    }


def _members(
    classifiers: Sequence[TrainedClassifier],
    networks: Mapping[str, tuple[Callable[[], keras.Model], EvalTransform]],
    strategy: tf.distribute.Strategy | None,
) -> list[ensemble.Member]:
    return [
        ensemble.network(name, load, transform, classifier.dataset_info.class_names, strategy)
        for classifier, (name, (load, transform)) in zip(classifiers, networks.items(), strict=True)
    ]


def _loader(classifier: TrainedClassifier, dataset: Dataset, recalibrate: int) -> Callable[[], keras.Model]:
    """Return a function that loads the network with logits and recalibrates its batch norm if requested."""
    run = classifier if isinstance(classifier, ClassifierRun) else None
    if recalibrate and run is None:
        raise InputError("recalibrate requires a run, whose config.json names the training images; got weights.")
    if recalibrate and classifier.config.quantize:
        raise InputError("recalibrate must be 0 for a run with quantize, whose batch norm is part of its integers.")

    def load() -> keras.Model:
        model = classifier.load(classifier_activation=None)
        if run and recalibrate:
            same = dataset.info.name == run.dataset_info.name
            images = dataset if same else open_dataset([run], None, None)
            batch_size = min(run.config.batch_size, recalibrate)
            batches = pipeline.train(
                images, batch_size, run.train_transform(), split=run.config.train_split, seed=run.config.seed
            )
            recalibrate_batch_norm(model, batches, steps=-(-recalibrate // batch_size))
        return model

    return load


def _exported_member(
    network: exported.Exported, classifiers: Sequence[TrainedClassifier], dataset: Dataset, config: EvalConfig
) -> ensemble.Member:
    """An exported network, which normalizes its input itself, as a member."""
    first = classifiers[0] if classifiers else None
    size = network.size or (first.image_size if first else dataset.info.image_size or (224, 224))
    if first and size == first.image_size:
        geometry = eval_transform(first, dataset, config.resize)
    else:
        resize = transforms.resize_of(size, images=dataset.info.image_size)
        geometry = EvalTransform(size, None, None, config.resize or resize)
    # A network that takes images of any size crops them itself.
    transform: EvalTransform | IdentityTransform = EvalTransform.unnormalized(geometry)
    if not network.size:
        transform = IdentityTransform(geometry.size, geometry.resize, geometry.exif)

    def function(dense: bool) -> Callable:
        if dense:
            raise InputError(
                f"views must be single or ten_crop for exported networks such as {network.name!r}; got 'multi_scale'."
            )
        return network.function

    class_names = _exported_class_names(network, classifiers, dataset)
    return ensemble.Member(network.name, transform, function, class_names, network.from_logits)


def _exported_class_names(
    network: exported.Exported, classifiers: Sequence[TrainedClassifier], dataset: Dataset
) -> tuple[str, ...]:
    """The class names of an exported network, which its file lacks: the first known ones of the right number."""
    imagenet = tuple(wnid for wnid, _ in imagenet_classes())
    candidates = [classifier.dataset_info.class_names for classifier in classifiers[:1]]
    for class_names in (*candidates, dataset.info.class_names, imagenet):
        if network.classes in (None, len(class_names)):
            return tuple(class_names)
    raise InputError(
        f"{network.name} has {network.classes} scores, but the data set has {len(dataset.info.class_names)} classes."
    )
