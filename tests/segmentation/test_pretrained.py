"""The networks are torchvision's with torchvision's weights, and take a classifier's weights for their backbone."""

import numpy as np
import pytest

import keras_resnet
from keras_resnet.errors import InputError
from keras_resnet.models import weights
from keras_resnet.segmentation import models, pretrained
from tests.segmentation.nets import BOTTLENECK, settle

FAST = [("fcn", 50, (97, 129)), ("deeplabv3", 50, (97, 129))]
SLOW = [
    (head, depth, size) for head in ("fcn", "deeplabv3") for depth in (50, 101) for size in ((224, 224), (321, 513))
]


def torchvision_segmentation():
    """torchvision's networks; they need none of its operators, which a CPU build of PyTorch cannot load from PyPI."""
    import torch

    try:
        import torchvision
    except RuntimeError:
        for name in ("nms", "qnms"):
            schema = "(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{name}", schema)
        import torchvision
    return torchvision.models.segmentation


@pytest.mark.parametrize(
    ("head", "depth", "size"),
    [*FAST, *(pytest.param(*case, marks=pytest.mark.soak) for case in SLOW)],
    ids=lambda value: "x".join(map(str, value)) if isinstance(value, tuple) else str(value),
)
def test_equals_torchvision(head, depth, size, tmp_path, random):
    """Random weights and statistics, loaded from torchvision's own file: both heads' logits within 1e-3."""
    torch = pytest.importorskip("torch")
    from tests.models.torch_nets import randomized

    net = getattr(torchvision_segmentation(), f"{head}_resnet{depth}")(
        weights=None, weights_backbone=None, num_classes=21, aux_loss=True
    )
    torch.save(randomized(net).state_dict(), tmp_path / "theirs.pth")
    model = models.build(head, f"resnet{depth}", 21, auxiliary=True, stride_in_1x1=False)
    pretrained.load_torchvision(model, tmp_path / "theirs.pth")
    images = random.normal(size=(1, *size, 3)).astype("float32")
    with torch.no_grad():
        theirs = net(torch.from_numpy(images.transpose(0, 3, 1, 2)))
    ours = model(images, training=False)
    for name, their_name in (("logits", "out"), ("auxiliary", "aux")):
        expected = theirs[their_name].numpy().transpose(0, 2, 3, 1)
        difference = np.abs(np.asarray(ours[name]) - expected).max()
        print(f"{head} {depth} {size} {name}: up to {np.abs(expected).max():.1f}, difference {difference:.1e}")
        assert expected.std((1, 2)).max() > 0.01  # the logits differ between pixels
        assert difference < 1e-3


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A file with torchvision's names for a small DeepLabv3, and its model."""
    safetensors = pytest.importorskip("safetensors.numpy")
    model = settle(models.deeplabv3(BOTTLENECK, 3, auxiliary=True, stride_in_1x1=False))
    variables, names = pretrained._torchvision_names(model)
    arrays = {}
    for ours, theirs in names.items():
        array = variables[ours].numpy()
        arrays[theirs] = np.ascontiguousarray(array.transpose(3, 2, 0, 1)) if array.ndim == 4 else array
    arrays["backbone.bn1.num_batches_tracked"] = np.ones(1, "float32")
    path = tmp_path_factory.mktemp("weights") / "deeplabv3.safetensors"
    safetensors.save_file(arrays, path)
    return path, model


def test_the_auxiliary_head_of_a_file_may_be_left_out(small):
    path, source = small
    model = models.deeplabv3(BOTTLENECK, 3, stride_in_1x1=False)
    pretrained.load_torchvision(model, path)
    for layer in model.layers:
        for ours, theirs in zip(layer.get_weights(), source.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: models.fcn(BOTTLENECK, 3, stride_in_1x1=False), "does not fit fcn: only the file has classifier"),
        (
            lambda: models.deeplabv3(BOTTLENECK, 4, stride_in_1x1=False),
            r"head_logits/kernel has shape \[1, 1, 256, 3\]",
        ),
        (lambda: models.deeplabv3(BOTTLENECK, 3), "torchvision's networks require stride_in_1x1=False"),
        (
            lambda: models.deeplabv3_plus(BOTTLENECK, 3, stride_in_1x1=False),
            "torchvision has no layer for 'decoder",
        ),
    ],
)
def test_a_file_that_does_not_fit_changes_nothing(small, build, message):
    path, _ = small
    model = build()
    before = model.get_weights()
    with pytest.raises(InputError, match=message):
        pretrained.load_torchvision(model, path)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def classifier(**options):
    return settle(keras_resnet.ResNet(BOTTLENECK.stages, block="bottleneck", classes=7, **options))


def test_backbone_of_a_classifier(tmp_path):
    """Also from a file, with another output stride than the classifier, and only the backbone."""
    weights.save(classifier(), tmp_path / "a.weights.h5")
    source = classifier()
    keras_resnet.load_weights(source, tmp_path / "a.weights.h5")
    model = models.fcn(BOTTLENECK, 3, multi_grid=(1, 2))
    head = model.get_layer("head_conv").get_weights()[0]
    pretrained.load_backbone(model, source)
    for name in ("conv1_conv", "conv3_block1_0_bn", "conv5_block2_2_conv"):
        for ours, theirs in zip(model.get_layer(name).get_weights(), source.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(model.get_layer("head_conv").get_weights()[0], head)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda: classifier(stride_in_1x1=False), "it has stride_in_1x1 False, the network True"),
        (lambda: keras_resnet.ResNet([(16, 1, 1), (16, 1, 2)]), "it has 1-1 bottleneck blocks, the network 1-1-1-2"),
        (lambda: models.fcn(BOTTLENECK, 2), "it is not a network of this package"),
    ],
)
def test_another_classifier_is_refused(source, message):
    with pytest.raises(InputError, match=f"classifier must be the backbone's own network; '.*' is not: {message}"):
        pretrained.load_backbone(models.fcn(BOTTLENECK, 3), source())
