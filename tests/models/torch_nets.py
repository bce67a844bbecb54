"""The networks in PyTorch, with the names of torchvision and timm, of akamaster's CIFAR networks and of Hugging Face.

They are the reference of the weight tests. `python -m tests.models.torch_nets` compares every depth at full width, also
with the networks of torchvision, timm and transformers if these are installed.
"""

import importlib.util
import pathlib
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

import keras_resnet
from keras_resnet.models import weights
from keras_resnet.models.architectures import CIFAR, EXPANSION, IMAGENET


def conv(channels, filters, kernel, stride=1):
    return nn.Conv2d(channels, filters, kernel, stride, kernel // 2, bias=False)


class Block(nn.Module):
    """A block with torchvision's names; `stride_in_1x1` is True for v1 and False for v1.5."""

    def __init__(self, kind, channels, width, stride, stride_in_1x1):
        super().__init__()
        out = width * EXPANSION[kind]
        if kind == "basic":
            shapes = [(channels, width, 3, stride), (width, out, 3, 1)]
        else:
            first, second = (stride, 1) if stride_in_1x1 else (1, stride)
            shapes = [(channels, width, 1, first), (width, width, 3, second), (width, out, 1, 1)]
        self.count = len(shapes)
        for number, shape in enumerate(shapes, 1):
            setattr(self, f"conv{number}", conv(*shape))
            setattr(self, f"bn{number}", nn.BatchNorm2d(shape[1]))
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(conv(channels, out, 1, stride), nn.BatchNorm2d(out))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        for number in range(1, self.count + 1):
            x = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x))
            if number < self.count:
                x = functional.relu(x)
        return functional.relu(x + shortcut)


class TorchvisionNet(nn.Module):
    """torchvision's ResNet: images f32[B,3,H,W] -> logits f32[B,K]."""

    def __init__(self, kind, blocks, filters=(64, 128, 256, 512), classes=1000, stride_in_1x1=False):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        channels = 64
        for stage, (count, width) in enumerate(zip(blocks, filters, strict=True), 1):
            layer = []
            for block in range(count):
                layer.append(Block(kind, channels, width, 2 if stage > 1 and block == 0 else 1, stride_in_1x1))
                channels = width * EXPANSION[kind]
            setattr(self, f"layer{stage}", nn.Sequential(*layer))
        self.stages = len(blocks)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))


class CifarBlock(Block):
    """A basic block with option A: every second pixel, half of the zero channels before and half after."""

    def __init__(self, channels, width, stride):
        super().__init__("basic", channels, width, stride, False)
        self.downsample, self.added = None, width - channels

    def forward(self, x):
        shortcut = (
            functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.added // 2, self.added // 2)) if self.added else x
        )
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(x)) + shortcut)


class AkamasterNet(nn.Module):
    """akamaster's CIFAR ResNet with 6n + 2 layers."""

    def __init__(self, blocks, classes=10):
        super().__init__()
        self.conv1, self.bn1 = conv(3, 16, 3), nn.BatchNorm2d(16)
        channels = 16
        for stage, width in enumerate((16, 32, 64), 1):
            layer = []
            for block in range(blocks):
                layer.append(CifarBlock(channels, width, 2 if stage > 1 and block == 0 else 1))
                channels = width
            setattr(self, f"layer{stage}", nn.Sequential(*layer))
        self.linear = nn.Linear(64, classes)

    def forward(self, x):
        x = functional.relu(self.bn1(self.conv1(x)))
        for stage in (1, 2, 3):
            x = getattr(self, f"layer{stage}")(x)
        return self.linear(x.mean((2, 3)))


def hugging_face(state, prefix="resnet."):
    """Rename a torchvision state for `transformers.ResNetForImageClassification`."""
    renamed = {}
    for name, value in state.items():
        layer, part = name.rsplit(".", 1)
        parts = layer.split(".")
        if layer == "fc":
            renamed[f"classifier.1.{part}"] = value
            continue
        kind = "convolution" if value.ndim == 4 else "normalization"
        if len(parts) == 1:
            renamed[f"{prefix}embedder.embedder.{kind}.{part}"] = value
            continue
        place = f"{prefix}encoder.stages.{int(parts[0][5:]) - 1}.layers.{parts[1]}"
        inner = "shortcut" if parts[2] == "downsample" else f"layer.{int(parts[2][-1]) - 1}"
        renamed[f"{place}.{inner}.{kind}.{part}"] = value
    return renamed


