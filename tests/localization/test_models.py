"""The networks of both stages: outputs of the classes asked for, and their losses, against plain layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.detection import anchors
from keras_resnet.errors import InputError
from keras_resnet.localization.models import RCNN, PerClassDense, PerClassRPN
from keras_resnet.models import resnet, weights
from keras_resnet.ops import boxes as box_ops
from tests.localization.nets import TINY

random = np.random.default_rng(0)


@pytest.fixture(scope="module")
def rpn():
    keras.utils.set_random_seed(0)
    return PerClassRPN(TINY, 6, filters=8, anchor_scales=(16.0, 32.0), anchor_ratios=(0.5, 1.0))


@pytest.fixture(scope="module")
def rcnn():
    keras.utils.set_random_seed(1)
    return RCNN(TINY, 6)


def test_only_the_classes_asked_for_are_computed_and_equal_the_whole_layer():
    layer = PerClassDense(7, 3, stddev=1.0)
    layer.build((None, None, 5))
    layer.bias.assign(random.normal(size=(7, 3)))
    features, classes = random.normal(size=(2, 4, 5)).astype("float32"), np.array([[6, 0, 6], [1, 2, 5]])
    kernel = layer.kernel.numpy()
    whole = np.einsum("bpc,kcf->bkpf", features, kernel) + layer.bias.numpy()[None, :, None]
    expected = np.stack([whole[row, classes[row]] for row in range(2)])
    np.testing.assert_allclose(layer(features, classes), expected, atol=1e-5)


def test_the_gradient_is_dense_and_that_of_the_whole_layer():
    layer = PerClassDense(4, 2, stddev=1.0)
    layer.build((None, None, 3))
    features, classes = tf.constant(random.normal(size=(3, 2, 3)), tf.float32), tf.constant([[2], [0], [2]])
    target = tf.constant(random.normal(size=(3, 1, 2, 2)), tf.float32)
    kernel = tf.Variable(layer.kernel.numpy())
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(target * layer(features, classes))
    ours = tape.gradient(loss, layer.trainable_variables)
    with tf.GradientTape() as tape:
        whole = tf.einsum("bpc,kcf->bkpf", features, kernel)
        loss = tf.reduce_sum(target * tf.gather(whole, classes, batch_dims=1))
    assert all(isinstance(gradient, tf.Tensor) for gradient in ours)
    np.testing.assert_allclose(ours[0], tf.convert_to_tensor(tape.gradient(loss, kernel)), atol=1e-5)
    np.testing.assert_array_equal(ours[0][1], 0)


def test_the_rpn_is_fully_convolutional_with_anchors_on_the_grid(rpn):
    """Zero deltas give the anchors; 4 anchors at each position of a 3x2 map."""
    kernel, bias = (np.zeros_like(value) for value in rpn.reg.get_weights())
    before = rpn.reg.get_weights()
    rpn.reg.set_weights([kernel, bias])
    logits, boxes = rpn.localize(tf.zeros([1, 70, 64, 3]), tf.constant([[1, 4, 5]]))
    rpn.reg.set_weights(before)
    assert (logits.shape, boxes.shape) == ((1, 3, 3 * 2 * 4), (1, 3, 24, 4))
    expected = anchors.grid_anchors(3, 2, 32, anchors.cell_anchors((16.0, 32.0), (0.5, 1.0)))
    for number in range(3):
        np.testing.assert_allclose(boxes[0, number], expected, atol=1e-4)


def test_the_losses_of_stage_one_are_those_of_eight_anchors_one_to_one(rpn):
    """Against NumPy, from the outputs of the true class and the definition of the anchors to sample."""
    images = tf.constant(random.normal(size=(2, 64, 64, 3)), tf.float32)
    boxes = np.array([[[0, 0, 34, 30], [0, 0, 0, 0]], [[20, 24, 60, 62], [0, 0, 0, 0]]], "float32")
    inputs = {"images": images, "labels": tf.constant([3, 0]), "boxes": boxes, "seed": tf.constant([[1, 2], [3, 4]])}
    losses = rpn(inputs, training=True)
    assert list(map(float, rpn.losses)) == [float(losses["class_loss"]), float(losses["box_loss"])]

    trunk = tf.cast(rpn.conv(rpn.trunk(images, training=True)), tf.float32)
    features = tf.reshape(trunk, [2, 4, 8])
    logits = rpn.cls(features, tf.constant([[3], [0]])).numpy().reshape(2, 16)
    deltas = rpn.reg(features, tf.constant([[3], [0]])).numpy().reshape(2, 16, 4)
    grid = anchors.grid_anchors(2, 2, 32, rpn.cell_anchors)
    class_losses, box_losses = [], []
    for row in range(2):
        iou = box_ops.iou(grid, boxes[row, :1]).numpy()[:, 0]
        positive = (iou >= 0.7) | (iou == iou.max())
        negative = ~positive & (iou < 0.3)
        assert positive.sum() <= 4
        # More negative anchors than are sampled have nearly the same mean as these.
        negative_loss = np.log1p(np.exp(logits[row][negative])).mean()
        positive_loss = np.log1p(np.exp(-logits[row][positive])).mean()
        class_losses.append((positive_loss + negative_loss) / 2)
        error = np.abs(deltas[row] - box_ops.encode(boxes[row, :1], grid).numpy())[positive]
        box_losses.append(np.where(error < 1 / 9, 4.5 * error**2, error - 1 / 18).sum(-1).mean())
    assert float(losses["class_loss"]) == pytest.approx(np.mean(class_losses), abs=0.01)
    assert float(losses["box_loss"]) == pytest.approx(np.mean(box_losses), rel=1e-3)


def test_the_losses_of_stage_two(rcnn):
    crops = tf.constant(random.normal(size=(3, 64, 64, 3)), tf.float32)
    proposals = np.array([[0, 0, 40, 40], [10, 10, 30, 60], [5, 5, 25, 25]], "float32")
    boxes = np.array([[4, 2, 44, 38], [10, 12, 33, 60], [70, 70, 90, 90]], "float32")
    labels, positive = tf.constant([5, 0, 2]), np.array([1, 1, 0])
    inputs = {"images": crops, "labels": labels, "proposals": proposals, "boxes": boxes, "positive": positive}
    losses = rcnn(inputs, training=True)
    vectors = tf.reduce_mean(rcnn.trunk(crops, training=True), [1, 2]).numpy()
    kernel, bias = rcnn.cls.get_weights()
    logits = np.array([vectors[row] @ kernel[label, :, 0] + bias[label, 0] for row, label in enumerate((5, 0, 2))])
    expected = np.mean([np.log1p(np.exp(-logits[0])), np.log1p(np.exp(-logits[1])), np.log1p(np.exp(logits[2]))])
    assert float(losses["class_loss"]) == pytest.approx(expected, abs=1e-4)
    kernel, bias = rcnn.reg.get_weights()
    deltas = np.array([vectors[row] @ kernel[label] + bias[label] for row, label in enumerate((5, 0, 2))])
    error = np.abs(deltas - box_ops.encode(boxes, proposals, (10.0, 10.0, 5.0, 5.0)).numpy())[:2]
    expected = np.where(error < 1, 0.5 * error**2, error - 0.5).sum() / 3
    assert float(losses["box_loss"]) == pytest.approx(expected, rel=1e-3)


def test_a_proposal_keeps_its_place_without_deltas(rcnn):
    before = rcnn.reg.get_weights()
    rcnn.reg.set_weights([np.zeros_like(value) for value in before])
    proposals = tf.constant([[3.0, 5.0, 40.0, 60.0], [0.0, 0.0, 8.0, 8.0]])
    logits, boxes = rcnn.localize(tf.zeros([2, 64, 64, 3]), proposals, tf.constant([[0, 3], [1, 1]]))
    rcnn.reg.set_weights(before)
    assert logits.shape == (2, 2)
    np.testing.assert_allclose(boxes, np.repeat(proposals.numpy()[:, None], 2, 1), atol=1e-4)


def test_frozen_layers_and_weights_of_a_classifier(rpn, tmp_path):
    classifier = resnet.ResNet(TINY.stages, block=TINY.block, classes=3)
    model = PerClassRPN(TINY, 2, filters=4, freeze_stages=2, freeze_norm=True)
    model.load_backbone(classifier)
    for layer in model.trunk.layers:
        for ours, theirs in zip(layer.get_weights(), classifier.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    trained = {variable.path for variable in model.trainable_variables}
    assert not any("_bn" in name or "conv1_" in name or "conv2_" in name for name in trained)
    assert any("conv3_" in name for name in trained)
    assert len(model.cls.trainable_variables) == 2
    with pytest.raises(InputError, match="has no layer 'conv1_conv' of the same shape"):
        model.load_backbone(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="other"))

    weights.save(rpn, tmp_path / "m.weights.h5")
    other = PerClassRPN(TINY, 6, filters=8, anchor_scales=(16.0, 32.0), anchor_ratios=(0.5, 1.0))
    weights.load(other, tmp_path / "m.weights.h5")
    for ours, theirs in zip(other.get_weights(), rpn.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_backbone_must_be_an_imagenet_network():
    with pytest.raises(InputError, match="backbone must be one of"):
        RCNN("resnet20", 3)
    with pytest.raises(InputError, match="classes must be"):
        RCNN(TINY, 0)
