"""Rounding and its gradients against the formulas in NumPy."""

import numpy as np
import pytest

from keras_resnet.quantization import rounding

tf = pytest.importorskip("tensorflow")


def reference(values, scale, limits, upstream):
    """Outputs, gradient of the values and gradient of the scale: equations 1 to 3 of Esser et al. (2020)."""
    ratio = values.astype("float64") / scale
    outputs = scale * np.clip(np.rint(ratio), *limits)
    inside = (ratio >= limits[0]) & (ratio <= limits[1])
    of_scale = np.where(inside, np.rint(ratio) - ratio, np.clip(ratio, *limits))
    return outputs, upstream * inside, upstream * of_scale


@pytest.mark.parametrize("limits", [(-128, 127), (0, 255), (-7, 7)])
def test_values_and_gradients(limits, random):
    values = random.normal(size=(4, 5, 6)).astype("float32")
    upstream = random.normal(size=values.shape).astype("float32")
    scale = np.float32(1.5 / limits[1])
    outputs, of_values, of_scale = reference(values, scale, limits, upstream)
    with tf.GradientTape() as tape:
        inputs, variable = tf.constant(values), tf.constant(scale)
        tape.watch((inputs, variable))
        result = rounding.fake_quantize(inputs, variable, limits)
    gradients = tape.gradient(result, (inputs, variable), upstream)
    np.testing.assert_allclose(result, outputs, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradients[0], of_values, atol=1e-6)
    np.testing.assert_allclose(gradients[1], of_scale.sum(), rtol=1e-3, atol=1e-4)


def test_a_scale_for_each_channel(random):
    values = random.normal(size=(3, 3, 2, 4)).astype("float32")
    upstream = random.normal(size=values.shape).astype("float32")
    scales = np.float32([0.01, 0.02, 0.005, 0.1])
    outputs, _, of_scale = reference(values, scales, (-127, 127), upstream)
    with tf.GradientTape() as tape:
        variable = tf.constant(scales)
        tape.watch(variable)
        result = rounding.fake_quantize(tf.constant(values), variable, (-127, 127))
    np.testing.assert_allclose(result, outputs, rtol=1e-5, atol=1e-6)
    gradient = tape.gradient(result, variable, upstream)
    np.testing.assert_allclose(gradient, of_scale.sum((0, 1, 2)), rtol=1e-3, atol=1e-3)


def test_the_best_scales(random):
    # Without outliers nearly the whole range is used; one outlier among 4 bits is clipped.
    even = random.uniform(-1, 1, 4000)
    spiked = np.append(random.normal(size=3999), 40.0)
    first, second = rounding.best_scales(np.stack([even, spiked], 1), (-7, 7))
    assert 0.9 < 7 * first < 1.05
    assert 7 * second < 10
    # No other scale of a fine grid is better by more than the grid of candidates allows.
    errors = [np.mean((even - s * np.clip(np.rint(even / s), -7, 7)) ** 2) for s in np.linspace(0.05, 0.2, 301)]
    chosen = np.mean((even - first * np.clip(np.rint(even / first), -7, 7)) ** 2)
    assert chosen <= 1.02 * min(errors)


def test_zeros_have_a_scale_above_zero():
    assert rounding.best_scales(np.zeros((10, 2)), (-127, 127)).min() > 0


def test_limits():
    assert rounding.weight_limits(8) == (-127, 127)
    assert rounding.weight_limits(4) == (-7, 7)
    assert rounding.activation_limits(True) == (-128, 127)
    assert rounding.activation_limits(False) == (0, 255)
