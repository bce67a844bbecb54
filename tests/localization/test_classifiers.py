"""Classes that classifiers predict: ensembles, and the numbers of classes."""

import types

import keras
import numpy as np
import pytest

from keras_resnet.errors import InputError
from keras_resnet.localization.classifiers import Ensemble, class_map
from keras_resnet.models.predictions import imagenet_classes


class Constant:
    """A classifier with the same probabilities for every image."""

    def __init__(self, names, values):
        self.dataset_info = types.SimpleNamespace(class_names=names)
        self.values = np.array(values, "float32")

    def load(self):
        image = keras.Input((2, 2, 3))
        x = keras.layers.Dense(len(self.values), use_bias=True, kernel_initializer="zeros")
        model = keras.Model(image, x(keras.layers.GlobalAveragePooling2D()(image)))
        x.bias.assign(self.values)
        return model

    def photo_transform(self):
        return types.SimpleNamespace(batch=lambda images: np.asarray(images, "float32"))


def test_the_probabilities_of_an_ensemble_are_averaged_by_class_name():
    members = [Constant(("b", "a"), [0.7, 0.3]), Constant(("a", "b"), [0.1, 0.9])]
    classes, probabilities = Ensemble(members, ("a", "b", "c")).top([np.zeros((2, 2, 3))] * 2, 2)
    np.testing.assert_array_equal(classes, [[1, 0]] * 2)
    np.testing.assert_allclose(probabilities, [[0.8, 0.2]] * 2, atol=1e-6)


def test_scores_must_be_probabilities():
    with pytest.raises(InputError, match="must return probabilities"):
        Ensemble([Constant(("a", "b"), [3.0, 1.0])], ("a", "b")).probabilities(np.zeros((2, 2, 3)))


def test_wordnet_ids_and_names_of_imagenet_are_the_same_classes():
    ids, names = (tuple(column) for column in zip(*imagenet_classes(), strict=True))
    np.testing.assert_array_equal(class_map(names, ids), np.arange(1000))
    np.testing.assert_array_equal(class_map(tuple(reversed(ids)), names), np.arange(1000)[::-1])
    np.testing.assert_array_equal(class_map(("b", "a"), ("a", "b")), [1, 0])
    with pytest.raises(InputError, match="'c' is not one of them"):
        class_map(("a", "c"), ("a", "b"))
