"""Probabilities at the images' own size, at several scales, mirrored and by windows."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.errors import InputError
from keras_resnet.segmentation import inference
from tests.segmentation.nets import tiny


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


@pytest.fixture(scope="module")
def model():
    return tiny("deeplabv3", auxiliary=True)


@pytest.fixture
def images(random):
    return random.normal(size=(3, 40, 56, 3)).astype("float32")


def logits_of(model, images):
    return np.asarray(model(images, training=False)["logits"])


def test_one_scale_is_the_softmax_of_the_logits(model, images):
    np.testing.assert_allclose(inference.predictor(model)(images), softmax(logits_of(model, images)), atol=1e-6)


def test_batches_do_not_matter(model, images):
    predict = inference.predictor(model, scales=(0.75, 1.0), mirror=True)
    one_by_one = np.concatenate([predict(image[None]) for image in images])
    np.testing.assert_allclose(predict(images), one_by_one, atol=1e-6)


def test_several_scales_and_mirrored_by_the_definition(model, images):
    expected = []
    for size in ((40, 56), (50, 70)):
        scaled = tf.image.resize(images, size).numpy()
        for step in (1, -1):
            logits = logits_of(model, scaled[:, :, ::step])[:, :, ::step]
            expected.append(softmax(tf.image.resize(logits, (40, 56)).numpy()))
    found = inference.predictor(model, scales=(1.0, 1.25), mirror=True)(images)
    np.testing.assert_allclose(found, np.mean(expected, 0), atol=1e-5)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)


def test_mirrored_images_have_mirrored_probabilities(model, images):
    predict = inference.predictor(model, mirror=True)
    np.testing.assert_allclose(predict(images[:, :, ::-1]), predict(images)[:, :, ::-1], atol=1e-5)


def test_windows_by_the_definition(model, images):
    """Two windows of 40 columns begin at 0 and 16, and overlap by 24."""
    assert inference.window_starts(56, 40) == [0, 16]
    left, right = (logits_of(model, images[:, :, start : start + 40]) for start in (0, 16))
    expected = np.concatenate([left[:, :, :16], (left[:, :, 16:] + right[:, :, :24]) / 2, right[:, :, 24:]], 2)
    found = inference.predictor(model, window=(40, 40))(images)
    np.testing.assert_allclose(found, softmax(expected), atol=1e-5)


def test_images_smaller_than_a_window_are_whole(model, images):
    whole = inference.predictor(model)(images)
    np.testing.assert_array_equal(inference.predictor(model, window=(64, 64))(images), whole)


@pytest.mark.parametrize(("side", "window"), [(100, 40), (41, 40), (2048, 769), (40, 40), (7, 40)])
def test_windows_cover_every_pixel(side, window):
    starts = inference.window_starts(side, window)
    assert starts[0] == 0
    assert starts[-1] == max(side - window, 0)
    assert all(0 < after - before <= 2 * window / 3 for before, after in itertools.pairwise(starts))


def test_two_replicas_give_the_same(two_replicas, images):
    one = inference.predictor(tiny())(images)
    with two_replicas.scope():
        model = tiny()
    np.testing.assert_allclose(inference.predictor(model, strategy=two_replicas)(images), one, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": ()}, r"scales must be one or more positive numbers; got \[\]"),
        ({"scales": (1.0, 0.0)}, r"scales must be one or more positive numbers; got \[1.0, 0.0\]"),
        ({"window": (40,)}, r"window must be a height and a width of at least 32 pixels; got \[40\]"),
        ({"window": (40, 8)}, r"window must be a height and a width of at least 32 pixels; got \[40, 8\]"),
    ],
)
def test_wrong_arguments(model, options, message):
    with pytest.raises(InputError, match=message):
        inference.predictor(model, **options)
