"""Ensembles and several scales: their simplest cases are a single network, and their parts are worked by hand."""

import numpy as np
import tensorflow as tf

from keras_resnet.detection import multi_scale
from tests.detection.scenes import assert_same, scenes, shown, tiny


def test_one_network_at_one_scale_is_the_ensembles_simplest_case(trained_detector):
    inputs = shown(scenes(2, 6))
    assert_same(trained_detector(inputs), multi_scale.detect([trained_detector], inputs), 1e-6)
    # Two equal networks propose the same regions, of which NMS keeps those of one network.
    assert_same(trained_detector(inputs), multi_scale.detect([trained_detector, trained_detector], inputs))


def test_an_ensemble_averages(trained_detector):
    inputs = shown(scenes(1, 6))
    model = tiny()
    model.set_weights(trained_detector.get_weights())
    kernel, bias, *rest = model.siblings.get_weights()
    model.siblings.set_weights([kernel, bias + np.float32([50, 0, 0]), *rest])
    averaged = multi_scale.detect([trained_detector, model], inputs)
    single = trained_detector(inputs)
    # The second network sees only background, so the mean is half of the first network's probability.
    count = int(single["count"][0])
    halves = np.asarray(single["scores"][0, :count]) / 2
    expected = np.where(halves < trained_detector.config.score_thresh, 0, halves)  # weaker ones are no detections
    np.testing.assert_allclose(averaged["scores"][0, :count], expected, atol=1e-3)


def test_several_scales(trained_detector):
    inputs = shown(scenes(1, 7))
    double = {"images": tf.image.resize(inputs["images"], (256, 256)), "image_size": inputs["image_size"] * 2}
    levels = {**inputs, "pyramid": (inputs, double)}
    # At equal scales the maximum changes nothing.
    for merge in ("before", "after"):
        assert_same(
            trained_detector(inputs),
            multi_scale.detect([trained_detector], {**inputs, "pyramid": (inputs, inputs)}, merge=merge),
        )
    result = multi_scale.detect([trained_detector], levels)
    assert result["count"][0] > 0
    assert np.abs(result["scores"] - trained_detector(inputs)["scores"]).max() > 1e-4


def test_the_two_scales_around_224_pixels_are_taken():
    sides = np.float32([20, 100, 224, 448, 1000])
    regions = tf.constant(np.stack([0 * sides, 0 * sides, sides, sides], -1)[None])
    factors = [tf.constant([[f, f]]) for f in (1 / 3, 2 / 3, 1.0, 4 / 3, 5 / 3)]
    assert multi_scale.lower_level(regions, factors).numpy().tolist() == [[3, 3, 2, 0, 0]]
