"""The networks of the paper as data: Table 1 (ImageNet), section 4.2 (CIFAR-10), and the cost of each.

`python -m keras_resnet.models.architectures` prints every network with its parameters and multiply-adds.
This module does not require Keras: the costs follow from the table, and tests compare them with the built models.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from keras_resnet.errors import check_choice

IMAGENET = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
"""Depth -> (block, number of blocks in conv2_x .. conv5_x): Table 1."""

CIFAR = {6 * n + 2: ("basic", (n, n, n)) for n in (3, 5, 7, 9, 18, 200)}
"""Depth, 6n + 2 -> (block, number of blocks in conv2_x .. conv4_x): section 4.2."""

PLAIN_IMAGENET = (18, 34)
PLAIN_CIFAR = (20, 32, 44, 56, 110)

LAYERS_PER_BLOCK = {"basic": 2, "bottleneck": 3}
EXPANSION = {"basic": 1, "bottleneck": 4}
"""Ratio of a block's output channels to its `filters`."""


class Stage(NamedTuple):
    """Consecutive blocks with feature maps of one size.

    Attributes:
        filters: number of filters of the 3x3 convolutions.
        blocks: number of blocks, at least 1.
        stride: stride of the first block.
    """

    filters: int
    blocks: int
    stride: int


class Stem(NamedTuple):
    """The layers before the first stage: a convolution, and for ImageNet a 3x3 max pooling of stride 2."""

    filters: int
    kernel: int
    stride: int
    pool: bool

    @property
    def total_stride(self) -> int:
        """Stride of the first stage's input with respect to the image."""
        return self.stride * (2 if self.pool else 1)


STEMS = {"imagenet": Stem(64, 7, 2, True), "cifar": Stem(16, 3, 1, False)}


