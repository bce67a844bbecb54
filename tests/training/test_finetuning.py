"""Fine-tuning: what is fixed stays bit by bit, and the rest learns at its rate."""

import keras
import numpy as np
import pytest

from keras_resnet.models import resnet, weights
from keras_resnet.training import finetuning, optimizers


def network(seed=0):
    keras.utils.set_random_seed(seed)
    return resnet.ResNet([(4, 1, 1), (8, 1, 2)], block="basic", stem="cifar", input_shape=(8, 8, 3), classes=3)


def changed_layers(model, random):
    """Names of the layers with a variable that three steps changed."""
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    before = {variable.path: variable.numpy() for variable in model.variables}
    images = random.normal(size=(12, 8, 8, 3)).astype("float32")
    model.fit(images, random.integers(0, 3, 12), batch_size=4, verbose=0)
    return {v.path.split("/")[0] for v in model.variables if not np.array_equal(before[v.path], v.numpy())}


def test_frozen_stages_and_their_statistics_stay(random):
    model = network()
    finetuning.freeze(model, stages=2)
    changed = changed_layers(model, random)
    assert {name[:5] for name in changed} == {"conv3", "predi"}
    assert "conv3_block1_1_bn" in changed


def test_frozen_norm_stays_everywhere(random):
    model = network()
    finetuning.freeze(model, norm=True)
    changed = changed_layers(model, random)
    assert changed
    assert not [name for name in changed if name.endswith("_bn")]


@pytest.mark.parametrize("new_head", [True, False])
def test_initialize(new_head, tmp_path):
    path = tmp_path / "a.weights.h5"
    weights.save(network(1), path)
    model, fresh, stored = network(2), network(2), network(1)
    finetuning.initialize(model, path, new_head)
    for ours, new, old in zip(model.variables, fresh.variables, stored.variables, strict=True):
        expected = new if new_head and "predictions" in ours.path else old
        np.testing.assert_array_equal(ours.numpy(), expected.numpy())


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_a_slower_backbone(name):
    """One step at a tenth of the rate is a tenth of the step."""
    steps = {}
    for factor in (1.0, 0.1):
        kernel, head = keras.Variable([1.0, 2.0], name="kernel"), keras.Variable([1.0, 2.0], name="head")
        optimizer = optimizers.make(name, 0.5)
        optimizer.build([kernel, head])
        finetuning.slow_down(optimizer, [kernel], factor)
        optimizer.apply([keras.ops.array([1.0, -2.0])] * 2)
        steps[factor] = kernel.numpy() - [1, 2], head.numpy() - [1, 2]
    np.testing.assert_allclose(steps[0.1][0], 0.1 * steps[1.0][0], rtol=1e-4)
    np.testing.assert_allclose(steps[0.1][1], steps[1.0][1], rtol=1e-6)


def test_backbone_is_all_but_the_classifier():
    model = network()
    rest = {variable.path for variable in model.trainable_variables} - {v.path for v in finetuning.backbone(model)}
    assert rest == {"predictions/kernel", "predictions/bias"}


def test_a_file_of_other_classes_gives_the_backbone(random, tmp_path):
    source = resnet.ResNet([(4, 1, 1), (8, 1, 2)], block="basic", stem="cifar", input_shape=(8, 8, 3), classes=5)
    weights.save(source, tmp_path / "a.weights.h5")
    model = network(seed=1)
    head = model.get_layer("predictions").get_weights()
    finetuning.initialize(model, tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(
        model.get_layer("conv1_conv").get_weights(), source.get_layer("conv1_conv").get_weights()
    )
    np.testing.assert_array_equal(model.get_layer("predictions").get_weights()[0], head[0])
    with pytest.raises(ValueError, match="predictions/kernel has shape"):
        finetuning.initialize(model, tmp_path / "a.weights.h5", new_head=False)
