"""Labels of data sets matched with outputs of networks."""

import numpy as np
import pytest

from keras_resnet.models.class_names import label_map, readable
from keras_resnet.models.predictions import imagenet_classes

WNIDS = tuple(wnid for wnid, _ in imagenet_classes())
NAMES = tuple(name for _, name in imagenet_classes())


def test_equal_or_unrelated_names():
    assert label_map(("a", "b"), ("a", "b")) is None
    assert label_map(("x", "y"), ("a", "b")) is None  # others of the same number, in their order


def test_other_orders_and_parts():
    assert label_map(("c", "a"), ("a", "b", "c")).tolist() == [2, 0]
    assert label_map(("b", "a"), ("a", "b")).tolist() == [1, 0]


@pytest.mark.parametrize("network", [WNIDS, NAMES])
def test_folders_named_by_wordnet_ids(network):
    np.testing.assert_array_equal(label_map(("n02504458", "n01440764"), network), [386, 0])
    assert readable(("n01440764", "cat")) == ("tench", "cat")


def test_another_number_of_classes():
    with pytest.raises(
        ValueError, match="the network's 3 classes, or some of them by name; got 2 classes, of which 'z' is"
    ):
        label_map(("a", "z"), ("a", "b", "c"))
    with pytest.raises(
        ValueError, match="of which 'crane' is not the name of exactly one"
    ):  # two classes have this name
        label_map(("crane", "tench"), NAMES)
