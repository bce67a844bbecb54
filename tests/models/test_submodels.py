"""Parts of models, and Python's recursion limit while they are built."""

import sys

import keras
import numpy as np

from keras_resnet.models.submodels import FRAMES_PER_LAYER, deep_recursion, submodel


def test_part_of_a_model(random):
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, name="hidden")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(hidden))
    part = submodel(model, {"hidden": hidden, "outputs": model.output}, name="part")
    assert part.name == "part"
    assert part.get_layer("hidden") is model.get_layer("hidden")
    values = random.normal(size=(2, 3)).astype("float32")
    np.testing.assert_array_equal(part(values)["outputs"], model(values))


def test_the_recursion_limit_is_restored():
    before = sys.getrecursionlimit()
    with deep_recursion(50):
        assert sys.getrecursionlimit() == before + 50 * FRAMES_PER_LAYER
    assert sys.getrecursionlimit() == before
