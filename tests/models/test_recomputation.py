"""Networks that recompute their blocks in training, compared with networks that do not."""

import collections

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from keras_resnet.models import weights
from keras_resnet.models.recomputation import RecomputingModel, group_size

OPTIONS = {
    "A": {"block": "basic", "shortcut": "A"},
    "plain": {"block": "basic", "shortcut": None},
    "bottleneck": {"block": "bottleneck", "shortcut": "B"},
    "half": {"block": "bottleneck", "shortcut": "C", "dtype": "mixed_bfloat16"},
    "photos": {"stem": "imagenet", "block": "basic", "shortcut": "B", "input_shape": (32, 32, 3)},
}


def network(recompute=True, stages=((16, 2, 1), (32, 1, 2)), **options):
    keras.utils.set_random_seed(0)
    options = {"stem": "cifar", "block": "basic", "input_shape": (16, 16, 3), "classes": 4, **options}
    return keras_resnet.ResNet(stages, recompute=recompute, **options)


def example(model, random):
    """Return images and labels for a network."""
    side = model.input_shape[1] or 16
    return tf.constant(random.normal(size=(8, side, side, 3)), tf.float32), tf.constant(np.arange(8) % 4)


def gradients(model, images, labels):
    """Return the loss and gradients of one batch."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, model(images, training=True)))
    return [loss, *tape.gradient(loss, [variable.value for variable in model.trainable_variables])]


@pytest.mark.parametrize(
    ("name", "graph"),
    [("A", False), ("half", False), *((name, True) for name in OPTIONS)],
    ids=lambda value: {False: "eager", True: "graph"}.get(value, value),
)
def test_gradients_and_statistics_are_the_same(name, graph, random):
    options = OPTIONS[name]
    results = []
    images, labels = example(network(**options), random)
    for recompute in (False, True):
        model = network(recompute, **options)
        assert isinstance(model, RecomputingModel) == recompute
        step = tf.function(gradients) if graph else gradients
        found = [np.asarray(value) for value in step(model, images, labels)]
        results.append(found + [variable.numpy() for variable in model.non_trainable_variables])
    for ours, plain in zip(*results, strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-6 * max(1.0, np.abs(plain).max()))


def trained(model, random, **options):
    """Train a network for three steps and return its weights."""
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy", **options)
    images, labels = example(model, random)
    for _ in range(3):
        model.train_on_batch(images, labels)
    return model.get_weights()


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}], ids=["graph", "XLA"])
def test_training_ends_with_the_same_weights(options):
    plain = trained(network(False), np.random.default_rng(0), jit_compile=False)
    ours = trained(network(), np.random.default_rng(0), **{"jit_compile": False, **options})
    for a, b in zip(ours, plain, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6 if not options else 1e-4)


def test_frozen_layers_do_not_change(random):
    results = []
    for recompute in (False, True):
        model = network(recompute)
        for layer in model.layers:
            if layer.name.startswith(("conv1_", "conv2_block1_")) or layer.name == "conv3_block1_1_bn":
                layer.trainable = False
        before = model.get_layer("conv2_block1_1_bn").get_weights()
        results.append(trained(model, np.random.default_rng(0)))
        for old, new in zip(before, model.get_layer("conv2_block1_1_bn").get_weights(), strict=True):
            np.testing.assert_array_equal(new, old)
    for ours, plain in zip(*reversed(results), strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-6)


def test_the_insides_of_blocks_are_computed_twice():
    """Counting operations shows what is recomputed, and so what is not kept in memory."""
    counts = []
    for recompute in (False, True):
        model = network(recompute)
        specs = [tf.TensorSpec((8, 16, 16, 3)), tf.TensorSpec((8,), tf.int64)]
        step = tf.function(lambda images, labels, model=model: gradients(model, images, labels))
        graph = step.get_concrete_function(*specs).graph
        counts.append(collections.Counter(operation.type for operation in graph.get_operations()))
    plain, ours = counts
    assert plain["Conv2D"] == 8
    assert ours["Conv2D"] == 1 + 2 * 7
    assert ours["Conv2DBackpropFilter"] == plain["Conv2DBackpropFilter"]
    assert ours["AssignVariableOp"] == plain["AssignVariableOp"] == 2 * 8


def test_names_files_and_checkpoints_are_interchangeable(tmp_path, random):
    plain, ours = network(False), network()
    assert [layer.name for layer in ours.layers] == [layer.name for layer in plain.layers]
    assert [v.path for v in ours.variables] == [v.path for v in plain.variables]
    images, _ = example(ours, random)
    trained(plain, random)
    expected = plain.predict_on_batch(images)

    weights.save(plain, tmp_path / "plain.weights.h5")
    weights.load(ours, tmp_path / "plain.weights.h5")
    np.testing.assert_array_equal(ours.predict_on_batch(images), expected)

    trained(ours, random)
    for source, target in ((plain, ours), (ours, plain)):
        path = tf.train.Checkpoint(model=source).save(str(tmp_path / source.__class__.__name__))
        tf.train.Checkpoint(model=target).restore(path).assert_existing_objects_matched()
        for a, b in zip(source.get_weights(), target.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_saved_model_continues_training(tmp_path):
    model = network()
    trained(model, np.random.default_rng(0))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again, RecomputingModel)
    images, labels = example(model, np.random.default_rng(0))
    for network_to_train in (model, again):
        network_to_train.train_on_batch(images, labels)
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_random_layers_before_the_network_run_once(random):
    """Recomputed, they would return other pixels, and the gradients would be wrong."""
    results = []
    for recompute in (False, True):
        keras.utils.set_random_seed(0)
        images = keras.Input((16, 16, 3))
        noisy = keras.layers.GaussianNoise(1.0, seed=1)(images)
        model = network(recompute, input_tensor=noisy, input_shape=None)
        results.append(gradients(model, *example(model, np.random.default_rng(0))))
    for ours, plain in zip(*reversed(results), strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-6)


def test_replicas(two_replicas):
    """Two replicas with the same images have the weights of networks that do not recompute."""
    results = []
    for recompute in (False, True):
        with two_replicas.scope():
            model = network(recompute)
            model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", jit_compile=False)
        images, labels = example(model, np.random.default_rng(0))
        model.fit(tf.data.Dataset.from_tensors((images, labels)).repeat(2), shuffle=False, verbose=0)
        results.append(model.get_weights())
    for ours, plain in zip(*reversed(results), strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-6)


def test_groups_grow_with_the_square_root_of_the_depth():
    assert [group_size(blocks) for blocks in (1, 9, 16, 54, 600)] == [1, 1, 1, 3, 9]
    model = network(stages=[(16, 30, 1)])
    front, groups, head = model._parts
    assert [layer.name for layer in front.layers] == ["inputs", "conv1_conv", "conv1_bn", "conv1_relu"]
    assert [len(group.parts) for group in groups] == [14] * 15
    assert [layer.name for layer in head] == ["avg_pool", "predictions"]
