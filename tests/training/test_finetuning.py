"""Fine-tuning: what is fixed stays bit by bit, and the rest learns at its rate."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import compat
from keras_resnet.models import resnet, weights
from keras_resnet.models.weights.published import ModelInfo
from keras_resnet.training import finetuning, optimizers


def network(seed=0, classes=3):
    keras.utils.set_random_seed(seed)
    return resnet.ResNet([(4, 1, 1), (8, 1, 2)], block="basic", stem="cifar", input_shape=(8, 8, 3), classes=classes)


def changed_layers(model, random):
    """Names of the layers with a variable that three steps changed."""
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    before = {compat.path(variable): variable.numpy() for variable in model.variables}
    images = random.normal(size=(12, 8, 8, 3)).astype("float32")
    model.fit(images, random.integers(0, 3, 12), batch_size=4, verbose=0)
    after = {compat.path(variable): variable.numpy() for variable in model.variables}
    return {path.split("/")[0] for path in after if not np.array_equal(before[path], after[path])}


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
    finetuning.initialize(model, *finetuning.find(str(path), "resnet20"), new_head)
    for ours, new, old in zip(model.variables, fresh.variables, stored.variables, strict=True):
        expected = new if new_head and "predictions" in compat.path(ours) else old
        np.testing.assert_array_equal(ours.numpy(), expected.numpy())


def test_weights_for_bgr_take_rgb_images(tmp_path, random):
    """The network that starts from the authors' kind of weights gives for RGB what those give for BGR."""
    path = tmp_path / "a.weights.h5"
    info = ModelInfo("resnet", "caffe", 8, 0, ("a", "b", "c"))
    weights.save(network(1), path, info)
    model = network(2)
    path, info = finetuning.find(str(path), "resnet")
    finetuning.initialize(model, path, info, new_head=False)
    images = random.uniform(0, 255, (2, 8, 8, 3)).astype("float32")
    ours = model.predict(images - np.float32(info.normalization.mean), verbose=0)
    theirs = network(1).predict(keras.applications.imagenet_utils.preprocess_input(images, mode="caffe"), verbose=0)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_other_classes_keep_a_new_classifier(tmp_path):
    path = tmp_path / "a.weights.h5"
    weights.save(network(1, classes=5), path)
    model = network(2)
    finetuning.initialize(model, *finetuning.find(str(path), "resnet20"), new_head=False)
    np.testing.assert_array_equal(model.get_weights()[0], network(1).get_weights()[0])
    np.testing.assert_array_equal(model.get_weights()[-2], network(2).get_weights()[-2])


@pytest.mark.parametrize("start", ["missing.weights.h5", "imagenet_of_tomorrow"])
def test_no_such_weights(start):
    with pytest.raises(ValueError, match=f"there is no file '{start}'"):
        finetuning.find(start, "resnet20")


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_a_slower_backbone(name):
    """One step at a tenth of the rate is a tenth of the step."""
    steps = {}
    for factor in (1.0, 0.1):
        kernel, head = compat.Variable([1.0, 2.0], name="kernel"), compat.Variable([1.0, 2.0], name="head")
        optimizer = optimizers.make(name, 0.5, slow=[kernel], slow_multiplier=factor)
        compat.built_variables(optimizer, [kernel, head])
        optimizer.apply_gradients((tf.constant([1.0, -2.0]), variable) for variable in (kernel, head))
        steps[factor] = kernel.numpy() - [1, 2], head.numpy() - [1, 2]
    np.testing.assert_allclose(steps[0.1][0], 0.1 * steps[1.0][0], rtol=1e-4)
    np.testing.assert_allclose(steps[0.1][1], steps[1.0][1], rtol=1e-6)


def test_backbone_is_all_but_the_classifier():
    model = network()
    rest = {compat.path(variable) for variable in model.trainable_variables}
    rest -= {compat.path(variable) for variable in finetuning.backbone_variables(model)}
    assert rest == {"predictions/kernel", "predictions/bias"}
