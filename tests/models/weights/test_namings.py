"""Weights of all naming conventions, compared with the outputs of reference implementations."""

import logging

import h5py
import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.models import weights
from keras_resnet.models.architectures import IMAGENET
from keras_resnet.models.weights import convert

torch = pytest.importorskip("torch")
from tests.models import torch_nets  # noqa: E402
from tests.models.weights.nets import call, tiny  # noqa: E402

THIN = (8, 8, 16, 16)


def thin(depth, **options):
    """A network with the numbers of blocks of the paper and few filters."""
    kind, blocks = IMAGENET[depth]
    stages = [(width, count, 2 if i else 1) for i, (width, count) in enumerate(zip(THIN, blocks, strict=True))]
    return keras_resnet.ResNet(stages, block=kind, classes=5, **options)


@pytest.mark.parametrize(
    ("depth", "stride_in_1x1"),
    [(18, None), (50, False), (50, True), pytest.param(152, False, marks=pytest.mark.soak)],
)
def test_torchvision_and_back(depth, stride_in_1x1, images, tmp_path):
    net = torch_nets.randomized(torch_nets.TorchvisionNet(*IMAGENET[depth], THIN, 5, stride_in_1x1))

    def constructor(**options):
        return thin(depth, **options)

    difference, largest = torch_nets.round_trip(
        constructor, net, net.state_dict(), images, tmp_path, stride_in_1x1=stride_in_1x1, back=True
    )
    assert difference < 1e-3 < 0.1 < largest


@pytest.mark.parametrize("prefix", ["resnet.", ""])
def test_hugging_face(prefix, images, small, tmp_path):
    state = torch_nets.hugging_face(small.state_dict(), prefix)
    difference, _ = torch_nets.round_trip(tiny, small, state, images, tmp_path, stride_in_1x1=False)
    assert difference < 1e-3


@pytest.mark.parametrize("wrapper", ["plain", "state_dict", "model", "module."])
def test_akamaster(wrapper, images, tmp_path):
    net = torch_nets.randomized(torch_nets.AkamasterNet(1))
    state = net.state_dict()
    if wrapper == "module.":
        state = {f"module.{name}": value for name, value in state.items()}
    elif wrapper != "plain":
        state = {wrapper: state, "epoch": 3, "best_prec1": 0.5}
    torch.save(state, tmp_path / "a.th")
    model = convert.network(tmp_path / "a.th", classifier_activation=None, input_shape=(32, 32, 3))
    shown = images[:, :32, :32]
    np.testing.assert_allclose(call(model, shown), torch_nets.logits(net, shown), atol=1e-4)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_half_precision(half, suffix, small, images, tmp_path):
    from safetensors.torch import save_file

    state = {name: value.to(getattr(torch, half)) for name, value in small.state_dict().items()}
    path = tmp_path / f"a.{suffix}"
    torch.save(state, path) if suffix == "pth" else save_file(state, path)
    model = tiny(weights=path, stride_in_1x1=False)
    kernel = state["conv1.weight"].float().numpy().transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(model.get_layer("conv1_conv").get_weights()[0], kernel)


@pytest.fixture(scope="module")
def keras_applications():
    """keras.applications' ResNet-50 with random biases and statistics, returning logits."""
    keras.utils.set_random_seed(1)
    net = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3), classes=7, classifier_activation=None)
    random = np.random.default_rng(0)
    for layer in net.layers:
        if layer.name.endswith("_bn"):
            gamma, *_ = layer.get_weights()
            size = gamma.shape
            layer.set_weights(
                [random.uniform(0.5, 1, size), *random.normal(0, 0.3, (2, *size)), random.uniform(0.01, 1, size)]
            )
        elif layer.name.endswith("_conv"):
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, random.normal(0, 0.3, bias.shape)])
    return net


def legacy(net, path, **options):
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, net)


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
def test_keras_applications(suffix, keras_applications, images, tmp_path):
    path = tmp_path / f"a{suffix}"
    legacy(keras_applications, path) if suffix == ".h5" else keras_applications.save_weights(path)
    model = convert.network(path, classifier_activation=None, input_shape=(64, 64, 3))
    assert model.name == "resnet50"
    expected = call(keras_applications, images)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(call(model, images), expected, atol=1e-3 * np.abs(expected).max())
    with pytest.raises(ValueError, match=r"it has stride_in_1x1 True, the network False; build .* stride_in_1x1=True"):
        weights.load(keras_resnet.ResNet50(stride_in_1x1=False, classes=7), path)


def test_keras_applications_without_top(keras_applications, images, tmp_path, caplog):
    bare = keras.Model(keras_applications.input, keras_applications.get_layer("conv5_block3_out").output)
    legacy(bare, tmp_path / "notop.h5")
    model = keras_resnet.ResNet50(
        weights=tmp_path / "notop.h5", include_top=False, input_shape=(64, 64, 3), pooling="avg"
    )
    expected = call(bare, images).mean((1, 2))
    np.testing.assert_allclose(call(model, images), expected, rtol=1e-3, atol=1e-3)
    with caplog.at_level(logging.WARNING):
        keras_resnet.ResNet50(weights=tmp_path / "notop.h5", classes=3)
    assert [record.getMessage() for record in caplog.records] == [
        "resnet50: the file has no classifier, the network 3 classes; the classifier keeps its initial weights"
    ]
    with pytest.raises(ValueError, match="only the network has predictions/bias"):
        weights.load(keras_resnet.ResNet50(classes=3), tmp_path / "notop.h5")


