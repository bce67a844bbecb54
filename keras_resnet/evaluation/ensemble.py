"""Networks and ensembles of them over a data set: one table row for each, in one network's memory at a time."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from keras_resnet.data import pipeline
from keras_resnet.data.dataset import Dataset, Images
from keras_resnet.data.transforms import EvalTransform
from keras_resnet.distribute import collectives
from keras_resnet.errors import InputError
from keras_resnet.evaluation import protocols, replicas
from keras_resnet.evaluation.dense import fully_convolutional
from keras_resnet.evaluation.metrics import Outcomes, Result
from keras_resnet.evaluation.scores import RunningAverage, score
from keras_resnet.ops import codecs


@dataclasses.dataclass(frozen=True)
class Member:
    """One network of an evaluation, loaded when its turn comes.

    Attributes:
        name: as shown in tables.
        view: its view for testing.
        function: dense -> (f32[B,H,W,3] -> scores); `dense` asks for the fully convolutional form.
        class_names: what its scores stand for; None where nobody knows.
        from_logits: whether its scores are logits or probabilities; None to see it from the first batch.
    """

    name: str
    view: EvalTransform
    function: Callable[[bool], Callable]
    class_names: tuple[str, ...] | None = None
    from_logits: bool | None = None


def network(
    name: str,
    load: Callable[[], keras.Model],
    view: EvalTransform,
    class_names: Sequence[str] | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> Member:
    """A member from a Keras model.

    Args:
        name: as shown in tables.
        load: returns the model, f32[B,H,W,3] -> f32[B,K]; called again for each protocol, so that no model stays in
            memory.
        view: its view for testing.
        class_names: names of the K classes.
        strategy: shares batches among replicas.
    """

    def function(dense: bool) -> Callable:
        if strategy is None:
            model = load()
            return replicas.function(fully_convolutional(model) if dense else model)
        with strategy.scope():
            model = load()
            return replicas.function(fully_convolutional(model) if dense else model, strategy)

    return Member(name, view, function, None if class_names is None else tuple(class_names))


def evaluate(
    members: Sequence[Member],
    dataset: Dataset,
    *,
    split: str = "test",
    protocol: str = "single",
    scales: Sequence[int] = protocols.SCALES,
    mirror: bool = False,
    average: str = "probabilities",
    batch_size: int = 256,
    max_pixels: int = codecs.MAX_PIXELS,
    label_map: np.ndarray | None = None,
    strategy: tf.distribute.Strategy | None = None,
    progress: bool = True,
) -> dict[str, Result]:
    """Evaluate each network, and where there are several their ensemble, by one of the paper's protocols.

    Networks are loaded one after the other and dropped; what is kept of them is one number for each image and class.

    Args:
        members: the networks; they may differ in depth, input size and normalisation, but not in their classes.
        dataset: where the images come from.
        split: which examples.
        protocol: "single", "ten_crop" or "multi_scale".
        scales: shorter sides of "multi_scale".
        mirror: whether "multi_scale" sees the mirrored image too.
        average: what is averaged over crops, positions, scales and networks: "probabilities" or "logits".
        batch_size: pictures that a network sees at a time; an image counts once for each of its views. Whole images of
            different sizes are seen one at a time.
        max_pixels: larger images are an error.
        label_map: i64[classes of the data set], the network's class of each; by default they are the same.
        strategy: whose workers share the images, each its part of every batch; all of them get the same results.
        progress: whether to show a bar with images/s and time left, on a terminal.

    Returns:
        Name -> `Result`; of several networks the last one is "ensemble of n".

    Raises:
        ValueError: no networks, networks with different classes, a protocol that does not suit a network.
    """
    if not members:
        raise InputError("an evaluation needs at least one network; got none.")
    _check_classes(members)
    plans = [protocols.views(protocol, member.view, scales, mirror) for member in members]
    count = dataset.count(split)
    count_workers = collectives.count(strategy) if strategy else 1
    context = None
    if count_workers > 1:
        context = tf.distribute.InputContext(count_workers, collectives.index(strategy), strategy.num_replicas_in_sync)
    together = RunningAverage(average)
    results: dict[str, Result] = {}
    classes = None
    bar = tqdm(total=count * sum(map(len, plans)), unit="image", disable=None if progress else True, dynamic_ncols=True)
    with bar:
        for member, views in zip(members, plans, strict=True):
            function = member.function(protocols.is_dense(views[0]))

            def passes(views=views, function=function, member=member):
                for view in views:
                    bar.set_description(f"{member.name} {protocol}" + (f" {view.resize}" if len(views) > 1 else ""))
                    part = 1 if _sizes_differ(dataset, split, view) else batch_size // view.views // count_workers
                    size = max(part, 1) * count_workers
                    batches = pipeline.evaluate(
                        dataset, size, view, split=split, max_pixels=max_pixels, context=context
                    )
                    scored = score(
                        function, _mapped(batches, label_map), average_by=average, from_logits=member.from_logits
                    )
                    yield _counted(_of_all_workers(strategy, scored, count) if context else scored, bar)

            keep = len(members) > 1
            outcomes, log_probabilities = _averaged(passes(), len(views), average, keep)
            if classes not in (None, outcomes.classes):
                raise InputError(f"networks must have the same classes; {member.name} has {outcomes.classes} scores.")
            classes = outcomes.classes
            results[_unused(member.name, results)] = Result.of(outcomes)
            if keep:
                together.add(log_probabilities)
                labels = outcomes.label
    if len(members) > 1:
        results[f"ensemble of {len(members)}"] = Result.of(Outcomes.of(labels, together.result()))
    return results


def _averaged(passes: Iterator, count: int, average: str, keep: bool) -> tuple[Outcomes, np.ndarray | None]:
    """The outcomes of the average of `count` passes, and its log-probabilities where they are to be kept."""
    if count == 1 and not keep:
        return Outcomes.joined(Outcomes.of(labels, values) for labels, values in next(passes)), None
    total = RunningAverage(average)
    for one in passes:
        labels, values = zip(*((labels, values.astype("float32")) for labels, values in one), strict=True)
        labels = np.concatenate(labels)
        total.add(np.concatenate(values))
    values = total.result()
    return Outcomes.of(labels, values), values


def _mapped(batches, label_map: np.ndarray | None):
    for images, labels, *_ in batches:
        yield images, labels.numpy() if label_map is None else label_map[labels.numpy()]


def _of_all_workers(strategy: tf.distribute.Strategy, scored: Iterator, count: int) -> Iterator:
    """Labels and log-probabilities of all images, of which each worker scored its part of every batch.

    Args:
        strategy: of the workers.
        scored: labels i64[part] and log-probabilities f64[part,K] of this worker's part of each batch.
        count: images in all; what is more than that only filled up the last batch.
    """
    # A message for each batch would take longer than a small batch.
    while batches := list(itertools.islice(scored, 32)):
        columns = []
        for own in map(np.stack, zip(*batches, strict=True)):
            parts = [np.frombuffer(part, own.dtype) for part in collectives.gather(strategy, own.tobytes())]
            every = np.stack([part.reshape(own.shape) for part in parts], 1)  # [batches,workers,part,...]
            columns.append(every.reshape(-1, *own.shape[2:])[:count])
        labels, values = columns
        count -= len(labels)
        yield labels, values


def _counted(scored: Iterator, bar: tqdm) -> Iterator:
    for labels, values in scored:
        bar.update(len(labels))
        yield labels, values


def _sizes_differ(dataset: Dataset, split: str, view: EvalTransform) -> bool:
    return None in view.shape and not isinstance(dataset.examples(split), Images)


def _unused(name: str, names) -> str:
    """The name, with a number where it is taken."""
    return name if name not in names else f"{name} ({sum(each.startswith(name) for each in names) + 1})"


def _check_classes(members: Sequence[Member]) -> None:
    """Raise unless all networks whose classes are known have the same ones."""
    known = [member for member in members if member.class_names is not None]
    for member in known[1:]:
        if member.class_names != known[0].class_names:
            first, other = (
                f"{each.name} has {len(each.class_names)} ({each.class_names[0]}, ...)" for each in (known[0], member)
            )
            raise InputError(f"networks of an ensemble must have the same classes; {first}, {other}.")
