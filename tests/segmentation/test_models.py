"""The networks' shapes, outputs and options, and the dilations of the backbone; parity is in `test_pretrained`."""

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import compat
from keras_resnet.errors import InputError
from keras_resnet.models import weights
from keras_resnet.segmentation import models
from keras_resnet.segmentation.choices import HEADS
from keras_resnet.training import finetuning
from tests.segmentation.nets import BASIC, BOTTLENECK, settle, tiny


@pytest.mark.parametrize("head", HEADS)
def test_logits_have_the_size_of_any_image(head, random):
    model = tiny(head, classes=4)
    assert model.input_shape == (None, None, None, 3)
    assert model.output_shape == (None, None, None, 4)
    for size in ((32, 32), (50, 77)):
        assert model(random.normal(size=(2, *size, 3)), training=False).shape == (2, *size, 4)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_output_stride_and_dilations(output_stride):
    model = models.deeplabv3(BASIC, 3, output_stride=output_stride, multi_grid=(1, 2))
    assert keras_resnet.feature_info(model)[-1].stride == output_stride
    rates = [model.get_layer(f"aspp{number}_conv").dilation_rate[0] for number in (1, 2, 3, 4)]
    assert rates == [1, *({8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}[output_stride])]
    dilation = 32 // output_stride
    last = [model.get_layer(f"conv5_block2_{number}_conv").dilation_rate[0] for number in (1, 2)]
    assert last == [2 * dilation] * 2
    first = [model.get_layer(f"conv5_block1_{number}_conv").dilation_rate[0] for number in (1, 2)]
    assert first == [max(dilation // 2, 1), dilation]


def test_multi_grid_is_refused_with_the_reason():
    with pytest.raises(InputError, match=r"one for each of the 2 blocks of the last stage; got \(1, 2, 4\)"):
        models.fcn(BASIC, multi_grid=(1, 2, 4))
    with pytest.raises(InputError, match="must be integers of at least 1"):
        models.fcn(BASIC, multi_grid=(1, 0))
    with pytest.raises(InputError, match="must begin with 1 where the last stage has a stride"):
        models.fcn(BASIC, output_stride=32, multi_grid=(2, 4))
    assert models.fcn(BASIC, output_stride=8, multi_grid=(2, 4)).get_layer("conv5_block2_1_conv").dilation_rate == (
        16,
        16,
    )


def test_auxiliary_head_is_for_training_only(random):
    model = tiny("deeplabv3", auxiliary=True)
    images = random.normal(size=(1, 40, 48, 3)).astype("float32")
    outputs = model(images, training=False)
    assert {name: tuple(values.shape) for name, values in outputs.items()} == {
        "logits": (1, 40, 48, 3),
        "auxiliary": (1, 40, 48, 3),
    }
    inference = models.inference_model(model)
    np.testing.assert_array_equal(inference(images, training=False), outputs["logits"])
    assert not [layer for layer in inference.layers if layer.name.startswith("auxiliary")]
    assert inference.get_layer("head_conv") is model.get_layer("head_conv")
    assert models.inference_model(inference) is inference
    assert model.get_layer("auxiliary_conv").input.shape[-1] == 16  # conv4_x


def test_half_precision_computes_logits_in_float32(random):
    model = models.deeplabv3_plus(BASIC, 3, dtype="mixed_bfloat16", auxiliary=True)
    outputs = model(random.normal(size=(1, 32, 32, 3)))
    assert {values.dtype.name for values in outputs.values()} == {"float32"}
    for name in ("head_logits", "auxiliary_logits", "logits", "auxiliary"):
        assert model.get_layer(name).compute_dtype == "float32"
    for name in ("decoder2_conv", "aspp4_conv", "conv1_conv", "decoder_resize"):
        assert model.get_layer(name).compute_dtype == "bfloat16"


def test_the_optimized_copy_labels_the_same(random):
    model = tiny("deeplabv3_plus")
    images = random.normal(size=(2, 48, 64, 3)).astype("float32")
    expected = model.predict_on_batch(images)
    np.testing.assert_allclose(keras_resnet.optimized(model, "float32")(images), expected, atol=1e-4)
    found = np.asarray(keras_resnet.optimized(model, "bfloat16")(images))
    assert np.abs(found - expected).max() < 0.1 * expected.std()
    # The logits themselves are not rounded to bfloat16.
    assert (found.view("uint32") & 0xFFFF > 0).mean() > 0.9


def test_backbone_and_its_variables():
    model = models.deeplabv3(BASIC, 3, auxiliary=True)
    backbone = models.backbone_of(model)
    assert all(layer.name.split("_")[0].startswith(("inputs", "conv", "pool")) for layer in backbone.layers)
    own = {id(variable) for variable in models.backbone_variables(model)}
    heads = [compat.path(variable) for variable in model.trainable_variables if id(variable) not in own]
    assert {path.split("_")[0] for path in heads} == {"aspp1", "aspp2", "aspp3", "aspp4", "aspp", "head", "auxiliary"}
    finetuning.freeze(backbone, stages=2, norm=True)
    assert not model.get_layer("conv2_block1_1_conv").trainable
    assert not model.get_layer("conv5_block1_1_bn").trainable
    assert model.get_layer("conv5_block1_1_conv").trainable
    assert model.get_layer("head_bn").trainable


def test_backbone_by_name_architecture_or_constructor():
    assert len(keras_resnet.feature_info(models.fcn("ResNet18", 2))) == 5

    def constructor(**options):
        return keras_resnet.ResNet(BOTTLENECK.stages, block="bottleneck", **options)

    by_constructor = models.fcn(constructor, 2, stride_in_1x1=False)
    by_architecture = models.fcn(BOTTLENECK, 2, stride_in_1x1=False)
    assert [layer.name for layer in by_constructor.layers] == [layer.name for layer in by_architecture.layers]
    assert by_constructor.get_layer("conv3_block1_2_conv").strides == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "resnet51"}, r"backbone must be one of 'resnet18', .*; got 'resnet51' \(did you mean 'resnet50'"),
        ({"backbone": "resnet20"}, "backbone must be one of 'resnet18', .*; got 'resnet20'"),
        ({"classes": 0}, "classes must be an integer of at least 1; got 0"),
        ({"output_stride": 4}, "output_stride must be one of 8, 16, 32; got 4"),
        ({"dropout": 1}, r"dropout must be in \[0, 1\); got 1"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        models.build("fcn", **{"backbone": BASIC, **arguments})
    with pytest.raises(InputError, match=r"head must be one of 'fcn', .*; got 'deeplab' \(did you mean 'deeplabv3'"):
        models.build("deeplab", BASIC)
    with pytest.raises(TypeError, match="unexpected keyword argument 'num_classes'; use classes"):
        models.fcn(BASIC, num_classes=3)


def test_weights_and_models_are_saved_and_loaded(tmp_path, random):
    model = tiny("deeplabv3", auxiliary=True)
    images = random.normal(size=(1, 32, 40, 3)).astype("float32")
    expected = model(images, training=False)
    weights.save(model, tmp_path / "a.weights.h5")
    again = models.deeplabv3(BASIC, 3, auxiliary=True)
    weights.load(again, tmp_path / "a.weights.h5")
    model.save(tmp_path / "a.keras")
    for other in (again, keras.saving.load_model(tmp_path / "a.keras")):
        outputs = other(images, training=False)
        for name in ("logits", "auxiliary"):
            np.testing.assert_array_equal(outputs[name], expected[name])
    with pytest.raises(InputError, match="does not fit"):
        weights.load(models.fcn(BASIC, 3), tmp_path / "a.weights.h5")


def test_a_step_changes_every_weight(random):
    """Gradients reach all layers through the interpolations."""
    from keras_resnet.segmentation import losses

    model = settle(models.deeplabv3_plus(BASIC, 3, auxiliary=True, dropout=0.0, multi_grid=(1, 2)))
    before = [variable.numpy() for variable in model.trainable_variables]
    model.compile(keras.optimizers.SGD(0.1), **losses.compile_options(auxiliary=True), jit_compile=False)
    labels = random.integers(0, 3, (2, 32, 32))
    images = random.normal(size=(2, 32, 32, 3))
    model.train_on_batch(images, {"logits": labels, "auxiliary": labels})
    for variable, old in zip(model.trainable_variables, before, strict=True):
        assert np.abs(variable.numpy() - old).max() > 0, compat.path(variable)