def randomized(net, seed=0):
    """Randomize the weights and batch norm statistics of a network, in ranges that keep its feature maps bounded."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor, low, high):
        tensor.data.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            scale = (2 / module.weight[0].numel()) ** 0.5
            module.weight.data.copy_(torch.randn(module.weight.shape, generator=generator) * scale)
        elif isinstance(module, nn.BatchNorm2d):
            uniform(module.weight, 0.4, 0.8)
            uniform(module.bias, -0.5, 0.5)
            uniform(module.running_mean, -0.5, 0.5)
            uniform(module.running_var, 0.5, 2.0)
        elif isinstance(module, nn.Linear):
            uniform(module.weight, -0.1, 0.1)
            uniform(module.bias, -0.1, 0.1)
    return net.eval()


def logits(net, images):
    """Return the logits of a PyTorch network for f32[B,H,W,3]."""
    with torch.no_grad():
        result = net(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))))
    return getattr(result, "logits", result).numpy()


def round_trip(constructor, net, state, images, folder, stride_in_1x1=None, back=False, **options):
    """Load a PyTorch state into a network of this package and compare their logits.

    Args:
        constructor: constructor of the network of this package.
        net: the PyTorch network.
        state: the state of `net` to save.
        images: f32[B,H,W,3].
        folder: folder for the files.
        stride_in_1x1: whether bottlenecks have their stride in the first 1x1.
        back: whether to also export to safetensors and load the file into `net`.
        **options: arguments of `constructor`.

    Returns:
        The largest difference of logits, and the largest logit.
    """
    theirs = logits(net, images)
    torch.save(state, folder / "a.pth")
    options = options if stride_in_1x1 is None else {"stride_in_1x1": stride_in_1x1, **options}
    model = constructor(classifier_activation=None, input_shape=images.shape[1:], **options)
    weights.load(model, folder / "a.pth", stride_in_1x1=stride_in_1x1)
    differences = [np.abs(np.asarray(model(images, training=False)) - theirs).max()]
    if back:
        weights.save_safetensors(model, folder / "a.safetensors")
        randomized(net, seed=1).load_state_dict(load_file(folder / "a.safetensors"))
        differences.append(np.abs(logits(net, images) - theirs).max())
    return max(differences), np.abs(theirs).max()


def cases():
    """Yield (name, constructor, PyTorch network, state, options) for every depth and format at full width."""
    installed = {name for name in ("torchvision", "timm", "transformers") if importlib.util.find_spec(name)}
    for depth, (kind, blocks) in IMAGENET.items():
        constructor = getattr(keras_resnet, f"ResNet{depth}")
        for version, first in (("v1", True), ("v1.5", False)) if kind == "bottleneck" else (("", None),):
            net = randomized(TorchvisionNet(kind, blocks, stride_in_1x1=first))
            options = {"stride_in_1x1": first}
            yield f"torchvision {depth} {version}", constructor, net, net.state_dict(), {**options, "back": True}
            yield f"Hugging Face {depth} {version}", constructor, net, hugging_face(net.state_dict()), options
        if "torchvision" in installed:
            import torchvision

            net = randomized(torchvision.models.get_model(f"resnet{depth}"))
            yield f"torchvision package {depth}", constructor, net, net.state_dict(), {**options, "back": True}
        if "timm" in installed:
            import timm

            net = randomized(timm.create_model(f"resnet{depth}"))
            yield f"timm package {depth}", constructor, net, net.state_dict(), {**options, "back": True}
        if "transformers" in installed:
            import transformers

            widths = [EXPANSION[kind] * width for width in (64, 128, 256, 512)]
            config = transformers.ResNetConfig(
                depths=list(blocks), layer_type=kind, hidden_sizes=widths, num_labels=1000
            )
            net = randomized(transformers.ResNetForImageClassification(config))
            yield f"transformers package {depth}", constructor, net, net.state_dict(), options
    for depth in CIFAR:
        net = randomized(AkamasterNet((depth - 2) // 6))
        for block in net.modules():
            if isinstance(block, CifarBlock):  # hundreds of blocks would overflow
                block.bn2.weight.data *= min(1.0, 60 / depth)
        state = {"state_dict": {f"module.{name}": value for name, value in net.state_dict().items()}}
        yield f"akamaster {depth}", getattr(keras_resnet, f"ResNet{depth}"), net, state, {}


def main():
    """Print the largest difference of logits for every depth and format; fail if one exceeds 1e-3."""
    images = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")
    worst = 0.0
    for name, constructor, net, state, options in cases():
        with tempfile.TemporaryDirectory() as folder:
            shown = images[:, :32, :32] if name.startswith("akamaster") else images
            difference, largest = round_trip(constructor, net, state, shown, pathlib.Path(folder), **options)
        worst = max(worst, difference)
        print(f"{name:24} logits up to {largest:8.2f}, largest difference {difference:.1e}", flush=True)
    if worst > 1e-3:
        sys.exit(f"the largest difference must be at most 1e-3; got {worst:.1e}")


if __name__ == "__main__":
    main()
