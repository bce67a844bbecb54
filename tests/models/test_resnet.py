"""Built networks: layer names, shapes, parameters, options, gradients and errors."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from keras_resnet import compat
from keras_resnet.models import resnet
from keras_resnet.models.architectures import ARCHITECTURES
from tests.conftest import KERAS_2

SMALLEST = ("ResNet18", "ResNet50", "PlainNet18", "ResNet20", "PlainNet20")
"""The smallest network of each family; on Keras 2 the only ones, as the others are longer, not different."""
BUILT = SMALLEST if KERAS_2 else [name for name in ARCHITECTURES if name != "ResNet1202"]
DEEP = ("ResNet34", "PlainNet34", "ResNet110", "ResNet152", "ResNet1202")


def small(name, **options):
    """Build a network for the smallest images with more than one pixel in the last stage."""
    side = 64 if ARCHITECTURES[name].stem == "imagenet" else 16
    return getattr(keras_resnet, name)(input_shape=(side, side, 3), **options)


def one_block(block="basic", **options):
    options = {"stem": "cifar", "input_shape": (8, 8, 3), "classes": 4, **options}
    return keras_resnet.ResNet([(16, 1, 1), (32, 1, 2)], block=block, **options)


def trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def assert_sizes(model, convolutions):
    """Assert that the convolutions of a network have the kernels and output sizes of a table."""
    for conv in convolutions:
        layer = model.get_layer(conv.name)
        if conv.name != "predictions":
            assert layer.output.shape == (None, conv.height, conv.width, conv.filters)
            assert layer.kernel.shape == (conv.kernel, conv.kernel, conv.channels, conv.filters)
            assert not layer.use_bias


@pytest.mark.parametrize("name", BUILT)
def test_built_networks_are_those_of_the_tables(name):
    """The parameters, the sizes of every convolution, and the output sizes of Table 1."""
    model, net = getattr(keras_resnet, name)(), ARCHITECTURES[name]
    assert trainable(model) == net.parameters()
    assert_sizes(model, net.convolutions())
    if net.stem == "imagenet":
        expansion = 1 if net.block == "basic" else 4
        assert model.get_layer("conv1_conv").output.shape == (None, 112, 112, 64)
        for number, (stage, side) in enumerate(zip(net.stages, (56, 28, 14, 7), strict=True), start=2):
            output = model.get_layer(f"conv{number}_block{stage.blocks}_out").output
            assert output.shape == (None, side, side, stage.filters * expansion)
        assert model.output_shape == (None, 1000)


@pytest.mark.parametrize("name", ["ResNet34", "ResNet50", "ResNet20"])
@pytest.mark.parametrize("shortcut", ["A", "B", "C"])
def test_shortcut_options_have_the_parameters_of_the_table(name, shortcut):
    model = getattr(keras_resnet, name)(shortcut=shortcut)
    assert trainable(model) == ARCHITECTURES[name].parameters(shortcut=shortcut)
    projections = [layer.name for layer in model.layers if layer.name.endswith("_0_conv")]
    if name != "ResNet50":
        # In networks with basic blocks, conv2_1 does not change the dimensions and needs no projection by option B.
        assert ("conv2_block1_0_conv" in projections) == (shortcut == "C")


@pytest.mark.parametrize("name", ["ResNet50", "ResNet18", "ResNet20"])
def test_sizes_with_the_stride_in_the_3x3(name):
    model = getattr(keras_resnet, name)(stride_in_1x1=False)
    assert_sizes(model, ARCHITECTURES[name].convolutions(stride_in_1x1=False))


def test_layer_names_are_those_of_keras_applications():
    ours = keras_resnet.ResNet50().layers
    theirs = keras.applications.ResNet50(weights=None).layers
    assert [layer.name for layer in ours if layer.weights] == [layer.name for layer in theirs if layer.weights]
    assert [layer.name for layer in ours][1:] == [layer.name for layer in theirs][1:]


def test_computes_what_keras_applications_computes(random):
    """With the same weights; the biases of its convolutions are folded into the moving means."""
    theirs = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3))
    ours = keras_resnet.ResNet50(input_shape=(64, 64, 3))
    for layer in theirs.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel, bias = layer.kernel, random.normal(size=layer.bias.shape)
            layer.bias.assign(bias)
            ours.get_layer(layer.name).set_weights([kernel.numpy()])
            norm = ours.get_layer(layer.name.replace("_conv", "_bn"))
            norm.set_weights([*theirs.get_layer(norm.name).get_weights()[:2], -bias, np.ones_like(bias)])
    ours.get_layer("predictions").set_weights(theirs.get_layer("predictions").get_weights())
    images = random.normal(size=(2, 64, 64, 3)).astype("float32")
    np.testing.assert_allclose(ours.predict_on_batch(images), theirs.predict_on_batch(images), atol=1e-4)


@pytest.mark.parametrize(
    "name", [*SMALLEST, "PlainNet56", *(pytest.param(name, marks=pytest.mark.soak) for name in DEEP)]
)
def test_every_trainable_weight_gets_a_gradient(name, random):
    model = small(name)
    images = tf.constant(random.normal(size=(4, *model.input_shape[1:])), tf.float32)
    labels = tf.constant(random.integers(0, model.output_shape[1], 4))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, model(images, training=True)))
    gradients = tape.gradient(loss, [compat.tf_variable(weight) for weight in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert gradient is not None, compat.path(weight)
        assert np.isfinite(gradient).all(), compat.path(weight)
        assert np.any(gradient), compat.path(weight)


@pytest.mark.parametrize("options", [{}, {"block": "bottleneck"}, {"shortcut": "B"}, {"shortcut": None}])
def test_zero_init_residual_starts_each_block_as_its_shortcut(options):
    model = one_block(zero_init_residual=True, **{"shortcut": "A", **options})
    weights = {compat.path(weight): weight for weight in model.trainable_weights}
    zero = [path.split("/")[-2] for path, weight in weights.items() if path.endswith("gamma") and not np.any(weight)]
    last = "3" if options.get("block") == "bottleneck" else "2"
    assert zero == [f"conv2_block1_{last}_bn", f"conv3_block1_{last}_bn"]


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("stride_in_1x1", [True, False])
@pytest.mark.parametrize(("output_stride", "factor"), [(16, 2), (8, 4)])
def test_dilated_nets_compute_the_same_features_more_densely(block, stride_in_1x1, output_stride, factor, random):
    stages = [(8, 1, 1), (8, 2, 2), (8, 2, 2), (8, 2, 2)]
    options = {"block": block, "stride_in_1x1": stride_in_1x1, "include_top": False, "input_shape": (64, 64, 3)}
    strided = keras_resnet.ResNet(stages, **options)
    dense = keras_resnet.ResNet(stages, output_stride=output_stride, **options)
    dense.set_weights(strided.get_weights())
    images = random.normal(size=(1, 64, 64, 3)).astype("float32")
    few, many = strided.predict_on_batch(images), dense.predict_on_batch(images)
    assert many.shape[1] == 64 // output_stride
    # Rounding errors are relative to the terms of a sum, and features are up to 50.
    np.testing.assert_allclose(many[:, ::factor, ::factor], few, rtol=0, atol=1e-6 * few.max())


def test_mixed_precision_has_a_float32_head(random):
    model = one_block(dtype="mixed_bfloat16")
    assert model.get_layer("conv2_block1_out").output.dtype == "bfloat16"
    assert model.get_layer("avg_pool").compute_dtype == model.get_layer("predictions").compute_dtype == "float32"
    assert {compat.standardize_dtype(weight.dtype) for weight in model.weights} == {"float32"}
    assert model.predict_on_batch(random.normal(size=(2, 8, 8, 3))).dtype == np.float32


def test_the_global_policy_is_the_default():
    compat.set_dtype_policy("mixed_bfloat16")
    try:
        assert one_block().get_layer("conv1_conv").compute_dtype == "bfloat16"
        assert one_block().output.dtype == "float32"
    finally:
        compat.set_dtype_policy("float32")


def test_without_top():
    assert one_block(include_top=False).output_shape == (None, 4, 4, 32)
    assert one_block(include_top=False, pooling="avg").output_shape == (None, 32)
    assert one_block(include_top=False, pooling="max").layers[-1].name == "max_pool"
    assert keras_resnet.ResNet50(include_top=False).input_shape == (None, None, None, 3)


def test_input_tensor_of_several_inputs(random):
    parts = [keras.Input((64, 64, 1)), keras.Input((64, 64, 2))]
    model = keras_resnet.ResNet18(input_tensor=keras.layers.Concatenate()(parts), classes=3)
    images = random.normal(size=(1, 64, 64, 3)).astype("float32")
    plain = keras_resnet.ResNet18(input_shape=(64, 64, 3), classes=3)
    plain.set_weights(model.get_weights())
    found = model.predict_on_batch([images[..., :1], images[..., 1:]])
    np.testing.assert_allclose(found, plain.predict_on_batch(images), atol=1e-6)


def test_input_tensor():
    images = keras.Input((40, 40, 3), name="photo")
    model = keras_resnet.ResNet18(input_tensor=images, classes=3)
    assert model.input is images
    scaled = keras_resnet.ResNet18(input_tensor=keras.layers.Rescaling(1 / 255)(images), classes=3)
    assert scaled.input is images
    assert scaled.layers[1].__class__.__name__ == "Rescaling"


def test_logits_and_probabilities_have_the_same_weights(random):
    images = random.normal(size=(2, 8, 8, 3)).astype("float32")
    logits, probabilities = one_block(classifier_activation=None), one_block()
    probabilities.set_weights(logits.get_weights())
    expected = tf.nn.softmax(logits.predict_on_batch(images))
    np.testing.assert_allclose(probabilities.predict_on_batch(images), expected, atol=1e-6)


def test_the_initialization_of_the_paper():
    """He initialization: mean 0, variance 2 / fan_in, and a normal distribution that is not truncated."""
    kernel = keras_resnet.ResNet18().get_layer("conv5_block1_2_conv").kernel.numpy()
    assert abs(kernel.std() / np.sqrt(2 / (9 * 512)) - 1) < 0.01
    assert abs(kernel.mean()) < 1e-4
    assert np.abs(kernel).max() / kernel.std() > 4


def test_signature_is_that_of_keras_applications():
    ours = inspect.signature(keras_resnet.ResNet50).parameters
    theirs = inspect.signature(keras.applications.ResNet50).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    assert ours["weights"].default is None
    assert all(ours[name].default == theirs[name].default for name in theirs if name != "weights")
    assert all(p.kind is p.KEYWORD_ONLY for p in list(ours.values())[len(theirs) :])
    assert keras_resnet.ResNet20.__name__ == "ResNet20"
    assert inspect.signature(keras_resnet.ResNet20).parameters["shortcut"].default == "A"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_constructors_have_the_arguments_of_the_builder(name):
    """The defaults are those of `ResNet`, except for those that depend on the network."""
    net = ARCHITECTURES[name]
    plain = net.shortcut is None
    residual_only = {"shortcut", "zero_init_residual", "zero_channels", "drop_path_rate"}
    constructor = getattr(keras_resnet, name)
    expected = {
        parameter.name: parameter
        for parameter in inspect.signature(keras_resnet.ResNet, eval_str=True).parameters.values()
        if parameter.name not in {"stages", "block", "stem"} | (residual_only if plain else set())
    }
    defaults = {"classes": net.classes, "name": name.lower(), "shortcut": net.shortcut}
    signature = inspect.signature(constructor)
    assert list(signature.parameters) == list(expected)
    for argument, parameter in signature.parameters.items():
        assert parameter.annotation == expected[argument].annotation
        assert parameter.default == defaults.get(argument, expected[argument].default)
    assert signature.return_annotation is keras.Model
    assert resnet.constructor(name) is resnet.constructor(name.lower()) is constructor
    protocol = resnet.PlainConstructor if plain else resnet.ResidualConstructor
    assert inspect.get_annotations(resnet, eval_str=True)[name] is protocol


def test_a_saved_model_file_loads_in_keras(tmp_path, random):
    model = one_block(shortcut="A")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    images = random.normal(size=(2, 8, 8, 3)).astype("float32")
    np.testing.assert_array_equal(again.predict_on_batch(images), model.predict_on_batch(images))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 0}, "classes must be an integer of at least 1; got 0"),
        ({"classes": 2.5}, "classes must be an integer"),
        ({"weights": "imagenette"}, "weights must be None, one of 'imagenet', .* or the path of an existing file"),
        ({"weights": "no/such.weights.h5"}, "there is no file 'no/such.weights.h5'"),
        ({"weights": 3}, "weights must be None, one of"),
        ({"input_shape": (31, 64, 3)}, r"input_shape must be .* at least 32 pixels .*\(31, 64, 3\)"),
        ({"input_shape": (64, 64)}, r"input_shape must be \(height, width, channels\)"),
        ({"input_shape": (64, 64, 0)}, "at least 1 channel"),
        ({"input_shape": (64, 64, None)}, "at least 1 channel"),
        ({"input_shape": (1, 64, 64, 3)}, r"input_shape must be \(height, width, channels\)"),
        ({"shortcut": "D"}, "shortcut must be one of 'A', 'B', 'C', None; got 'D'"),
        ({"output_stride": 12}, "output_stride must be one of None, 32, 16, 8, 4; got 12"),
        ({"pooling": "sum"}, "pooling must be one of None, 'avg', 'max'"),
        ({"zero_channels": "before"}, "zero_channels must be one of"),
        ({"batch_norm_momentum": 1.0}, r"batch_norm_momentum must be in \[0, 1\)"),
        ({"input_tensor": np.zeros((1, 64, 64, 3))}, "input_tensor must be a Keras tensor"),
    ],
)
def test_bad_arguments_get_one_clear_error(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        keras_resnet.ResNet18(**arguments)
    assert len(str(error.value).splitlines()) == 1


def test_bad_stages():
    for stages in ([], [(16, 0, 1)], [(16, 1)], 3):
        with pytest.raises(ValueError, match=r"stages must be a list of \(filters, blocks, stride\)"):
            keras_resnet.ResNet(stages)


def test_unknown_arguments_are_type_errors():
    with pytest.raises(TypeError, match="unexpected keyword argument 'depth'"):
        keras_resnet.ResNet18(depth=3)
    with pytest.raises(TypeError, match="shortcut"):
        keras_resnet.PlainNet18(shortcut="A")
