"""The contenders of detection and segmentation; see `contenders`.

The detectors all see images of one size, 300 proposals and 20 classes. "torchvision C4" is this package's Faster R-CNN
made of torchvision's parts: conv5_x on RoIAlign with 14x14 bins of conv4_x, and the same numbers of proposals and
sampled regions. "torchvision FPN" is what torchvision offers ready-made, another network with fewer operations.
"""

from __future__ import annotations

from benchmarks.contenders import Turn, network_with_biases

CLASSES = 20
OBJECTS = 8
"""Objects in a training image."""


def boxes(height: int, width: int):
    """Return random boxes f32[G,4] (top, left, bottom, right), a quarter of the image high and wide, and labels."""
    import numpy as np

    random = np.random.default_rng(0)
    size = np.array([height, width])
    corners = random.uniform(0, 0.75, (OBJECTS, 2)) * size
    return np.concatenate([corners, corners + size / 4], 1).astype("float32"), np.arange(1, OBJECTS + 1)


def picture(height: int, width: int):
    """Return a random image f32[H,W,3] in [0, 1]."""
    import numpy as np

    return np.random.default_rng(0).uniform(size=(height, width, 3)).astype("float32")


def detector_training(backbone: str, height: int, width: int, dtype: str = "float32") -> Turn:
    """A training step of one image, with conv1, conv2_x and batch norm frozen."""
    import numpy as np

    from keras_resnet.training import optimizers

    model = _detector(backbone, dtype)
    model.compile(optimizers.SGD(1e-5, momentum=0.9), jit_compile=False)
    found, labels = boxes(height, width)
    inputs = {
        **_detector_inputs(height, width),
        "boxes": found[None],
        "labels": labels[None].astype("int32"),
        "crowd": np.zeros((1, OBJECTS), "int32"),
        "seed": np.zeros((1, 2), "int32"),
    }

    def turn():
        model.train_on_batch(inputs)
        return 1

    return turn


def detector_inference(backbone: str, height: int, width: int, dtype: str = "float32", optimized: bool = False) -> Turn:
    """The detections of one image, by `predict_on_batch` of the detector or of its optimized copy."""
    import keras_resnet

    model = _detector(backbone, "float32" if optimized else dtype)
    if optimized:
        model = keras_resnet.optimized(model, dtype.removeprefix("mixed_"))
    inputs = _detector_inputs(height, width)

    def turn():
        model.predict_on_batch(inputs)
        return 1

    return turn


def _detector(backbone: str, dtype: str):
    from keras_resnet.detection.faster_rcnn import faster_rcnn

    model = faster_rcnn(backbone, CLASSES, roi_pooling="align", policy=dtype)
    network_with_biases(model.trunk)
    network_with_biases(model.region_network)
    return model


def _detector_inputs(height: int, width: int) -> dict:
    import numpy as np

    return {
        "images": 4 * picture(height, width)[None] - 2,
        "image_size": np.array([[height, width]], "float32"),
    }


def torchvision_training(network: str, height: int, width: int, dtype: str = "float32") -> Turn:
    """A training step of torchvision's detector, channels-last; half precision by autocast.

    Args:
        network: "C4" or "FPN".
        height: height of the image in pixels.
        width: width of the image.
        dtype: dtype policy.
    """
    import torch

    model = _torchvision_detector(network, height, width).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, 1e-5, momentum=0.9)
    images = [torch.from_numpy(picture(height, width)).permute(2, 0, 1)]
    found, labels = boxes(height, width)
    target = {"boxes": torch.from_numpy(found[:, [1, 0, 3, 2]]), "labels": torch.from_numpy(labels)}

    def turn():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype != "float32"):
            loss = sum(model(images, [target]).values())
        loss.backward()
        optimizer.step()
        return 1

    return turn


def torchvision_inference(network: str, height: int, width: int, dtype: str = "float32") -> Turn:
    """The detections of one image by torchvision's detector; see `torchvision_training`."""
    import torch

    model = _torchvision_detector(network, height, width).eval()
    images = [torch.from_numpy(picture(height, width)).permute(2, 0, 1)]

    def turn():
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype != "float32"):
            model(images)
        return 1

    return turn


