"""Parameters and multiply-adds of networks: tables in the form of the paper's Table 1 and Table 6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    """Return architectures by their names in any case; all networks of the paper if `names` is empty.

    Raises:
        ValueError: a name is unknown.
    """
    return [find(name, "networks") for name in names or ARCHITECTURES]


def costs(architecture: Architecture, **options: Any) -> dict[str, Any]:
    """Return layers, input size, parameters and multiply-adds per image of a network.

    Args:
        architecture: the network.
        **options: `shortcut`, `stride_in_1x1`, `input_size` and `classes` of `Architecture.convolutions`.
    """
    return {
        "network": architecture.name,
        "layers": architecture.depth,
        "input": options.get("input_size") or architecture.input_size,
        "parameters": architecture.parameters(**options),
        "multiply_adds": architecture.multiply_adds(**options),
    }


def size_table(architectures: Sequence[Architecture], **options: Any) -> str:
    """Return a Markdown table of layers, parameters and multiply-adds, such as Table 6 for CIFAR-10."""
    lines = ["| network | layers | input | parameters | multiply-adds |", "|---|---:|---:|---:|---:|"]
    for architecture in architectures:
        cost = costs(architecture, **options)
        lines.append(
            f"| {cost['network']} | {cost['layers']} | {cost['input']} | {cost['parameters']:,} "
            f"| {cost['multiply_adds'] / 1e6:,.1f}e6 |"
        )
    return "\n".join(lines)


def stage_table(architectures: Sequence[Architecture], **options: Any) -> str:
    """Return a Markdown table in the form of Table 1, with a row for each stage and a column for each network.

    Each cell lists a stage's blocks, parameters and multiply-adds.

    Raises:
        ValueError: the networks have different stems.
    """
    stems = {architecture.stem for architecture in architectures}
    if len(stems) != 1:
        raise InputError(f"networks must be all for ImageNet or all for CIFAR-10; got {', '.join(sorted(stems))}.")
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
    total_cells = [_cost(total["parameters"], total["multiply_adds"]) for total in totals]
    return "\n".join([*lines, "| all | | " + " | ".join(total_cells) + " |"])


def _stages(architecture: Architecture, options: dict[str, Any]) -> list[tuple[int, str, str]]:
    """Return (output size, layers, cost) of conv1, each stage and the classifier."""
    stem = STEMS[architecture.stem]
    names = ["conv1", *(f"conv{number}" for number in range(2, len(architecture.stages) + 2)), "predictions"]
    pool = " (3x3 max pool, stride 2)" if stem.pool else ""
    shapes = [
        f"{stem.kernel}x{stem.kernel}, {stem.filters}, stride {stem.stride}",
        *(_blocks(architecture.block, stage) for stage in architecture.stages),
        "average pool, fully connected",
    ]
    shapes[1] += pool
    rows = []
    for name, shape in zip(names, shapes, strict=True):
        convolutions = [conv for conv in architecture.convolutions(**options) if conv.name.startswith(name)]
        parameters = sum(conv.parameters + conv.filters * (1 if name == "predictions" else 2) for conv in convolutions)
        cost = _cost(parameters, sum(conv.multiply_adds for conv in convolutions))
        rows.append((convolutions[-1].height, shape, cost))
    return rows


def _blocks(block: str, stage: Stage) -> str:
    layers = [f"3x3, {stage.filters}"] * LAYERS_PER_BLOCK["basic"]
    if block == "bottleneck":
        layers = [f"1x1, {stage.filters}", f"3x3, {stage.filters}", f"1x1, {stage.filters * EXPANSION[block]}"]
    return f"[{'; '.join(layers)}] x{stage.blocks}"


def _cost(parameters: int, multiply_adds: int) -> str:
    return f"({parameters / 1e6:.2f}M, {multiply_adds / 1e6:.0f}e6)"
