"""A whole evaluation as the command line asks for it: trained networks and exported ones, views, one table."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

import keras_resnet
from keras_resnet.classification.eval_config import EvalConfig
from keras_resnet.classification.run import ClassifierRun, unique_names
from keras_resnet.data import pipeline
from keras_resnet.data.dataset import Dataset
from keras_resnet.data.sources import load as load_dataset
from keras_resnet.data.transforms import EvalTransform, IdentityTransform
from keras_resnet.distribute import collectives
from keras_resnet.errors import InputError
from keras_resnet.evaluation import ensemble, exported, report
from keras_resnet.evaluation.batch_norm import recalibrate_batch_norm
from keras_resnet.models.class_names import label_map, readable
from keras_resnet.models.predictions import imagenet_classes
from keras_resnet.ops import codecs


@dataclasses.dataclass(frozen=True)
class EvalReport:
    """What an evaluation found.

    Attributes:
        rows: of its table.
        class_names: of the networks.
        dataset: where the images came from.
        split: of the data set.
        view: the single view of the first network.
        plan: how it was done.
    """

    rows: list[report.Row]
    class_names: tuple[str, ...]
    dataset: Dataset
    split: str
    view: EvalTransform
    plan: EvalConfig

    def write(self, out: str | os.PathLike, command: str) -> None:
        """Write tables and pictures to a new folder; see `report.write`."""
        facts = {
            "command": command,
            "dataset": self.dataset.info.name,
            "split": self.split,
            "average": self.plan.average,
            "scales": list(self.plan.scales) if "multi_scale" in self.plan.views else None,
            "mirror": self.plan.mirror_views if "multi_scale" in self.plan.views else None,
            "recalibrated_over": self.plan.recalibrate or None,
            **environment(),
        }
        facts = {name: value for name, value in facts.items() if value is not None}
        report.write(out, self.rows, readable(self.class_names), self.dataset, self.split, self.view, facts)


def environment() -> dict[str, str]:
    """What numbers depend on beside the code's input: devices and versions."""
    return {
        "device": ", ".join(sorted({device.device_type for device in tf.config.list_logical_devices()})),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "keras_resnet": keras_resnet.__version__,
    }


