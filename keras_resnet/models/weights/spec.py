"""The architecture of a model or of a weights file, in a form that can be compared.

Shapes alone do not distinguish a plain network from one with parameter-free shortcuts, nor v1 from v1.5.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

import keras

from keras_resnet.errors import InputError
from keras_resnet.models.architectures import ARCHITECTURES, EXPANSION, LAYERS_PER_BLOCK, STEMS, Architecture, Stage

STEM = "conv1_conv/kernel"
"""The kernel of the first convolution, which every network of this package has."""

PARTS = {
    "conv": ("kernel", "bias"),
    "bn": ("gamma", "beta", "moving_mean", "moving_variance"),
    "predictions": ("kernel", "bias"),
}
"""Kind of layer -> its variables in the order of Keras. Convolutions of this package have no bias, others may."""

LAYER = re.compile(r"conv1_(?P<stem>conv|bn)|conv(?P<stage>\d+)_block(?P<block>\d+)_(?P<number>\d)_(?P<kind>conv|bn)")
"""Names of the layers with variables, except for the classifier, `predictions`."""


def kind_of(layer: str) -> str | None:
    """Return the key of `PARTS` for a layer's name; None for names that this package does not use."""
    if layer == "predictions":
        return layer
    match = LAYER.fullmatch(layer)
    return match and (match["stem"] or match["kind"])


@dataclasses.dataclass(frozen=True)
class ArchitectureSpec:
    """The architecture of a network; None for what is unknown.

    Attributes:
        stem: key of `STEMS`.
        block: "basic" or "bottleneck".
        filters: number of filters of the 3x3 convolutions of each stage.
        blocks: number of blocks of each stage.
        strides: stride of each stage.
        shortcut: "A" (zero channels), "B" (projections in the first blocks of stages), "C" (projections in all blocks),
            "identity" (no block changes its dimensions) or "none" (a plain network).
        zero_channels: where option A inserts its zeros, "halves" or "after".
        stride_in_1x1: whether bottlenecks have their stride in the first 1x1 (v1) rather than in the 3x3 (v1.5).
    """

    stem: str
    block: str
    filters: tuple[int, ...]
    blocks: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    shortcut: str | None = None
    zero_channels: str | None = None
    stride_in_1x1: bool | None = None

    @classmethod
    def of_shapes(cls, shapes: Mapping[str, tuple[int, ...]]) -> ArchitectureSpec:
        """Infer the architecture from the shapes of variables, as far as they determine it.

        Args:
            shapes: "{layer}/{variable}", with the layer names of this package -> shape.

        Raises:
            ValueError: the shapes are not those of a residual or plain network.
        """
        kernels = {name.removesuffix("/kernel"): shape for name, shape in shapes.items() if name.endswith("/kernel")}
        stem = kernels.get("conv1_conv")
        stem_by_kernel = {values.kernel: name for name, values in STEMS.items()}
        if stem is None or len(stem) != 4 or stem[0] != stem[1] or stem[0] not in stem_by_kernel:
            allowed = " or ".join(f"{size}x{size}" for size in sorted(stem_by_kernel))
            got = "none" if stem is None else f"a kernel of shape {list(stem)}"
            raise InputError(f"its first convolution must be {allowed}; got {got}")
        # (stage, block) -> number of the convolution in the block, 0 for the projection -> shape of the kernel.
        kernels_by_block: dict[tuple[int, int], dict[int, tuple[int, ...]]] = {}
        for layer, shape in kernels.items():
            match = LAYER.fullmatch(layer)
            if match and match["stage"]:
                position = int(match["stage"]), int(match["block"])
                kernels_by_block.setdefault(position, {})[int(match["number"])] = shape
        blocks: list[int] = []
        while (len(blocks) + 2, 1) in kernels_by_block:
            stage = len(blocks) + 2
            blocks.append(sum(number == stage for number, _ in kernels_by_block))
        positions = {(stage, block) for stage, count in enumerate(blocks, 2) for block in range(1, count + 1)}
        depths = {max(numbers) for numbers in kernels_by_block.values()}
        if (
            positions != set(kernels_by_block)
            or len(depths) != 1
            or not depths <= set(LAYERS_PER_BLOCK.values())
            or any(set(numbers) - {0} != set(range(1, max(depths) + 1)) for numbers in kernels_by_block.values())
        ):
            raise InputError("its blocks are not those of a residual network")
        block = next(name for name, count in LAYERS_PER_BLOCK.items() if count == max(depths))
        projections = {number for (_, number), numbers in kernels_by_block.items() if 0 in numbers}
        return cls(
            stem_by_kernel[stem[0]],
            block,
            tuple(kernels_by_block[stage, 1][1][-1] for stage in range(2, len(blocks) + 2)),
            tuple(blocks),
            shortcut=None if not projections else "B" if projections == {1} else "C",
        )

    @classmethod
    def of_model(cls, model: keras.Model) -> ArchitectureSpec | None:
        """Read the architecture of a model; None for a model that `keras_resnet.ResNet` did not build."""
        variables = named_variables(model)
        if variables is None:
            return None
        spec = cls.of_shapes({name: tuple(variable.shape) for name, variable in variables.items()})
        layers = {layer.name: layer for layer in model.layers}
        shortcut, zero_channels = spec.shortcut or "identity", None
        identity = next((layer for name, layer in layers.items() if name.endswith("_0_identity")), None)
        if "conv2_block1_add" not in layers:
            shortcut = "none"
        elif identity is not None:
            shortcut, zero_channels = "A", identity.zero_channels
        return dataclasses.replace(
            spec,
            strides=_strides(spec, layers),
            shortcut=shortcut,
            zero_channels=zero_channels,
            stride_in_1x1=_stride_in_1x1(spec, layers),
        )

    def to_json(self) -> str:
        """Return the specification as JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ArchitectureSpec:
        """Read the JSON of `to_json`; fields of later versions are ignored.

        Raises:
            ValueError: the text is not such JSON.
        """
        try:
            values = json.loads(text)
            stored = [values.get(field.name) for field in dataclasses.fields(cls)]
            arguments: list[Any] = [tuple(value) if isinstance(value, list) else value for value in stored]
            spec = cls(*arguments)
            hash(spec)  # raises TypeError for nested JSON
        except (TypeError, AttributeError, ValueError) as error:
            raise InputError(f"its architecture cannot be read: {error}") from error
        return spec

    def difference(self, network: ArchitectureSpec) -> str | None:
        """Describe the first difference of a file ("it"), `self`, from a network; None if no known values differ."""
        if (self.block, self.blocks) != (network.block, network.blocks):
            return f"it has {self._blocks()}, the network {network._blocks()}"
        for field in dataclasses.fields(self):
            in_file, in_network = getattr(self, field.name), getattr(network, field.name)
            if None in (in_file, in_network) or in_file == in_network:
                continue
            advice = ""
            if field.name in ("shortcut", "zero_channels", "stride_in_1x1") and in_file != "identity":
                in_file, in_network = (None if value == "none" else value for value in (in_file, in_network))
                advice = f"; build the network with {field.name}={in_file!r}"
            return f"it has {field.name} {in_file!r}, the network {in_network!r}{advice}"
        return None

    def complete(self, other: ArchitectureSpec) -> ArchitectureSpec:
        """Return a copy with unknown values taken from `other`."""
        known: dict[str, Any] = {name: value for name, value in vars(self).items() if value is not None}
        return dataclasses.replace(other, **known)

    @property
    def architecture(self) -> Architecture | None:
        """The network of the paper with this stem, stages and kind of shortcut (residual or plain), if there is one."""
        for net in ARCHITECTURES.values():
            same = (net.stem, net.block, tuple(s.filters for s in net.stages), tuple(s.blocks for s in net.stages))
            plain = net.shortcut is None
            if same == (self.stem, self.block, self.filters, self.blocks) and plain == (self.shortcut == "none"):
                return net
        return None

    def stages(self) -> tuple[Stage, ...]:
        """Return the stages for `ResNet`; unknown strides are assumed to be the paper's, 1 and then 2."""
        strides = self.strides or (1, *(2,) * (len(self.blocks) - 1))
        return tuple(Stage(*stage) for stage in zip(self.filters, self.blocks, strides, strict=True))

    def _blocks(self) -> str:
        return f"{'-'.join(map(str, self.blocks))} {self.block} blocks"


