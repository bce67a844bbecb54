"""Parts of models, and Python's recursion limit while they are built."""

import sys

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.errors import InputError
from keras_resnet.models.submodels import FRAMES_PER_LAYER, deep_recursion, submodel
from keras_resnet.serving import folding


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


def called_with(layer, **arguments):
    """A model with one convolution and one layer that is called with these arguments."""
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(image)
    return keras.Model(image, keras.layers.Flatten()(layer(x, **arguments)))


@pytest.mark.parametrize("copy", [folding.fold, keras_resnet.to_keras])
def test_a_call_with_other_arguments_is_refused(copy):
    model = called_with(keras.layers.Dropout(0.5, name="drop"), training=True)
    with pytest.raises(InputError, match=r"layer 'drop' is also called with training=True\."):
        copy(model)


def test_a_batch_norm_that_never_trains_is_folded_but_not_copied_for_training(random):
    model = called_with(keras.layers.BatchNormalization(name="norm"), training=False)
    weights = [random.uniform(0.5, 2, weight.shape) for weight in model.get_weights()]
    model.set_weights(weights)
    images = random.normal(size=(2, 8, 8, 3)).astype("float32")
    folded = folding.fold(model)
    assert "norm" not in {layer.name for layer in folded.layers}
    np.testing.assert_allclose(folded(images), model(images), rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match=r"layer 'norm' is also called with training=False\."):
        keras_resnet.to_keras(model)


def test_a_second_input_of_its_own_is_refused():
    """As `MultiHeadAttention` has: it is not one structure of inputs."""
    image = keras.Input((8, 4))
    attention = keras.layers.MultiHeadAttention(1, 2, name="attention")
    model = keras.Model(image, keras.layers.Flatten()(attention(image, image)))
    with pytest.raises(InputError, match=r"layer 'attention' is also called with argument 2\."):
        folding.fold(model)