def _torchvision_detector(network: str, height: int, width: int):
    import torch
    import torchvision
    from torchvision.models import detection

    sizes = {"min_size": min(height, width), "max_size": max(height, width)}
    proposals = {"rpn_pre_nms_top_n_train": 12_000, "rpn_post_nms_top_n_train": 2_000}
    proposals |= {"rpn_pre_nms_top_n_test": 6_000, "rpn_post_nms_top_n_test": 300}
    common = {**sizes, **proposals, "box_batch_size_per_image": 128}
    if network == "FPN":
        model = detection.fasterrcnn_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=CLASSES + 1, trainable_backbone_layers=3, **common
        )
        return model.to(memory_format=torch.channels_last)

    class Conv5(torch.nn.Module):
        def __init__(self, layers):
            super().__init__()
            self.layers = layers

        def forward(self, maps):
            # RoIAlign returns channels-first maps.
            return self.layers(maps.contiguous(memory_format=torch.channels_last)).mean((2, 3))

    net = torchvision.models.resnet50(weights=None, norm_layer=torchvision.ops.FrozenBatchNorm2d)
    trunk = torch.nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3)
    for part in (trunk[0], trunk[4]):
        part.requires_grad_(False)
    trunk.out_channels = 1024
    model = detection.FasterRCNN(
        trunk,
        rpn_anchor_generator=detection.rpn.AnchorGenerator(((128, 256, 512),), ((0.5, 1.0, 2.0),)),
        box_roi_pool=torchvision.ops.MultiScaleRoIAlign(["0"], 14, 2),
        box_head=Conv5(net.layer4),
        box_predictor=detection.faster_rcnn.FastRCNNPredictor(2048, CLASSES + 1),
        **common,
    )
    return model.to(memory_format=torch.channels_last)


def segmenter_training(head: str, batch_size: int, height: int, width: int, dtype: str = "float32") -> Turn:
    """A training step with the auxiliary head, of all weights and statistics; ResNet-50 with torchvision's strides."""
    from keras_resnet.segmentation import losses, models
    from keras_resnet.training import optimizers

    model = models.build(head, "resnet50", CLASSES + 1, auxiliary=True, stride_in_1x1=False, dtype=dtype)
    model.compile(optimizers.SGD(1e-5, momentum=0.9), **losses.compile_options(auxiliary=True), jit_compile=False)
    images, labels = _labeled(batch_size, height, width)
    targets = {"logits": labels.astype("int32"), "auxiliary": labels.astype("int32")}

    def turn():
        model.train_on_batch(images, targets)
        return batch_size

    return turn


def segmenter_inference(
    head: str, batch_size: int, height: int, width: int, dtype: str = "float32", optimized: bool = False
) -> Turn:
    """The labels of images, by `predict_on_batch` of the segmenter or of its optimized copy."""
    import keras_resnet
    from keras_resnet.segmentation import models

    policy = "float32" if optimized else dtype
    model = network_with_biases(models.build(head, "resnet50", CLASSES + 1, stride_in_1x1=False, dtype=policy))
    if optimized:
        model = keras_resnet.optimized(model, dtype.removeprefix("mixed_"))
    images, _ = _labeled(batch_size, height, width)

    def turn():
        model.predict_on_batch(images).argmax(-1)
        return batch_size

    return turn


def torchvision_segmenter(
    head: str, batch_size: int, height: int, width: int, dtype: str = "float32", training: bool = False
) -> Turn:
    """A training step or the labels by torchvision's segmenter with its auxiliary head; half precision by autocast."""
    import torch
    import torchvision

    build = getattr(torchvision.models.segmentation, f"{head}_resnet50")
    model = build(weights=None, weights_backbone=None, num_classes=CLASSES + 1, aux_loss=training).train(training)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 1e-5, momentum=0.9)
    cross_entropy = torch.nn.CrossEntropyLoss()
    images, labels = _labeled(batch_size, height, width)
    images = torch.from_numpy(images).permute(0, 3, 1, 2)  # channels-last in memory
    labels = torch.from_numpy(labels)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=dtype != "float32")

    def step():
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            outputs = model(images)
            loss = cross_entropy(outputs["out"], labels) + 0.4 * cross_entropy(outputs["aux"], labels)
        loss.backward()
        optimizer.step()
        return batch_size

    def predict():
        with torch.inference_mode(), autocast:
            model(images)["out"].argmax(1)
        return batch_size

    return step if training else predict


def _labeled(batch_size: int, height: int, width: int):
    """Return random images f32[B,H,W,3] and labels i64[B,H,W]."""
    import numpy as np

    random = np.random.default_rng(0)
    images = random.normal(size=(batch_size, height, width, 3)).astype("float32")
    return images, random.integers(0, CLASSES + 1, (batch_size, height, width))
