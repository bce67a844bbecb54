"""The update rule against NumPy."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import compat
from keras_resnet.training import optimizers
from keras_resnet.training.optimizers import SGD


def test_twenty_steps_of_the_paper_rule(random):
    """v = momentum * v - rate * (gradient + l2 * w); w = w + v, with the rate divided by ten at step 10."""
    start = random.normal(size=(7, 3)).astype("float32")
    gradients = random.normal(size=(20, 7, 3)).astype("float32")
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([9], [0.1, 0.01])
    optimizer = SGD(schedule, momentum=0.9, l2=1e-2)
    variable = compat.Variable(start)
    compat.built_variables(optimizer, [variable])
    w, v = start.astype("float64"), 0.0
    for step, gradient in enumerate(gradients):
        optimizer.apply_gradients([(tf.constant(gradient), variable)])
        v = 0.9 * v - (0.1 if step < 10 else 0.01) * (gradient + 1e-2 * w)
        w = w + v
        np.testing.assert_allclose(variable.numpy(), w, atol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("how", ["eager", "graph", "XLA"])
def test_equals_the_rule_of_keras(nesterov, how, random):
    """Without decay the rule is that of `keras.optimizers.SGD`, which TensorFlow computes in several operations."""
    start, gradients = random.normal(size=(7, 3)), random.normal(size=(5, 7, 3)).astype("float32")
    results = []
    for kind in (SGD, keras.optimizers.SGD):
        variable = keras.Variable(start, dtype="float32")
        optimizer = kind(0.1, momentum=0.9, nesterov=nesterov)
        optimizer.build([variable])
        step = optimizer.apply if how == "eager" else tf.function(optimizer.apply, jit_compile=how == "XLA")
        for gradient in gradients:
            step([tf.constant(gradient)])
        results.append([variable.numpy(), *(value.numpy() for value in optimizer.variables)])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def test_replicas_apply_the_sum_of_their_gradients(two_replicas, random):
    inputs, targets = random.normal(size=(12, 5)).astype("float32"), random.normal(size=(12, 2)).astype("float32")
    results = []
    for kind, strategy in ((SGD, two_replicas), (keras.optimizers.SGD, None)):
        with strategy.scope() if strategy else contextlib.nullcontext():
            model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(2, kernel_initializer="ones")])
            model.compile(kind(0.1, momentum=0.9), "mse", jit_compile=False)
        model.fit(inputs, targets, batch_size=4, epochs=2, shuffle=False, verbose=0)
        results.append(model.get_weights())
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_config_round_trip():
    optimizer = SGD(0.3, momentum=0.8, l2=1e-3)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is SGD
    assert again.get_config() == optimizer.get_config()


def one_step(name, **options):
    """Change of a kernel and a gamma of value 1 with gradient 0 after one step at rate 1: what decay alone does."""
    kernel, gamma = compat.Variable([1.0], name="kernel"), compat.Variable([1.0], name="gamma")
    optimizer = optimizers.make(name, 1.0, weight_decay=0.25, **options)
    compat.built_variables(optimizer, [kernel, gamma])
    optimizer.apply_gradients([(tf.zeros(1), kernel), (tf.zeros(1), gamma)])
    return float(kernel[0]) - 1, float(gamma[0]) - 1


@pytest.mark.parametrize("name", ["sgd", "sgdw", "adamw"])
def test_which_variables_decay(name):
    np.testing.assert_allclose(one_step(name), (-0.25, -0.25), atol=1e-6)
    np.testing.assert_allclose(one_step(name, decay_norm=False), (-0.25, 0), atol=1e-6)


def test_clipping_is_over_all_gradients():
    """By hand: the gradients 3 and 4 have the norm 5; clipped to 1 they are 0.6 and 0.8."""
    variables = [compat.Variable([0.0]), compat.Variable([0.0])]
    optimizer = optimizers.make("sgd", 1.0, momentum=0.0, clip_norm=1.0)
    compat.built_variables(optimizer, variables)
    optimizer.apply_gradients(zip([tf.constant([3.0]), tf.constant([4.0])], variables, strict=True))
    np.testing.assert_allclose([float(v[0]) for v in variables], [-0.6, -0.8], atol=1e-6)


def test_an_overflow_in_float16_counts_as_a_step():
    """The schedule and the position in the data count all batches; Keras' own loss scaling leaves this one out."""
    variable = compat.Variable([1.0])
    optimizer = optimizers.make("sgd", 0.5, momentum=0.0, loss_scale=True)
    optimizer.initial_scale = 8.0
    compat.built_variables(optimizer, [variable])
    optimizer.apply_gradients([(tf.constant([float("inf")]), variable)])
    assert (int(optimizer.iterations), float(variable[0]), float(optimizer.dynamic_scale)) == (1, 1.0, 4.0)
    optimizer.apply_gradients([(tf.constant([4.0]), variable)])
    assert (int(optimizer.iterations), float(variable[0])) == (2, 0.5)


