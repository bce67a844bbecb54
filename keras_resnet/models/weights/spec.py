"""What a network is, read from a model or from the tensors of a weights file, so that the two can be compared.

Shapes alone do not tell a plain network from one with parameter-free shortcuts, nor v1 from v1.5.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping

import keras

from keras_resnet.errors import InputError
from keras_resnet.models.architectures import ARCHITECTURES, EXPANSION, LAYERS_PER_BLOCK, STEMS, Architecture, Stage

STEM = "conv1_conv/kernel"
"""The variable that every network of this package has, whatever its depth."""

PARTS = {
    "conv": ("kernel", "bias"),
    "bn": ("gamma", "beta", "moving_mean", "moving_variance"),
    "predictions": ("kernel", "bias"),
}
"""Kind of layer -> its variables in the order in which Keras keeps them; our convolutions have no bias."""

LAYER = re.compile(r"conv1_(?P<stem>conv|bn)|conv(?P<stage>\d+)_block(?P<block>\d+)_(?P<number>\d)_(?P<kind>conv|bn)")
"""Names of the layers with variables, the classifier `predictions` not counted."""


def kind_of(layer: str) -> str | None:
    """The key of `PARTS` for a layer's name; None for a layer that our networks do not have."""
    if layer == "predictions":
        return layer
    match = LAYER.fullmatch(layer)
    return match and (match["stem"] or match["kind"])


@dataclasses.dataclass(frozen=True)
class ArchitectureSpec:
    """One network; None stands for what is not known.

    Attributes:
        stem: key of `STEMS`.
        block: "basic" or "bottleneck".
        filters: filters of the 3x3 convolutions of each stage.
        blocks: number of blocks of each stage.
        strides: stride of each stage.
        shortcut: "A" (zero channels), "B" (projections in first blocks), "C" (in others too), "identity" (nothing
            changes) or "none" (plain).
        zero_channels: where option A puts its zeros, "halves" or "after".
        stride_in_1x1: whether bottlenecks have their stride in the first 1x1 (v1) or in the 3x3 (v1.5).
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
        """Read what shapes tell.

        Args:
            shapes: "{layer}/{variable}", as our layers are named, -> shape.

        Raises:
            ValueError: they are not those of a residual or plain network.
        """
        kernels = {name.removesuffix("/kernel"): shape for name, shape in shapes.items() if name.endswith("/kernel")}
        stem = kernels.get("conv1_conv")
        by_kernel = {entry.kernel: name for name, entry in STEMS.items()}
        if stem is None or len(stem) != 4 or stem[0] != stem[1] or stem[0] not in by_kernel:
            allowed = " or ".join(f"{size}x{size}" for size in sorted(by_kernel))
            raise InputError(f"the first convolution must be {allowed}; it is {stem and stem[:2]}")
        found: dict[tuple[int, int], dict[int, tuple[int, ...]]] = {}
        for layer, shape in kernels.items():
            match = LAYER.fullmatch(layer)
            if match and match["stage"]:
                place = int(match["stage"]), int(match["block"])
                found.setdefault(place, {})[int(match["number"])] = shape
        blocks = []
        while (len(blocks) + 2, 1) in found:
            stage = len(blocks) + 2
            blocks.append(sum(number == stage for number, _ in found))
        names = {(stage, block) for stage, count in enumerate(blocks, 2) for block in range(1, count + 1)}
        depths = {max(numbers) for numbers in found.values()}
        if not blocks or names != set(found) or len(depths) != 1 or not depths <= set(LAYERS_PER_BLOCK.values()):
            raise InputError("its blocks are not those of a residual network")
        (depth,) = depths
        block = next(name for name, count in LAYERS_PER_BLOCK.items() if count == depth)
        if any(set(numbers) - {0} != set(range(1, depth + 1)) for numbers in found.values()):
            raise InputError("its blocks are not those of a residual network")
        projections = {number for (_, number), numbers in found.items() if 0 in numbers}
        return cls(
            by_kernel[stem[0]],
            block,
            tuple(found[stage, 1][1][-1] for stage in range(2, len(blocks) + 2)),
            tuple(blocks),
            shortcut=None if not projections else "B" if projections == {1} else "C",
        )

    @classmethod
    def of_model(cls, model: keras.Model) -> ArchitectureSpec | None:
        """Read a built model; None for a model that `keras_resnet.ResNet` did not build."""
        variables = slots(model)
        if variables is None:
            return None
        shape = cls.of_shapes({name: tuple(variable.shape) for name, variable in variables.items()})
        layers = {layer.name: layer for layer in model.layers}
        residual = {
            "strides": _strides(shape, layers),
            "shortcut": shape.shortcut or "identity",
            "stride_in_1x1": _stride_in_1x1(shape, layers),
        }
        identity = next((layer for name, layer in layers.items() if name.endswith("_0_identity")), None)
        if "conv2_block1_add" not in layers:
            residual["shortcut"] = "none"
        elif identity is not None:
            residual.update(shortcut="A", zero_channels=identity.zero_channels)
        return dataclasses.replace(shape, **residual)

    def to_json(self) -> str:
        """Return the fingerprint as JSON text."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ArchitectureSpec:
        """Read what `to_json` wrote; fields of later versions are passed over.

        Raises:
            ValueError: it is not that.
        """
        try:
            values = json.loads(text)
            known = {field.name: values.get(field.name) for field in dataclasses.fields(cls)}
            made = cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in known.items()})
            hash(made)
        except (TypeError, AttributeError, ValueError) as error:
            raise InputError(f"its fingerprint cannot be read: {error}") from error
        return made

    def difference(self, other: ArchitectureSpec) -> str | None:
        """Say in what `self`, of a file, differs from `other`, of a network; None where nothing known does."""
        if (self.block, self.blocks) != (other.block, other.blocks):
            return f"it is of {self._shape()}, the network of {other._shape()}"
        for field in dataclasses.fields(self):
            mine, others = getattr(self, field.name), getattr(other, field.name)
            if None in (mine, others) or mine == others:
                continue
            advice = ""
            if field.name in ("shortcut", "zero_channels", "stride_in_1x1") and mine != "identity":
                mine, others = (None if value == "none" else value for value in (mine, others))
                advice = f"; build the network with {field.name}={mine!r}"
            return f"it has {field.name} {mine!r}, the network {others!r}{advice}"
        return None

    def complete(self, other: ArchitectureSpec) -> ArchitectureSpec:
        """Fill what is not known here with what `other` knows."""
        mine = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        return dataclasses.replace(other, **mine)

    @property
    def architecture(self) -> Architecture | None:
        """The network of the paper that has these stages, plain or residual; None for another."""
        for net in ARCHITECTURES.values():
            same = (net.stem, net.block, tuple(s.filters for s in net.stages), tuple(s.blocks for s in net.stages))
            plain = net.shortcut is None
            if same == (self.stem, self.block, self.filters, self.blocks) and plain == (self.shortcut == "none"):
                return net
        return None

    def stages(self) -> tuple[Stage, ...]:
        """The stages for the builder; strides that are not known are the paper's, 1 and then 2."""
        strides = self.strides or (1, *(2,) * (len(self.blocks) - 1))
        return tuple(Stage(*stage) for stage in zip(self.filters, self.blocks, strides, strict=True))

    def _shape(self) -> str:
        return f"{'-'.join(map(str, self.blocks))} {self.block} blocks"


