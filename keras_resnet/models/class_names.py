"""Match the class names of data sets and networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_resnet.errors import InputError
from keras_resnet.models.predictions import imagenet_classes


def readable(names: Sequence[str]) -> tuple[str, ...]:
    """Replace the WordNet ids of ImageNet classes with their names; other names stay as they are."""
    known = dict(imagenet_classes())
    return tuple(known.get(name, name) for name in names)


def label_map(dataset_names: Sequence[str], network_names: Sequence[str]) -> np.ndarray | None:
    """Map the labels of a data set to the outputs of a network.

    The data set may have only some of the network's classes, with the same names. For a network with the 1000 ImageNet
    classes the names may be WordNet ids, so that any subset of ImageNet's folders can be evaluated. If data set and
    network have the same number of classes, unknown names are matched by their order.

    Args:
        dataset_names: class names in the order of the labels.
        network_names: class names in the order of the scores.

    Returns:
        i64[number of dataset_names], the output for each label; None if each label is the index of its output.

    Raises:
        ValueError: the numbers of classes differ, and a name of the data set is not one of the network's.
    """
    dataset_names, network_names = list(dataset_names), list(network_names)
    if dataset_names == network_names:
        return None
    wnids, names = (list(column) for column in zip(*imagenet_classes(), strict=True))
    spellings = [network_names]
    if network_names in (wnids, names) or (len(network_names) == len(names) and network_names[0] in ("0", wnids[0])):
        spellings.append(wnids)
    for known in spellings:
        # A name of two classes, such as ImageNet's "crane", is ambiguous.
        index = {name: number for number, name in enumerate(known) if known.count(name) == 1}
        if all(name in index for name in dataset_names):
            return np.array([index[name] for name in dataset_names])
    if len(dataset_names) == len(network_names):
        return None
    unknown = next(name for name in dataset_names if network_names.count(name) != 1)
    raise InputError(
        f"dataset must have the network's {len(network_names)} classes, or some of them by name; got "
        f"{len(dataset_names)} classes, of which {unknown!r} is not the name of exactly one of the network's."
    )