def named_variables(model: keras.Model) -> dict[str, Any] | None:
    """Return the variables of a network by "{layer}/{variable}"; None if the model is not a network of this package."""
    variables: dict[str, Any] = {}
    for layer in model.layers:
        if not layer.weights:
            continue
        kind = kind_of(layer.name)
        parts = PARTS[kind] if kind else ()
        parts = parts[:1] if kind == "conv" else parts
        if not parts or len(parts) != len(layer.weights) or getattr(layer, "layers", None):
            return None
        variables.update({f"{layer.name}/{part}": getattr(layer, part) for part in parts})
    return variables if STEM in variables else None


def _strides(spec: ArchitectureSpec, layers: Mapping[str, keras.layers.Layer]) -> tuple[int, ...] | None:
    """Return the strides of the stages; None if dilation replaces some of them."""
    strides = []
    for stage in range(2, len(spec.blocks) + 2):
        convolutions = [layers[f"conv{stage}_block1_{number}_conv"] for number in (1, 2)]
        strides.append(convolutions[0].strides[0] * convolutions[1].strides[0])
    dilated = any(layer.dilation_rate[0] > 1 for name, layer in layers.items() if name.endswith("_conv"))
    return None if dilated else tuple(strides)


def _stride_in_1x1(spec: ArchitectureSpec, layers: Mapping[str, keras.layers.Layer]) -> bool | None:
    """Return whether bottlenecks have their stride in the 1x1; None if the blocks are basic or have no stride."""
    if EXPANSION[spec.block] == 1:
        return None
    for stage in range(2, len(spec.blocks) + 2):
        for number in (1, 2):
            if layers[f"conv{stage}_block1_{number}_conv"].strides[0] > 1:
                return number == 1
    return None