def test_accumulated_gradients_are_averaged():
    """By hand: gradients 1 and 3 make one step with 2; the rate's schedule counts steps, not batches."""
    variable = compat.Variable([0.0])
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [1.0, 0.1])
    optimizer = optimizers.make("sgd", schedule, momentum=0.0, accumulate=2)
    compat.built_variables(optimizer, [variable])
    seen = []
    for gradient in (1.0, 3.0, 5.0, 5.0):
        optimizer.apply_gradients([(tf.constant([gradient]), variable)])
        seen.append((int(optimizer.iterations), round(float(variable[0]), 5)))
    assert seen == [(0, 0.0), (1, -2.0), (1, -2.0), (2, -2.5)]


def test_micro_batches_that_overflow_in_float16():
    """Rate 1, two micro-batches a step: an overflow in the first halves the step; in the second it skips the step."""
    variable = compat.Variable([0.0])
    optimizer = optimizers.make("sgd", 1.0, momentum=0.0, loss_scale=True, accumulate=2)
    optimizer.initial_scale = 1.0
    compat.built_variables(optimizer, [variable])
    seen = []
    for gradient in (float("inf"), 4.0, 8.0, float("inf"), 1.0, 3.0):
        scale = float(optimizer.dynamic_scale)
        optimizer.apply_gradients([(tf.constant([gradient * scale]), variable)])
        seen.append((int(optimizer.iterations), float(variable[0])))
    assert seen == [(0, 0.0), (1, -2.0), (1, -2.0), (2, -2.0), (2, -2.0), (3, -4.0)]


def test_accumulation_without_merging_replicas():
    """As XLA on GPUs runs it: the branches are inside the replica, of which there is one here."""
    variable = compat.Variable([0.0])
    kind = optimizers._extended(SGD, optimizers._AccumulateOnReplicas)
    optimizer = kind(1.0, momentum=0.0, gradient_accumulation_steps=2)
    compat.built_variables(optimizer, [variable])
    step = tf.function(lambda gradient: optimizer.apply([gradient], [variable]), jit_compile=True)
    seen = []
    for gradient in (1.0, 3.0, 5.0, 5.0):
        step(tf.constant([gradient]))
        seen.append((int(optimizer.iterations), float(variable[0])))
    assert seen == [(0, 0.0), (1, -2.0), (1, -2.0), (2, -7.0)]


def test_unknown_optimizer():
    with pytest.raises(ValueError, match=r"optimizer must be one of 'sgd', .* or 'tfa:CLASS'; got 'adam'"):
        optimizers.make("adam", 0.1)


def by_hand(name, w, gradients, rate, decay):
    """Steps of decoupled decay in NumPy: the decay and then the rule of the paper."""
    w, m, v = w.astype("float64"), 0.0, 0.0
    for step, gradient in enumerate(gradients, 1):
        w = w - rate(step - 1) * decay * w
        if name == "sgdw":
            m = 0.9 * m - rate(step - 1) * gradient
            w = w + m
            continue
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        if name == "adamw":
            factor = np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            w = w - rate(step - 1) * factor * m / (np.sqrt(v) + 1e-7)
        else:
            update = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-7)
            w = w - rate(step - 1) * np.linalg.norm(w) / np.linalg.norm(update) * update
    return w


@pytest.mark.parametrize("name", ["sgdw", "adamw", "lamb"])
@pytest.mark.parametrize("decay_norm", [True, False])
def test_ten_steps_by_hand(name, decay_norm, random):
    """The same on both stacks, with a rate that falls and, of two variables, one that may not decay."""
    starts = random.normal(size=(2, 7, 3)).astype("float32")
    gradients = random.normal(size=(10, 2, 7, 3)).astype("float32")
    kernel, gamma = (compat.Variable(start, name=name) for start, name in zip(starts, ("kernel", "gamma"), strict=True))
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([4], [0.1, 0.01])
    optimizer = optimizers.make(name, schedule, weight_decay=0.1, decay_norm=decay_norm)
    for both in gradients:
        optimizer.apply_gradients([(tf.constant(both[0]), kernel), (tf.constant(both[1]), gamma)])
    for variable, number, decays in ((kernel, 0, True), (gamma, 1, decay_norm)):
        expected = by_hand(
            name, starts[number], gradients[:, number], lambda step: 0.1 if step < 5 else 0.01, 0.1 * decays
        )
        np.testing.assert_allclose(variable.numpy(), expected, atol=5e-6)


@pytest.mark.parametrize("name", ["novograd", "lookahead_sgd", "tfa:Yogi"])
def test_what_needs_addons_says_so(name, monkeypatch):
    monkeypatch.setattr(compat, "has_addons", lambda: False)
    with pytest.raises(
        ValueError, match=rf"optimizer={name} requires tensorflow-addons: pip install 'keras-resnet-zoo"
    ):
        optimizers.make(name, 0.1)
