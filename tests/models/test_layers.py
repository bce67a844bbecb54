"""The layers, with batch norm compared with Keras' layer."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from keras_resnet import compat
from keras_resnet.models import weights
from keras_resnet.models.layers import (
    BatchNormalization,
    DilatedConv2D,
    IdentityShortcut,
    PointwiseConv2D,
    ReLU,
    ResizeLike,
    stochastic_depth,
)

TOLERANCE = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1e-2}


def pair(random, dtype="float32", channels=5, **options):
    """This package's layer and Keras' with the same weights."""
    layers = [
        kind(momentum=0.8, epsilon=1e-5, dtype=f"mixed_{dtype}" if dtype != "float32" else dtype, **options)
        for kind in (BatchNormalization, keras.layers.BatchNormalization)
    ]
    gamma, beta, mean = random.normal(size=(3, channels))
    for layer in layers:
        layer.build((None, None, None, channels))
        layer.set_weights([gamma, beta, mean, np.abs(gamma) + 0.5])
    return layers


def run(layer, x, upstream, training):
    """Call a layer in a graph and return its output, gradients of input, gamma and beta, and moving statistics."""

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training)
            loss = tf.reduce_sum(tf.cast(y, tf.float32) * upstream)
        return y, *tape.gradient(loss, [x, *map(compat.tf_variable, (layer.gamma, layer.beta))])

    outputs = [np.asarray(tf.cast(value, tf.float32)) for value in step(x)]
    return [*outputs, layer.moving_mean.numpy(), layer.moving_variance.numpy()]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("trainable", [True, False])
def test_equals_keras(dtype, training, trainable, random):
    ours, theirs = pair(random, dtype)
    ours.trainable = theirs.trainable = trainable
    x = tf.cast(random.normal(3, 2, size=(4, 6, 7, 5)), dtype)
    upstream = random.normal(size=(4, 6, 7, 5)).astype("float32")
    names = ("output", "input gradient", "gamma gradient", "beta gradient", "moving mean", "moving variance")
    before = theirs.moving_variance.numpy()
    expected = run(theirs, x, upstream, training)
    if training and trainable and not hasattr(keras, "ops"):
        # Keras 2 stores the unbiased variance of the batch, this package always the biased one, as Keras 3.
        expected[-1] = 0.8 * before + (expected[-1] - 0.8 * before) * (4 * 6 * 7 - 1) / (4 * 6 * 7)
    for name, a, b in zip(names, run(ours, x, upstream, training), expected, strict=True):
        scale = max(1.0, np.abs(b).max())
        np.testing.assert_allclose(a / scale, b / scale, atol=TOLERANCE[dtype], err_msg=name)


def test_output_keeps_half_precision(random):
    ours, theirs = pair(random, "bfloat16")
    x = tf.zeros((1, 2, 2, 5), tf.bfloat16)
    assert ours(x).dtype == theirs(x).dtype == tf.bfloat16


def test_moving_variance_is_the_biased_one(random):
    """By hand: two values 1 and 3 have the biased variance 1; the unbiased one is 2."""
    layer = BatchNormalization(momentum=0.0)
    layer(tf.reshape([1.0, 3.0], (2, 1, 1, 1)), training=True)
    np.testing.assert_allclose(layer.moving_mean, [2.0])
    np.testing.assert_allclose(layer.moving_variance, [1.0])


def test_one_value_per_channel_is_finite():
    layer = BatchNormalization()
    y = layer(tf.ones((1, 1, 1, 3)), training=True)
    assert np.isfinite(y).all()
    assert np.isfinite(layer.moving_variance).all()


@pytest.mark.parametrize("shape", [(4, 5), (4, 6, 5), (2, 3, 4, 5, 5)])
def test_other_ranks_use_the_base_class(shape, random):
    ours, theirs = BatchNormalization(), keras.layers.BatchNormalization()
    x = random.normal(size=shape).astype("float32")
    np.testing.assert_allclose(ours(x, training=True), theirs(x, training=True), atol=1e-6)


@pytest.mark.parametrize("options", [{"scale": False}, {"center": False}, {"axis": 1}])
def test_other_options_use_the_base_class(options, random):
    ours, theirs = BatchNormalization(**options), keras.layers.BatchNormalization(**options)
    x = random.normal(size=(2, 3, 4, 5)).astype("float32")
    np.testing.assert_allclose(ours(x, training=True), theirs(x, training=True), atol=1e-6)


def test_weights_files_are_interchangeable_with_keras(tmp_path, random):
    def model(kind):
        inputs = keras.Input((8, 8, 3))
        x = kind(name="norm")(keras.layers.Conv2D(4, 3)(inputs))
        return keras.Model(inputs, kind()(keras.layers.Conv2D(5, 3)(x)))

    images = random.normal(size=(2, 8, 8, 3)).astype("float32")
    kinds = (BatchNormalization, keras.layers.BatchNormalization)
    for number, (source, target) in enumerate((kinds, kinds[::-1])):
        written, read = model(source), model(target)
        written.set_weights([random.uniform(0.5, 1.5, size=w.shape) for w in written.get_weights()])
        path = tmp_path / f"{number}.weights.h5"
        written.save_weights(path)
        read.load_weights(path)
        np.testing.assert_allclose(read(images), written(images), rtol=1e-4)


def test_config_round_trip():
    layer = BatchNormalization(momentum=0.7, epsilon=1e-4, name="norm")
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is BatchNormalization
    assert again.get_config() == layer.get_config()
    assert set(layer.get_config()) == set(keras.layers.BatchNormalization().get_config())


def kept_means(strategy, images_of):
    """The moving mean of a layer on each replica after one step with the images `images_of(replica)`."""
    with strategy.scope():
        layer = BatchNormalization(momentum=0.0)
        layer.build((None, None, None, 1))

    @tf.function
    def step():
        strategy.run(
            lambda: layer(images_of(tf.distribute.get_replica_context().replica_id_in_sync_group), training=True)
        )

    step()
    return [float(value[0]) for value in strategy.experimental_local_results(compat.tf_variable(layer.moving_mean))]


def test_replicas_keep_one_set_of_statistics(two_replicas):
    """A replica with only 1s and a replica with only 3s both store the mean, 2."""
    kept = kept_means(two_replicas, lambda number: tf.fill((2, 2, 2, 1), 1.0 + 2.0 * tf.cast(number, tf.float32)))
    assert kept == [2.0, 2.0]


def test_a_replica_without_images_keeps_the_statistics(two_replicas):
    kept = kept_means(two_replicas, lambda number: tf.fill((1 - number, 2, 2, 1), 3.0))
    assert np.mean(kept) == 1.5  # the mean of 3 and of the initial 0; Keras 2 averages on reading


def test_identity_shortcut_by_hand():
    x = np.arange(16, dtype="float32").reshape(1, 4, 4, 1)
    halves = IdentityShortcut(4, 2)(x).numpy()
    np.testing.assert_array_equal(halves[0, :, :, 1], [[0, 2], [8, 10]])
    assert not halves[..., [0, 2, 3]].any()
    after = IdentityShortcut(4, 2, "after")(x).numpy()
    np.testing.assert_array_equal(after[0, :, :, 0], [[0, 2], [8, 10]])
    assert not after[..., 1:].any()


def test_stochastic_depth_skips_whole_batches(random):
    """Training keeps or skips the residual with the given probability; inference uses the expectation."""
    layer = stochastic_depth(0.7)
    shortcut, residual = (random.normal(size=(2, 3, 3, 4)).astype("float32") for _ in range(2))
    np.testing.assert_allclose(layer([shortcut, residual], training=False), shortcut + 0.7 * residual, atol=1e-6)
    call = tf.function(lambda: layer([tf.constant(shortcut), tf.constant(residual)], training=True))
    kept = 0
    for _ in range(400):
        output = call().numpy()
        keeps = np.allclose(output, shortcut + residual, atol=1e-6)
        assert keeps or np.array_equal(output, shortcut)
        kept += keeps
    assert abs(kept / 400 - 0.7) < 4 * np.sqrt(0.7 * 0.3 / 400)


def test_stochastic_depth_rates_grow_linearly():
    """Huang et al. (2016), equation 4: of L blocks, the l-th has the survival probability 1 - l / L * rate."""
    stages = [(8, 2, 1), (16, 2, 2)]
    options = {"block": "basic", "stem": "cifar", "input_shape": (8, 8, 3), "classes": 2}
    model = keras_resnet.ResNet(stages, drop_path_rate=0.4, **options)
    added = [layer for layer in model.layers if layer.name.endswith("_add")]
    np.testing.assert_allclose([layer.survival_probability for layer in added], [0.9, 0.8, 0.7, 0.6])
    assert not hasattr(keras_resnet.ResNet(stages, **options).get_layer("conv2_block1_add"), "survival_probability")
    for wrong in ({"drop_path_rate": 1.0}, {"drop_path_rate": 0.1, "shortcut": None}):
        with pytest.raises(ValueError, match=r"drop_path_rate must be in \[0, 1\), and 0 for a plain net; got"):
            keras_resnet.ResNet(stages, **options, **wrong)
    with pytest.raises(ValueError, match="recompute cannot be combined with drop_path_rate"):
        keras_resnet.ResNet(stages, drop_path_rate=0.1, recompute=True, **options)


def test_weights_of_a_network_with_stochastic_depth(tmp_path):
    """They are interchangeable with those of the network without stochastic depth."""
    options = {"block": "basic", "stem": "cifar", "input_shape": (8, 8, 3), "classes": 2}
    model, plain = (keras_resnet.ResNet([(8, 1, 1)], drop_path_rate=rate, **options) for rate in (0.5, 0.0))
    weights.save(model, tmp_path / "a.weights.h5")
    weights.load(plain, tmp_path / "a.weights.h5")
    for ours, theirs in zip(plain.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("size", [(9, 13), (4, 3), (3, 5)])
def test_resize_like_is_pytorchs_interpolate(size, random):
    """Larger, smaller and of the same size; with fixed and with unknown sizes."""
    torch = pytest.importorskip("torch")
    maps = random.normal(size=(2, 3, 5, 4)).astype("float32")
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(maps.transpose(0, 3, 1, 2)), size=size, mode="bilinear", align_corners=False
    )
    expected = expected.numpy().transpose(0, 2, 3, 1)
    for known in (size, (None, None)):
        inputs = keras.Input((3, 5, 4)), keras.Input((*known, 1))
        model = keras.Model(inputs, ResizeLike()(list(inputs)))
        assert model.output_shape == (None, *known, 4)
        found = model([maps, np.zeros((2, *size, 1), "float32")])
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_resize_like_keeps_half_precision():
    layer = ResizeLike(dtype="mixed_bfloat16")
    assert layer([tf.ones((1, 2, 2, 1)), tf.ones((1, 4, 4, 1))]).dtype == tf.bfloat16
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("size", "dilation", "kernel"), [((9, 12), 2, 3), ((5, 7), (6, 3), 3), ((8, 8), (1, 2), 5), ((4, 3), 18, 3)]
)
def test_dilated_convolutions_are_kerass(size, dilation, kernel, random):
    """Outputs and gradients, also where the dilation is larger than the map; with unknown sizes."""
    images = random.normal(size=(2, *size, 4)).astype("float32")
    upstream = random.normal(size=(2, *size, 6)).astype("float32")
    results = []
    for kind in (DilatedConv2D, keras.layers.Conv2D):
        layer = kind(6, kernel, padding="same", dilation_rate=dilation, use_bias=False)
        layer.build((None, None, None, 4))
        layer.set_weights([np.random.default_rng(1).normal(size=(kernel, kernel, 4, 6))])

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 4])])
        def step(images, layer=layer):
            with tf.GradientTape() as tape:
                tape.watch(images)
                outputs = layer(images)
                loss = tf.reduce_sum(outputs * upstream)
            return outputs, *tape.gradient(loss, [images, compat.tf_variable(layer.kernel)])

        results.append(step(images))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_dilated_networks_use_them_and_convert_to_stock_layers():
    model = keras_resnet.ResNet([(8, 1, 1), (8, 1, 2)], block="basic", include_top=False, output_stride=4)
    kinds = {layer.name: type(layer) for layer in model.layers}
    assert kinds["conv3_block1_2_conv"] is DilatedConv2D
    assert kinds["conv2_block1_2_conv"] is keras.layers.Conv2D
    layer = model.get_layer("conv3_block1_2_conv")
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(again) is DilatedConv2D
    assert again.get_config() == layer.get_config()
    stock = keras_resnet.to_keras(model)
    assert {type(layer).__module__.split(".")[0] for layer in stock.layers} == {"keras"}
    images = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(stock(images), model(images), atol=1e-5)


def gradients(layer, images, upstream, training=True):
    """Outputs of a layer in bfloat16, and the gradients by its images and weights, all in float32."""

    @tf.function(input_signature=[tf.TensorSpec([None, *images.shape[1:]])])
    def step(images):
        images = tf.cast(images, tf.bfloat16)
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images, training=training)
            loss = tf.reduce_sum(tf.cast(outputs, tf.float32) * upstream)
        weights = [compat.tf_variable(weight) for weight in layer.trainable_weights]
        return outputs, *tape.gradient(loss, [images, *weights])

    return [tf.cast(value, tf.float32).numpy() for value in step(images)]


@pytest.mark.parametrize(("stride", "size"), [(1, (5, 4)), (2, (6, 8)), (2, (5, 7))])
def test_pointwise_convolutions_are_kerass_and_exact_to_bfloat16(stride, size, random):
    """Their gradient by kernel is compared with NumPy's, in float64 of the same rounded numbers."""
    images = random.normal(size=(3, *size, 6)).astype("float32")
    used = tf.cast(images, tf.bfloat16).numpy().astype("float64")[:, ::stride, ::stride]
    upstream = random.normal(size=(*used.shape[:3], 8)).astype("float32")
    upstream = tf.cast(tf.cast(upstream, tf.bfloat16), tf.float32).numpy()
    results = []
    for kind in (PointwiseConv2D, keras.layers.Conv2D):
        layer = kind(8, 1, strides=stride, use_bias=False, dtype="mixed_bfloat16")
        layer.build((None, *size, 6))
        layer.set_weights([np.random.default_rng(1).normal(size=(1, 1, 6, 8))])
        results.append(gradients(layer, images, upstream))
    (outputs, of_images, of_kernel), (*expected, _) = results
    np.testing.assert_array_equal(outputs, expected[0])
    np.testing.assert_array_equal(of_images, expected[1])
    exact = np.einsum("bhwc,bhwf->cf", used, upstream.astype("float64"))
    np.testing.assert_allclose(of_kernel[0, 0], exact, rtol=2**-8)


