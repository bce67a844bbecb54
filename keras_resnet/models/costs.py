"""What networks cost: the paper's Table 1, and the sizes of Table 6, from the architectures."""

from __future__ import annotations

from collections.abc import Sequence

from keras_resnet.errors import InputError
from keras_resnet.models.architectures import (
    ARCHITECTURES,
    EXPANSION,
    LAYERS_PER_BLOCK,
    STEMS,
    Architecture,
    Stage,
    find,
)


def networks(names: Sequence[str]) -> list[Architecture]:
    """Find architectures by name, in any case; by default all.

    Raises:
        ValueError: no such network.
    """
    return [find(name) for name in names or ARCHITECTURES]


def costs(architecture: Architecture, **options) -> dict:
    """Layers, parameters and multiply-adds of one image.

    Args:
        architecture: the network.
        **options: `shortcut`, `stride_in_1x1`, `input_size`, `classes`, as for `Architecture.convolutions`.
    """
    return {
        "network": architecture.name,
        "layers": architecture.depth,
        "input": options.get("input_size") or architecture.input_size,
        "parameters": architecture.parameters(**options),
        "multiply_adds": architecture.multiply_adds(**options),
    }


def size_table(architectures: Sequence[Architecture], **options) -> str:
    """Return a Markdown table of layers, parameters and multiply-adds, as Table 6 has for CIFAR-10."""
    lines = ["| network | layers | input | parameters | multiply-adds |", "|---|---:|---:|---:|---:|"]
    for architecture in architectures:
        cost = costs(architecture, **options)
        lines.append(
            f"| {cost['network']} | {cost['layers']} | {cost['input']} | {cost['parameters']:,} "
            f"| {cost['multiply_adds'] / 1e6:,.1f}e6 |"
        )
    return "\n".join(lines)


def stage_table(architectures: Sequence[Architecture], **options) -> str:
    """Return a Markdown table with a row for each stage and a column for each network, as Table 1.

    A cell has the stage's blocks, its parameters and its multiply-adds; networks must have the same stem.

    Raises:
        ValueError: networks of ImageNet and of CIFAR-10 together.
    """
    stems = {architecture.stem for architecture in architectures}
    if len(stems) != 1:
        raise InputError("networks of one table must be all for ImageNet or all for CIFAR-10.")
    stages = len(architectures[0].stages)
    rows = ["conv1", *(f"conv{number}_x" for number in range(2, stages + 2)), "predictions"]
    lines = [
        "| stage | output | " + " | ".join(architecture.name for architecture in architectures) + " |",
        "|---|---:" + "|---" * len(architectures) + "|",
    ]
    columns = [_stages(architecture, options) for architecture in architectures]
    for number, row in enumerate(rows):
        cells = [f"{shape} {cost}" for _, shape, cost in (column[number] for column in columns)]
        lines.append(f"| {row} | {columns[0][number][0]} | " + " | ".join(cells) + " |")
    totals = [costs(architecture, **options) for architecture in architectures]
    whole = [_cost(total["parameters"], total["multiply_adds"]) for total in totals]
    return "\n".join([*lines, "| all | | " + " | ".join(whole) + " |"])


def _stages(architecture: Architecture, options: dict) -> list[tuple[int, str, str]]:
    """Output side, layers and cost of conv1, of each stage and of the classifier."""
    stem = STEMS[architecture.stem]
    names = ["conv1", *(f"conv{number}" for number in range(2, len(architecture.stages) + 2)), "predictions"]
    pool = " (3x3 max pool, stride 2)" if stem.pool else ""
    shapes = [
        f"{stem.kernel}x{stem.kernel}, {stem.filters}, stride {stem.stride}",
        *(_blocks(architecture.block, stage) for stage in architecture.stages),
        "average pool, fully connected",
    ]
    shapes[1] += pool
    found = []
    for name, shape in zip(names, shapes, strict=True):
        own = [conv for conv in architecture.convolutions(**options) if conv.name.startswith(name)]
        parameters = sum(conv.parameters + conv.filters * (1 if name == "predictions" else 2) for conv in own)
        found.append((own[-1].height, shape, _cost(parameters, sum(conv.multiply_adds for conv in own))))
    return found


def _blocks(block: str, stage: Stage) -> str:
    layers = [f"3x3, {stage.filters}"] * LAYERS_PER_BLOCK["basic"]
    if block == "bottleneck":
        layers = [f"1x1, {stage.filters}", f"3x3, {stage.filters}", f"1x1, {stage.filters * EXPANSION[block]}"]
    return f"[{'; '.join(layers)}] x{stage.blocks}"


def _cost(parameters: int, multiply_adds: int) -> str:
    return f"({parameters / 1e6:.2f}M, {multiply_adds / 1e6:.0f}e6)"