class Convolution(NamedTuple):
    """A convolution with everything its cost depends on; the classifier counts as a 1x1 convolution."""

    name: str
    kernel: int
    channels: int
    filters: int
    height: int
    width: int

    @property
    def parameters(self) -> int:
        """Number of weights of the kernel."""
        return self.kernel**2 * self.channels * self.filters

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds for one image."""
        return self.parameters * self.height * self.width


def needs_projection(shortcut: str | None, changes: bool) -> bool:
    """Return whether a block's shortcut is a 1x1 projection.

    Args:
        shortcut: option "A", "B" or "C"; None for a plain network.
        changes: whether the block changes the height and width or the number of channels.
    """
    return shortcut == "C" or (shortcut == "B" and changes)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A network of the paper with its default options.

    Attributes:
        name: name of the constructor, e.g. `ResNet50` or `PlainNet34`.
        depth: number of weighted layers: the convolutions of the stem and the residual functions, and the classifier.
        stem: key of `STEMS`; also the data set that the network was designed for.
        block: "basic" (two 3x3) or "bottleneck" (1x1, 3x3, 1x1), Figure 5.
        stages: the stages from conv2_x on.
        shortcut: "A", "B" or "C"; None for a plain network.
        input_size: height and width of the input in pixels.
        classes: default number of classes.
    """

    name: str
    depth: int
    stem: str
    block: str
    stages: tuple[Stage, ...]
    shortcut: str | None
    input_size: int
    classes: int

    def __post_init__(self) -> None:
        layers = 2 + LAYERS_PER_BLOCK[self.block] * sum(stage.blocks for stage in self.stages)
        if self.depth != layers:
            raise AssertionError(f"depth of {self.name} must be {layers} with these stages; got {self.depth}")

    def convolutions(
        self,
        shortcut: str | None = "default",
        stride_in_1x1: bool = True,
        input_size: int | None = None,
        channels: int = 3,
        classes: int | None = None,
    ) -> Iterator[Convolution]:
        """Yield all convolutions and the classifier in order, named as the layers of the built model.

        Args:
            shortcut: "A", "B", "C" or None; by default that of the architecture.
            stride_in_1x1: whether bottlenecks have their stride in the first 1x1 (v1) rather than in the 3x3 (v1.5).
            input_size: height and width of the input in pixels; by default those of the architecture.
            channels: number of input channels.
            classes: number of classes; by default that of the architecture.
        """
        shortcut = self.shortcut if shortcut == "default" else shortcut
        stem = STEMS[self.stem]
        size = -(-(input_size or self.input_size) // stem.stride)
        yield Convolution("conv1_conv", stem.kernel, channels, stem.filters, size, size)
        size = -(-size // 2) if stem.pool else size
        channels = stem.filters
        for number, stage in enumerate(self.stages, start=2):
            width = stage.filters
            out = width * EXPANSION[self.block]
            for block in range(1, stage.blocks + 1):
                name = f"conv{number}_block{block}"
                stride = stage.stride if block == 1 else 1
                before, size = size, -(-size // stride)
                if needs_projection(shortcut, changes=stride != 1 or channels != out):
                    yield Convolution(f"{name}_0_conv", 1, channels, out, size, size)
                if self.block == "basic":
                    yield Convolution(f"{name}_1_conv", 3, channels, width, size, size)
                    yield Convolution(f"{name}_2_conv", 3, width, out, size, size)
                else:
                    first = size if stride_in_1x1 else before
                    yield Convolution(f"{name}_1_conv", 1, channels, width, first, first)
                    yield Convolution(f"{name}_2_conv", 3, width, width, size, size)
                    yield Convolution(f"{name}_3_conv", 1, width, out, size, size)
                channels = out
        yield Convolution("predictions", 1, channels, classes or self.classes, 1, 1)

    def parameters(self, **options: Any) -> int:
        """Return the number of trainable parameters.

        Convolutions have no bias, batch norm has gamma and beta, and the classifier has a bias.

        Args:
            **options: see `convolutions`.
        """
        return sum(
            conv.parameters + conv.filters * (1 if conv.name == "predictions" else 2)
            for conv in self.convolutions(**options)
        )

    def multiply_adds(self, **options: Any) -> int:
        """Return the multiply-adds of convolutions and classifier for one image, the paper's "FLOPs".

        Args:
            **options: see `convolutions`.
        """
        return sum(conv.multiply_adds for conv in self.convolutions(**options))


def _imagenet(kind: str, depth: int, shortcut: str | None) -> Architecture:
    block, blocks = IMAGENET[depth]
    stages = tuple(Stage(64 * 2**i, n, 1 if i == 0 else 2) for i, n in enumerate(blocks))
    return Architecture(f"{kind}{depth}", depth, "imagenet", block, stages, shortcut, 224, 1000)


def _cifar(kind: str, depth: int, shortcut: str | None) -> Architecture:
    block, blocks = CIFAR[depth]
    stages = tuple(Stage(16 * 2**i, n, 1 if i == 0 else 2) for i, n in enumerate(blocks))
    return Architecture(f"{kind}{depth}", depth, "cifar", block, stages, shortcut, 32, 10)


def _family() -> Iterator[Architecture]:
    yield from (_imagenet("ResNet", depth, "B") for depth in IMAGENET)
    yield from (_imagenet("PlainNet", depth, None) for depth in PLAIN_IMAGENET)
    yield from (_cifar("ResNet", depth, "A") for depth in CIFAR)
    yield from (_cifar("PlainNet", depth, None) for depth in PLAIN_CIFAR)


ARCHITECTURES = {architecture.name: architecture for architecture in _family()}
"""Constructor name -> architecture, for every network of the paper."""


def canonical(name: str) -> str:
    """Return the name of a network in lower case, as configurations have it; other names are returned as they are."""
    return name.lower() if name.lower() in {architecture.lower() for architecture in ARCHITECTURES} else name


def find(name: str, argument: str = "model") -> Architecture:
    """Return the architecture of a network by its name in any case, such as "resnet50".

    Args:
        name: name of the network.
        argument: name of the caller's argument, for the error message.

    Raises:
        ValueError: there is no such network.
    """
    by_name = {architecture.name.lower(): architecture for architecture in ARCHITECTURES.values()}
    if name.lower() not in by_name:
        check_choice(argument, name, by_name)
    return by_name[name.lower()]


def table(architectures: Sequence[Architecture] = tuple(ARCHITECTURES.values())) -> str:
    """Return a Markdown table of networks with their blocks, parameters and multiply-adds."""
    lines = [
        "| network | input | block | blocks per stage | shortcut | parameters | multiply-adds |",
        "|---|---|---|---|---|---:|---:|",
    ]
    for net in architectures:
        blocks = ", ".join(str(stage.blocks) for stage in net.stages)
        lines.append(
            f"| {net.name} | {net.input_size} | {net.block} | {blocks} | {net.shortcut or 'none'} "
            f"| {net.parameters():,} | {net.multiply_adds() / 1e9:.3f}e9 |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