def test_relu_of_training_is_kerass(random):
    """Also of infinities and of NaN with and without a sign, which processors and sums produce."""
    images = random.normal(size=(2, 3, 3, 64)).astype("float32")
    special = [np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40]
    images[0, 0, 0, : len(special)] = special
    upstream = random.normal(size=images.shape).astype("float32")
    ours, theirs = (
        gradients(layer, images, upstream)
        for layer in (ReLU(dtype="mixed_bfloat16"), keras.layers.ReLU(dtype="mixed_bfloat16"))
    )
    for found, expected in zip(ours, theirs, strict=True):
        # Whether subnormal numbers become 0 depends on the thread; all others are equal to the bit.
        normal = ~(np.abs(expected) < np.finfo("float32").tiny)
        np.testing.assert_array_equal(found[normal], expected[normal])
        assert (np.abs(found[~normal]) < np.finfo("float32").tiny).all()
    assert np.isnan(ours[0][0, 0, 0, :2]).all()


def test_fast_layers_are_in_networks_and_convert_to_stock_layers(random):
    model = keras_resnet.ResNet([(32, 1, 1)], block="bottleneck", input_shape=(32, 32, 3), dtype="mixed_bfloat16")
    kinds = {layer.name: type(layer) for layer in model.layers}
    assert kinds["conv2_block1_1_conv"] is kinds["conv2_block1_0_conv"] is PointwiseConv2D
    assert (kinds["conv2_block1_out"], kinds["conv2_block1_1_relu"]) == (ReLU, keras.layers.Activation)
    stock = keras_resnet.to_keras(model)
    assert {type(layer).__module__.split(".")[0] for layer in stock.layers} == {"keras"}
    images = random.normal(size=(2, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(stock(images), model(images))
    for name in ("conv2_block1_1_conv", "conv2_block1_out"):
        layer = model.get_layer(name)
        again = keras.layers.deserialize(keras.layers.serialize(layer))
        assert type(again) is type(layer)
        assert again.get_config() == layer.get_config()
