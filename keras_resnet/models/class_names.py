"""Which output of a network a class of a data set is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_resnet.errors import InputError
from keras_resnet.models.predictions import imagenet_classes


def readable(names: Sequence[str]) -> tuple[str, ...]:
    """Return names for people: those of ImageNet's classes in place of their WordNet ids, others as they are."""
    known = dict(imagenet_classes())
    return tuple(known.get(name, name) for name in names)


def label_map(dataset_names: Sequence[str], network_names: Sequence[str]) -> np.ndarray | None:
    """Match the classes of a data set with the outputs of a network.

    A data set may have only some of the network's classes, by the same names; for a network of ImageNet's 1000 classes
    the names may be WordNet ids, so that a folder with some of ImageNet's folders can be evaluated. Names of the same
    number are taken in their order, whatever they are.

    Args:
        dataset_names: names in the order of the labels.
        network_names: names in the order of the scores.

    Returns:
        i64[classes of the data set], the output of each; None where labels are outputs already.

    Raises:
        ValueError: the numbers differ and a name is not one of the network's.
    """
    dataset_names, network_names = list(dataset_names), list(network_names)
    if dataset_names == network_names:
        return None
    wnids, names = (list(column) for column in zip(*imagenet_classes(), strict=True))
    spellings = [network_names]
    if network_names in (wnids, names) or (len(network_names) == len(names) and network_names[0] in ("0", wnids[0])):
        spellings.append(wnids)
    for known in spellings:
        # A name that stands for two classes, as ImageNet's "crane", stands for neither.
        place = {name: number for number, name in enumerate(known) if known.count(name) == 1}
        if all(name in place for name in dataset_names):
            return np.array([place[name] for name in dataset_names])
    if len(dataset_names) == len(network_names):
        return None
    unknown = next(name for name in dataset_names if network_names.count(name) != 1)
    raise InputError(
        f"dataset must have the network's {len(network_names)} classes or some of them by name; it has "
        f"{len(dataset_names)}, among them {unknown!r}, which is not the name of one of them."
    )
