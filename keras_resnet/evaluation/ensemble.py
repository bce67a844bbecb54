"""Evaluate networks and their ensemble over a data set, with one network in memory at a time."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from keras_resnet.data import pipeline
from keras_resnet.data.dataset import Dataset, Images
from keras_resnet.data.transforms import EvalTransform, IdentityTransform, Transform
from keras_resnet.distribute import collectives
from keras_resnet.errors import InputError
from keras_resnet.evaluation import protocols, replicas
from keras_resnet.evaluation.choices import SCALES
from keras_resnet.evaluation.dense import fully_convolutional
from keras_resnet.evaluation.metrics import Outcomes, Result
from keras_resnet.evaluation.scores import RunningAverage, score
from keras_resnet.ops import codecs

Scored = Iterator[tuple[np.ndarray, np.ndarray]]
"""Labels i64[B] and log-probabilities f64[B,K] of consecutive batches."""


@dataclasses.dataclass(frozen=True)
class Member:
    """One network of an evaluation, loaded when it is needed.

    Attributes:
        name: its name in tables.
        transform: its test transform.
        function: dense -> (f32[B,H,W,3] -> scores); `dense` asks for the fully convolutional form.
        class_names: names of its classes; None if unknown.
        from_logits: whether its scores are logits or probabilities; None to infer it from the first batch.
    """

    name: str
    transform: EvalTransform | IdentityTransform
    function: Callable[[bool], Callable]
    class_names: tuple[str, ...] | None = None
    from_logits: bool | None = None


def network(
    name: str,
    load: Callable[[], keras.Model],
    transform: EvalTransform | IdentityTransform,
    class_names: Sequence[str] | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> Member:
    """Return a member that evaluates a Keras model.

    Args:
        name: its name in tables.
        load: returns the model, f32[B,H,W,3] -> f32[B,K]. It is called again for each protocol, so that no model stays
            in memory.
        transform: its test transform.
        class_names: names of the K classes.
        strategy: distribution strategy whose replicas share each batch.
    """

    def function(dense: bool) -> Callable:
        if strategy is None:
            model = load()
            return replicas.function(fully_convolutional(model) if dense else model)
        with strategy.scope():
            model = load()
            return replicas.function(fully_convolutional(model) if dense else model, strategy)

    return Member(name, transform, function, None if class_names is None else tuple(class_names))


def evaluate(
    members: Sequence[Member],
    dataset: Dataset,
    *,
    split: str = "test",
    protocol: str = "single",
    scales: Sequence[int] = SCALES,
    mirror: bool = False,
    average: str = "probabilities",
    batch_size: int = 256,
    max_pixels: int = codecs.MAX_PIXELS,
    label_map: np.ndarray | None = None,
    strategy: tf.distribute.Strategy | None = None,
    progress: bool = True,
) -> dict[str, Result]:
    """Evaluate each network, and their ensemble if there are several, by one of the paper's protocols.

    Networks are loaded one after the other and then dropped. For an ensemble, the log-probabilities of one pass stay in
    memory: one number for each image and class.

    Args:
        members: the networks; they may differ in depth, input size and normalization, but not in their classes.
        dataset: the images.
        split: the split to evaluate on.
        protocol: "single", "ten_crop" or "multi_scale".
        scales: shorter sides of "multi_scale" in pixels.
        mirror: whether "multi_scale" includes the mirrored image.
        average: what is averaged over crops, positions, scales and networks: "probabilities" or "logits".
        batch_size: images in a batch; each view counts as one image. Whole images of different sizes are evaluated one
            at a time.
        max_pixels: larger images raise an error.
        label_map: i64[classes of the data set], the network's class of each; by default they are the same.
        strategy: distribution strategy; each worker evaluates its part of every batch, and all get the same results.
        progress: whether to show a progress bar, on a terminal.

    Returns:
        Name -> `Result`. With several networks the last name is "ensemble of n".

    Raises:
        ValueError: there is no network, the networks' classes differ, or the protocol is unsuitable for a network.
    """
    if not members:
        raise InputError("an evaluation needs at least one network; got none.")
    _check_classes(members)
    views = [protocols.views(protocol, member.transform, scales, mirror) for member in members]
    count = dataset.count(split)
    workers = collectives.count(strategy) if strategy else 1
    context = None
    if strategy is not None and workers > 1:
        context = tf.distribute.InputContext(workers, collectives.index(strategy), strategy.num_replicas_in_sync)
    keep = len(members) > 1
    ensemble = RunningAverage(average)
    results: dict[str, Result] = {}
    classes = None
    total = count * sum(map(len, views))
    bar = tqdm(total=total, unit="image", disable=None if progress else True, dynamic_ncols=True)

    def passes(member: Member, transforms: Sequence[Transform]) -> Iterator[Scored]:
        """Score the data set once for each transform."""
        function = member.function(protocols.is_dense(transforms[0]))
        for transform in transforms:
            bar.set_description(f"{member.name} {protocol}" + (f" {transform.resize}" if len(transforms) > 1 else ""))
            part = 1 if _sizes_differ(dataset, split, transform) else batch_size // transform.views // workers
            size = max(part, 1) * workers
            batches = pipeline.evaluate(dataset, size, transform, split=split, max_pixels=max_pixels, context=context)
            scored = score(function, _mapped(batches, label_map), average_by=average, from_logits=member.from_logits)
            yield _counted(_of_all_workers(strategy, scored, count) if context else scored, bar)

    with bar:
        for member, transforms in zip(members, views, strict=True):
            outcomes, log_probabilities = _averaged(passes(member, transforms), len(transforms), average, keep)
            if classes not in (None, outcomes.classes):
                raise InputError(f"networks must have the same classes; {member.name} has {outcomes.classes} scores.")
            classes = outcomes.classes
            results[_unique(member.name, results)] = Result.of(outcomes)
            if log_probabilities is not None:
                ensemble.add(log_probabilities)
                labels = outcomes.label
    if keep:
        results[f"ensemble of {len(members)}"] = Result.of(Outcomes.of(labels, ensemble.result()))
    return results


def _averaged(passes: Iterator[Scored], count: int, average: str, keep: bool) -> tuple[Outcomes, np.ndarray | None]:
    """Outcomes of the average of `count` passes, and its log-probabilities if `keep`."""
    if count == 1 and not keep:
        return Outcomes.joined(Outcomes.of(labels, values) for labels, values in next(passes)), None
    total = RunningAverage(average)
    for scored in passes:
        labels, values = zip(*((labels, values.astype("float32")) for labels, values in scored), strict=True)
        labels = np.concatenate(labels)
        total.add(np.concatenate(values))
    values = total.result()
    return Outcomes.of(labels, values), values


def _mapped(batches: Iterable, label_map: np.ndarray | None) -> Iterator[tuple[tf.Tensor, np.ndarray]]:
    """Batches with the labels of the network."""
    for images, labels, *_ in batches:
        yield images, labels.numpy() if label_map is None else label_map[labels.numpy()]


def _of_all_workers(strategy: tf.distribute.Strategy, scored: Scored, count: int) -> Scored:
    """Labels and log-probabilities of all images; each worker scored its part of every batch.

    Args:
        strategy: the strategy of the workers.
        scored: labels i64[part] and log-probabilities f64[part,K] of this worker's part of each batch.
        count: number of images; the last batch may be padded with more.
    """
    # A message for each batch would take longer than a small batch.
    while batches := list(itertools.islice(scored, 32)):
        columns = []
        for local in map(np.stack, zip(*batches, strict=True)):
            parts = [np.frombuffer(part, local.dtype) for part in collectives.gather(strategy, local.tobytes())]
            gathered = np.stack([part.reshape(local.shape) for part in parts], 1)  # [batches,workers,part,...]
            columns.append(gathered.reshape(-1, *local.shape[2:])[:count])
        labels, values = columns
        count -= len(labels)
        yield labels, values


def _counted(scored: Scored, bar: tqdm) -> Scored:
    """The same, counted by the progress bar."""
    for labels, values in scored:
        bar.update(len(labels))
        yield labels, values


def _sizes_differ(dataset: Dataset, split: str, transform: Transform) -> bool:
    return None in transform.shape and not isinstance(dataset.examples(split), Images)


def _unique(name: str, names: Iterable[str]) -> str:
    """The name, with a number if it is taken."""
    taken = sum(other.startswith(name) for other in names)
    return f"{name} ({taken + 1})" if name in names else name


def _check_classes(members: Sequence[Member]) -> None:
    """Raise `InputError` unless all networks whose classes are known have the same ones."""
    known = [(member.name, member.class_names) for member in members if member.class_names is not None]
    for name, class_names in known[1:]:
        if class_names != known[0][1]:
            pair = (known[0], (name, class_names))
            first, second = (f"{name} has {len(names)} ({names[0]}, ...)" for name, names in pair)
            raise InputError(f"networks of an ensemble must have the same classes; {first}, {second}.")
