"""Exported localizers answer in TensorFlow's C API with the classes, scores and boxes of the networks."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.errors import InputError
from keras_resnet.localization import export
from keras_resnet.localization.classifiers import Ensemble
from keras_resnet.localization.run import LocalizerRun
from keras_resnet.serving import publish
from tests.serving import harness


class MeanColor:
    """A classifier by the mean color of an image."""

    dataset_info = types.SimpleNamespace(class_names=("square", "disc", "triangle"))

    def load(self, classifier_activation="softmax"):
        keras.utils.set_random_seed(3)
        image = keras.Input((None, None, 3))
        x = keras.layers.GlobalAveragePooling2D()(image)
        return keras.Model(image, keras.layers.Dense(3, activation="softmax")(x))

    def photo_transform(self):
        return types.SimpleNamespace(batch=lambda images: tf.cast(images, tf.float32) / 100 - 1)


@pytest.fixture(scope="module")
def photos():
    random = np.random.default_rng(0)
    coarse = [random.integers(0, 256, (5, 4 + number % 3, 3), np.uint8) for number in range(20)]
    return [image.repeat(13, 0).repeat(11, 1) for image in coarse]


def encoded(photos):
    return np.array([tf.io.encode_png(photo).numpy() for photo in photos], object)


@pytest.mark.parametrize("stage", [0, pytest.param(1, marks=pytest.mark.soak)])
def test_20_images_of_different_sizes(stage, trained_runs, photos, tmp_path):
    """With a classifier in stage 1; with all classes in stage 2."""
    run = LocalizerRun.open(trained_runs[stage])
    localizer, names = run.localizer("float32"), run.dataset_info.class_names
    classifier = MeanColor() if stage == 0 else None
    path = export.export(localizer, tmp_path / "out", names, classifier=classifier, top=2, max_pixels=100_000)
    publish.verify(path)
    served = harness.Model(path)
    assert set(served.signatures) == {"serving_default"}
    answers = served.run("serving_default", {"image_bytes": encoded(photos)})
    for number, photo in enumerate(photos):
        if stage == 0:
            classes, scores = (part[0] for part in Ensemble([MeanColor()], names).top([tf.constant(photo)], 2))
        else:
            classes, scores = np.arange(3), None
        boxes, box_scores = (part.numpy() for part in localizer(tf.constant(photo), tf.constant(classes, tf.int32)))
        assert [name.decode() for name in answers["classes"][number]] == [names[label] for label in classes]
        np.testing.assert_allclose(answers["scores"][number], box_scores if stage else scores, atol=1e-4)
        np.testing.assert_allclose(answers["box_scores"][number], box_scores, atol=1e-4)
        np.testing.assert_allclose(answers["boxes"][number], boxes, atol=0.01)
    with pytest.raises(harness.ServingError, match="pixels"):
        served.run("serving_default", {"image_bytes": encoded([np.zeros((400, 300, 3), np.uint8)])})


def test_mistakes(trained_runs, tmp_path):
    localizer = LocalizerRun.open(trained_runs[0]).localizer("float32")
    with pytest.raises(InputError, match="top must be at least 1"):
        export.export(localizer, tmp_path / "out", ("a", "b", "c"), top=0)
    with pytest.raises(InputError, match="is not one of them"):
        export.export(localizer, tmp_path / "out", ("a", "b", "c"), classifier=MeanColor())
    assert not (tmp_path / "out").exists()


def test_answers_that_differ_are_refused():
    answer = {"scores": np.ones((1, 2)), "box_scores": np.ones((1, 2)), "boxes": np.ones((1, 2, 4))}
    expected = {name: tf.constant(value[0]) for name, value in answer.items()}
    export._check(answer, expected)
    with pytest.raises(InputError, match=r"they differ by 0\.5"):
        export._check(answer, expected | {"scores": tf.constant([1.0, 1.5], tf.float64)})
