"""The loss against NumPy and Keras' own: ignored pixels, class weights, hard pixels, half precision, replicas."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax

from keras_resnet.errors import InputError
from keras_resnet.segmentation import losses, metrics
from keras_resnet.segmentation.losses import MeanIoU, PixelCrossEntropy

KERAS_3 = hasattr(keras, "ops")


@pytest.fixture
def batch(random):
    """Labels u8[3,5,4] of three classes, an eighth ignored in the first image and all in the last; and logits."""
    labels = random.integers(0, 3, (3, 5, 4)).astype("uint8")
    labels[0, :2, :2] = labels[2] = 255
    return labels, 3 * random.normal(size=(3, 5, 4, 3)).astype("float32")


def reference(labels, logits, weights=(1, 1, 1), fraction=1.0):
    """The loss by its definition, pixel by pixel."""
    total = denominator = 0.0
    for image, scores in zip(labels, logits, strict=True):
        image, scores = image.ravel(), log_softmax(scores.reshape(-1, 3).astype("float64"), -1)
        pixels = [(-scores[at, label], weights[label]) for at, label in enumerate(image) if label != 255]
        pixels.sort(reverse=True)
        for loss, weight in pixels[: round(fraction * len(pixels))]:
            total, denominator = total + weight * loss, denominator + weight
    return total / denominator


@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 1.0)])
@pytest.mark.parametrize("fraction", [1.0, 0.5, 0.25])
def test_equals_the_definition(batch, weights, fraction):
    labels, logits = batch
    loss = PixelCrossEntropy(class_weights=weights, hard_fraction=fraction)
    expected = reference(labels, logits, weights or (1, 1, 1), fraction)
    np.testing.assert_allclose(loss(labels, logits), expected, rtol=1e-5)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    np.testing.assert_allclose(again(labels.astype("int32"), logits), expected, rtol=1e-5)


@pytest.mark.skipif(not KERAS_3, reason="Keras 2 leaves ignored pixels in the denominator")
def test_equals_keras_where_keras_ignores_a_class(batch):
    labels, logits = batch
    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    np.testing.assert_allclose(PixelCrossEntropy()(labels, logits), theirs(labels, logits), rtol=1e-5)


def test_half_precision_is_computed_in_float32(batch):
    labels, logits = batch
    logits = tf.cast(logits, tf.bfloat16)
    loss = PixelCrossEntropy()(labels, logits)
    np.testing.assert_allclose(loss, reference(labels, tf.cast(logits, tf.float32).numpy()), rtol=1e-5)
    assert loss.dtype == tf.float32


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_gradients_are_zero_at_ignored_and_easy_pixels(batch, fraction):
    labels, logits = batch
    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        loss = PixelCrossEntropy(hard_fraction=fraction)(labels, variable)
    gradient = np.abs(np.asarray(tape.gradient(loss, variable))).sum(-1)
    assert not gradient[labels == 255].any()
    assert np.count_nonzero(gradient) == round(16 * fraction) + round(20 * fraction)


def test_a_batch_without_labeled_pixels(batch):
    labels, logits = batch
    variable = tf.Variable(logits)
    for fraction in (1.0, 0.5):
        with tf.GradientTape() as tape:
            loss = PixelCrossEntropy(hard_fraction=fraction)(np.full_like(labels, 255), variable)
        assert float(loss) == 0
        assert not np.asarray(tape.gradient(loss, variable)).any()


def test_unknown_sizes_give_the_same(batch):
    labels, logits = batch
    loss = PixelCrossEntropy(hard_fraction=0.3)
    specs = [tf.TensorSpec([None, None, None], tf.uint8), tf.TensorSpec([None, None, None, 3])]
    compiled = tf.function(lambda y_true, y_pred: loss(y_true, y_pred), input_signature=specs)
    np.testing.assert_allclose(compiled(labels, logits), reference(labels, logits, fraction=0.3), rtol=1e-5)


def test_replicas_compute_the_loss_of_one_device(batch, two_replicas):
    """The images of the two replicas have different numbers of labeled pixels."""
    labels, logits = batch[0][[0, 1, 1, 2]], batch[1][[0, 1, 2, 2]]
    start = np.float32([[0.3, -0.2, 0.1]])

    def trained(strategy):
        with strategy.scope():
            inputs = keras.Input((5, 4, 3))
            dense = keras.layers.Conv2D(3, 1, use_bias=False)
            model = keras.Model(inputs, dense(inputs))
            dense.set_weights([np.eye(3, dtype="float32")[None, None] + start])
            model.compile(keras.optimizers.SGD(1.0), PixelCrossEntropy(class_weights=(1, 2, 3)), jit_compile=False)
        data = tf.data.Dataset.from_tensor_slices((logits, labels)).batch(4)
        history = model.fit(data, epochs=2, verbose=0, shuffle=False).history["loss"]
        return history, dense.get_weights()[0]

    one_loss, one = trained(tf.distribute.get_strategy())
    two_loss, two = trained(two_replicas)
    np.testing.assert_allclose(two, one, atol=1e-6)
    assert np.abs(one - np.eye(3) - start).max() > 0.1
    np.testing.assert_allclose(two_loss, one_loss, rtol=1e-5)


def test_options_of_compile():
    assert set(losses.compile_options(class_weights=(1, 2))) == {"loss"}
    options = losses.compile_options(auxiliary=True, hard_fraction=0.5)
    assert options["loss_weights"] == {"logits": 1.0, "auxiliary": 0.5}
    assert {name: loss.hard_fraction for name, loss in options["loss"].items()} == {"logits": 0.5, "auxiliary": 0.5}


def test_median_frequency_weights_by_hand():
    """Frequencies 0.5, 0.25 and 0.1 have the median 0.25; the last class does not occur."""
    weights = losses.median_frequency_weights([50, 25, 5, 0], [100, 100, 50, 0])
    np.testing.assert_allclose(weights, [0.5, 1.0, 2.5, 1.0])
    assert losses.median_frequency_weights([0, 0], [0, 0]) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hard_fraction": 0}, r"hard_fraction must be in \(0, 1\]; got 0"),
        ({"class_weights": (1, -1)}, r"class_weights must be finite numbers of at least 0; got \[1, -1\]"),
    ],
)
def test_wrong_arguments(options, message, batch):
    with pytest.raises(InputError, match=message):
        PixelCrossEntropy(**options)
    with pytest.raises(InputError, match="class_weights must be 3 numbers, one for each class"):
        PixelCrossEntropy(class_weights=(1, 2))(*batch)


def test_labels_of_another_shape(batch):
    labels, logits = batch
    loss = PixelCrossEntropy()
    assert float(loss(labels[..., None], logits)) == float(loss(labels, logits))
    with pytest.raises(
        InputError, match=r"\[batch, 5, 4\]; got shape \[3, 5, 4, 3\]; argmax\(-1\) makes them of one-hot"
    ):
        loss(np.eye(3)[labels % 3], logits)
    with pytest.raises(InputError, match=r"of the size of the logits, \[batch, 5, 4\]; got shape \[3, 5, 2\]\."):
        loss(labels[:, :, ::2], logits)


def test_mean_iou_of_the_steps_so_far(batch):
    """Against the confusion matrix of all of them, with a class that occurs in neither."""
    labels, logits = batch
    logits = np.concatenate([logits, np.full_like(logits[..., :1], -99)], -1)
    metric = MeanIoU(4)
    for part in (slice(0, 1), slice(1, 3)):
        metric.update_state(labels[part].astype("int32"), logits[part])
    expected = 100 * metrics.mean_iou(metrics.confusion_matrix(labels, logits.argmax(-1), 4))
    assert float(metric.result()) == pytest.approx(expected, rel=1e-5)
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert again.get_config() == metric.get_config()
    metric.reset_state()
    assert float(metric.result()) == 0