def slots(model: keras.Model) -> dict[str, keras.Variable] | None:
    """The variables of a network by "{layer}/{variable}"; None for a model that has others or lacks the stem."""
    found = {}
    for layer in model.layers:
        if not layer.weights:
            continue
        kind = kind_of(layer.name)
        parts = PARTS[kind] if kind else ()
        parts = parts[:1] if kind == "conv" else parts
        if not parts or len(parts) != len(layer.weights) or getattr(layer, "layers", None):
            return None
        found.update({f"{layer.name}/{part}": getattr(layer, part) for part in parts})
    return found if STEM in found else None


def _strides(shape: ArchitectureSpec, layers: Mapping[str, keras.layers.Layer]) -> tuple[int, ...] | None:
    """The strides of the stages; None where dilation took the place of some."""
    strides = []
    for stage in range(2, len(shape.blocks) + 2):
        convolutions = [layers[f"conv{stage}_block1_{number}_conv"] for number in (1, 2)]
        strides.append(convolutions[0].strides[0] * convolutions[1].strides[0])
    dilated = any(layer.dilation_rate[0] > 1 for name, layer in layers.items() if name.endswith("_conv"))
    return None if dilated else tuple(strides)


def _stride_in_1x1(shape: ArchitectureSpec, layers: Mapping[str, keras.layers.Layer]) -> bool | None:
    """Where bottlenecks have their stride; None where no block has one."""
    if EXPANSION[shape.block] == 1:
        return None
    for stage in range(2, len(shape.blocks) + 2):
        for number in (1, 2):
            if layers[f"conv{stage}_block1_{number}_conv"].strides[0] > 1:
                return number == 1
    return None