def evaluate(
    sources: Sequence,
    plan: EvalConfig,
    *,
    saved_model: str | None = None,
    tflite: str | None = None,
    dataset: str | None = None,
    data_dir: str | None = None,
    split: str | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> EvalReport:
    """Evaluate trained networks, their ensemble where there are several, and exported networks.

    Args:
        sources: trained networks: `ClassifierRun`s, or others with their members, such as `Pretrained`s.
        plan: how to look at the images.
        saved_model: folder of a SavedModel.
        tflite: a TFLite file.
        dataset: name of the data set; by default that of the first source.
        data_dir: folder of prepared tensorflow-datasets; by default that of the first source.
        split: by default the first of test, validation and val that the data set has.
        strategy: whose workers share the images, and whose replicas share each worker's; by default one device.

    Raises:
        ValueError: no networks, different classes, an unknown data set or split, views that do not suit.
    """
    data = open_dataset(sources, dataset, data_dir)
    split = split or test_split(data)
    data.count(split)  # so that a wrong split is found before networks are loaded
    members = _networks(sources, data, plan, strategy)
    exports = [
        _export(read(path), sources, data, plan)
        for read, path in ((exported.saved_model, saved_model), (exported.tflite, tflite))
        if path
    ]
    groups = [members, *([one] for one in exports)] if members else [[one] for one in exports]
    rows = []
    for views in plan.views:
        for group in groups:
            found = ensemble.evaluate(
                [_with_room(member, views, data) for member in group],
                data,
                split=split,
                protocol=views,
                scales=plan.scales,
                mirror=plan.mirror_views,
                average=plan.average,
                batch_size=plan.batch_size,
                max_pixels=sources[0].config.max_pixels if sources else codecs.MAX_PIXELS,
                label_map=label_map(data.info.class_names, group[0].class_names),
                strategy=strategy,
                progress=strategy is None or collectives.is_chief(strategy),
            )
            rows += [report.Row(name, views, result) for name, result in found.items()]
    first = groups[0][0]
    return EvalReport(rows, first.class_names, data, split, first.view, plan)


def open_dataset(sources: Sequence, dataset: str | None, data_dir: str | None) -> Dataset:
    """Find the data set by name, or else the first source's.

    Raises:
        ValueError: there is neither.
    """
    name = dataset or (sources[0].config.dataset if sources else None)
    if not name:
        raise InputError("dataset must be given where no run says which: --dataset=...")
    return load_dataset(name, data_dir or (sources[0].config.data_dir if sources else None))


def test_split(dataset: Dataset) -> str:
    known = dataset.info.splits
    found = next((name for name in ("test", "validation", "val") if name in known), None)
    if found is None:
        raise InputError(f"split must be given for a data set without test or validation: one of {', '.join(known)}.")
    return found


def transform_for(source, dataset: Dataset, resize: int | None) -> EvalTransform:
    """A network's view of a data set: that of its run where the images have one size that the run knows."""
    known = dataset.info.image_size in (tuple(source.image_size), source.dataset_info.image_size)
    view = source.eval_transform() if known else source.photo_transform()
    return view if resize is None else dataclasses.replace(view, resize=resize)


def _with_room(member: ensemble.Member, protocol: str, dataset: Dataset) -> ensemble.Member:
    """The member with a view that leaves room for ten crops of images of one size which is not the network's."""
    view = member.view
    if protocol != "ten_crop" or view.resize or dataset.info.image_size in (None, tuple(view.size)):
        return member
    return dataclasses.replace(member, view=dataclasses.replace(view, resize=round(max(view.size) * 256 / 224)))


def _networks(sources: Sequence, dataset: Dataset, plan: EvalConfig, strategy) -> list[ensemble.Member]:
    return [
        ensemble.network(
            name,
            _loader(source, dataset, plan.recalibrate),
            transform_for(source, dataset, plan.resize),
            source.dataset_info.class_names,
            strategy,
        )
        for name, source in zip(unique_names(sources), sources, strict=True)
    ]


def _loader(source, dataset: Dataset, recalibrate: int) -> Callable[[], keras.Model]:
    """What loads a network with logits, its batch norm recomputed over the first training images where asked for."""

    if recalibrate and not isinstance(source, ClassifierRun):
        raise InputError("recalibrate wants runs that say what they were trained on; weights do not.")

    def load() -> keras.Model:
        model = source.load(classifier_activation=None)
        if recalibrate:
            own = dataset if dataset.info.name == source.dataset_info.name else open_dataset([source], None, None)
            batch = min(source.config.batch_size, recalibrate)
            view = source.train_transform()
            batches = pipeline.train(own, batch, view, split=source.config.train_split, seed=source.config.seed)
            recalibrate_batch_norm(model, batches, steps=-(-recalibrate // batch))
        return model

    return load


def _export(network: exported.Exported, sources: Sequence, dataset: Dataset, plan: EvalConfig) -> ensemble.Member:
    """An exported network, which normalises inside, as a member."""
    size = network.size or (tuple(sources[0].image_size) if sources else dataset.info.image_size or (224, 224))
    if sources and size == tuple(sources[0].image_size):
        base = transform_for(sources[0], dataset, plan.resize)
    else:
        resize = 0 if dataset.info.image_size else round(max(size) * 256 / 224)
        base = EvalTransform(size, None, None, plan.resize or resize)
    # Of any size it takes whole images, and crops them itself.
    kind = EvalTransform if network.size else IdentityTransform
    view = kind(base.size, (0.0,) * 3, (1.0,) * 3, base.resize, base.exif)

    def function(dense: bool):
        if dense:
            raise InputError(f"views must be single or ten_crop for an exported network; {network.name} is one.")
        return network.function

    classes = _export_classes(network, sources, dataset)
    return ensemble.Member(network.name, view, function, classes, network.from_logits)


def _export_classes(network: exported.Exported, sources: Sequence, dataset: Dataset) -> tuple[str, ...]:
    """What the scores of an exported network stand for, which the file does not say: by their number."""
    imagenet = tuple(wnid for wnid, _ in imagenet_classes())
    known = [source.dataset_info.class_names for source in sources[:1]] + [dataset.info.class_names, imagenet]
    for class_names in known:
        if network.classes in (None, len(class_names)):
            return tuple(class_names)
    raise InputError(
        f"{network.name} has {network.classes} scores, but the data set has {len(dataset.info.class_names)} classes."
    )