def test_files_determine_the_position_of_the_stride(small, tmp_path):
    torch.save(small.state_dict(), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"it has stride_in_1x1 False, .* build the network with stride_in_1x1=False"):
        tiny(weights=tmp_path / "a.pth")
    model = tiny(weights=tmp_path / "a.pth", stride_in_1x1=False)
    for suffix, save in ((".weights.h5", weights.save), (".safetensors", weights.save_safetensors)):
        save(model, tmp_path / f"b{suffix}")
        with pytest.raises(ValueError, match="build the network with stride_in_1x1=False"):
            tiny(weights=tmp_path / f"b{suffix}")
        again = tiny(weights=tmp_path / f"b{suffix}", stride_in_1x1=False)
        np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])


def test_another_number_of_classes_keeps_the_initial_classifier(small, images, tmp_path, caplog):
    torch.save(small.state_dict(), tmp_path / "a.pth")
    with caplog.at_level(logging.WARNING):
        model = tiny(weights=tmp_path / "a.pth", stride_in_1x1=False, classes=3)
    assert len(caplog.records) == 1
    assert (
        caplog.records[0].getMessage()
        == "resnet: the file has 5 classes, the network 3 classes; the classifier keeps its initial weights"
    )
    whole = tiny(weights=tmp_path / "a.pth", stride_in_1x1=False)
    features = [keras.Model(net.input, net.get_layer("avg_pool").output) for net in (model, whole)]
    np.testing.assert_array_equal(call(features[0], images), call(features[1], images))
    assert model.get_layer("predictions").get_weights()[0].std() > 0
    with pytest.raises(
        ValueError, match=r"predictions/kernel has shape \[64, 5\] in the file, \[64, 3\] in the network"
    ):
        weights.load(model, tmp_path / "a.pth")


def test_another_number_of_channels_adapts_the_first_convolution(small, images, tmp_path):
    torch.save(small.state_dict(), tmp_path / "a.pth")
    whole, gray, four = (
        tiny(weights=tmp_path / "a.pth", stride_in_1x1=False, input_shape=(64, 64, channels)) for channels in (3, 1, 4)
    )
    one = images[..., :1]
    np.testing.assert_allclose(call(gray, one), call(whole, np.repeat(one, 3, -1)), atol=1e-4)
    kernel = whole.get_layer("conv1_conv").get_weights()[0]
    adapted = four.get_layer("conv1_conv").get_weights()[0]
    np.testing.assert_allclose(adapted, 0.75 * kernel[:, :, [0, 1, 2, 0]], rtol=1e-6)


def test_any_image_size(small, images, tmp_path):
    torch.save(small.state_dict(), tmp_path / "a.pth")
    model = tiny(weights=tmp_path / "a.pth", stride_in_1x1=False, input_shape=(None, None, 3))
    np.testing.assert_allclose(
        call(model, images[:, :40, :48]), torch_nets.logits(small, images[:, :40, :48]), atol=1e-4
    )


def test_dilated_networks_load_the_same_files(small, tmp_path):
    torch.save(small.state_dict(), tmp_path / "a.pth")
    for output_stride in (4, 8):
        tiny(weights=tmp_path / "a.pth", stride_in_1x1=False, output_stride=output_stride)


def test_missing_torch_is_reported(small, tmp_path, monkeypatch):
    torch.save(small.state_dict(), tmp_path / "a.pth")
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(ValueError, match=r"PyTorch files require torch \(pip install 'keras-resnet-zoo\[torch\]'\)"):
        tiny(weights=tmp_path / "a.pth", stride_in_1x1=False)


@pytest.mark.parametrize("images", [200, pytest.param(1000, marks=pytest.mark.soak)])
@pytest.mark.parametrize(
    ("depth", "name"),
    [(20, "resnet20-12fca82f.th"), pytest.param(56, "resnet56-4bfd9763.th", marks=pytest.mark.soak)],
)
def test_cifar_checkpoints_match_pytorch(depth, name, images, real_data):
    """On test images of CIFAR-10."""
    from keras_resnet.classification.pretrained import Pretrained
    from keras_resnet.data import pipeline, sources

    net = torch_nets.AkamasterNet((depth - 2) // 6).eval()
    path = real_data / "checkpoints" / name
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    net.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    source = Pretrained.open(path)
    model = source.load(classifier_activation=None)
    dataset = sources.load("cifar10", str(real_data / "tfds"))
    same, count, worst = 0, 0, 0.0
    for batch, _ in pipeline.evaluate(dataset, 200, source.eval_transform(), split=f"test[:{images}]"):
        batch = np.asarray(batch)
        ours, theirs = call(model, batch), torch_nets.logits(net, batch)
        worst = max(worst, np.abs(ours - theirs).max())
        same += int(np.sum(ours.argmax(1) == theirs.argmax(1)))
        count += len(batch)
    print(f"ResNet-{depth}: largest difference of logits {worst:.1e}, {same} of {count} predictions the same")
    assert worst < 1e-3
    assert same == count == images
