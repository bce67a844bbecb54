"""The tensor names of weight files: a table of conventions, and the conversion from and to this package's names."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_resnet.models.layers import BATCH_NORM_EPSILON
from keras_resnet.models.weights.spec import LAYER, PARTS, kind_of

KERAS = {part: part for parts in PARTS.values() for part in parts}
TORCH = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


@dataclasses.dataclass(frozen=True)
class Naming:
    """The tensor names of one convention.

    Attributes:
        name: name of the convention.
        stem: names of the first convolution and its batch norm.
        block: names of a convolution of a block and its batch norm; `{stage}`, `{block}` and `{number}` count from
            `first`.
        shortcut: names of a projection and its batch norm.
        head: name of the classifier.
        first: numbers of the first stage, block and convolution.
        parts: this package's name of a variable -> name in the convention.
        conv_bias: whether convolutions have a bias, which is folded into the batch norm.
        epsilon: epsilon of batch norm.
        implies: fields of `ArchitectureSpec` that networks of this convention have if the file does not state them.
        mode: preprocessing that such weights usually require, a key of `normalization.MODES`.
        letters: whether blocks and their convolutions are counted by letters; from the second block on, "b1", "b2", ...
            are read too.
    """

    name: str
    stem: tuple[str, str]
    block: tuple[str, str]
    shortcut: tuple[str, str]
    head: str
    first: tuple[int, int, int]
    parts: dict[str, str]
    conv_bias: bool = False
    epsilon: float = 1e-5
    implies: dict[str, Any] = dataclasses.field(default_factory=dict)
    mode: str | None = None
    letters: bool = False

    def layer(self, ours: str) -> str:
        """Convert a layer name of this package to the convention."""
        if ours == "predictions":
            return self.head
        match = LAYER.fullmatch(ours)
        assert match, ours
        if match["stem"]:
            return self.stem[match["stem"] == "bn"]
        number = int(match["number"])
        template = (self.block if number else self.shortcut)[match["kind"] == "bn"]
        stage, block, first = self.first
        counts: tuple[Any, Any] = int(match["block"]) - 1 + block, number - 1 + first
        if self.letters:
            counts = chr(ord("a") - 1 + counts[0]), chr(ord("a") - 1 + counts[1])
        return template.format(stage=int(match["stage"]) - 2 + stage, block=counts[0], number=counts[1])

    def tensor(self, ours: str) -> str:
        """Convert a variable name of this package, "{layer}/{variable}", to the convention."""
        layer, part = ours.split("/")
        return f"{self.layer(layer)}{'/' if self.parts is KERAS else '.'}{self.parts[part]}"

    @functools.cached_property
    def _patterns(self) -> list[tuple[re.Pattern, str]]:
        """Pairs of a pattern for the convention's layer names and a template of this package's name."""
        counters = {name: rf"(?P<{name}>0|[1-9]\d{{0,3}})" for name in ("stage", "block", "number")}
        if self.letters:
            counters |= {"block": r"(?P<block>[a-z]|b[1-9]\d{0,2})", "number": "(?P<number>[a-c])"}
        rows = [(self.head, "predictions")]
        for index, kind in enumerate(("conv", "bn")):
            rows.append((self.stem[index], f"conv1_{kind}"))
            rows.append((self.shortcut[index], f"conv{{stage}}_block{{block}}_0_{kind}"))
            rows.append((self.block[index], f"conv{{stage}}_block{{block}}_{{number}}_{kind}"))
        return [
            (re.compile(re.sub(r"\\\{(\w+)\\\}", lambda m: counters[m[1]], re.escape(theirs))), ours)
            for theirs, ours in rows
        ]

    def ours(self, theirs: str) -> str | None:
        """Convert a tensor name of the convention to "{layer}/{variable}"; None if it is not one."""
        layer, _, part = theirs.rpartition("/" if self.parts is KERAS else ".")
        for pattern, template in self._patterns:
            if match := pattern.fullmatch(layer):
                stage, block, number = self.first
                origin = {"stage": stage - 2, "block": block - 1, "number": number - 1}
                ours = template.format(
                    **{name: _count(text) - origin[name] for name, text in match.groupdict().items()}
                )
                for name in PARTS[kind_of(ours) or ""]:
                    if self.parts[name] == part:
                        return f"{ours}/{name}"
        return None


def _count(text: str) -> int:
    """Return the number of a counter: "3" and "c" are 3, "b3" is 4."""
    if text.isdecimal():
        return int(text)
    return 1 + int(text[1:]) if len(text) > 1 else ord(text) - ord("a") + 1


_OURS: dict[str, Any] = {
    "stem": ("conv1_conv", "conv1_bn"),
    "block": ("conv{stage}_block{block}_{number}_conv", "conv{stage}_block{block}_{number}_bn"),
    "shortcut": ("conv{stage}_block{block}_0_conv", "conv{stage}_block{block}_0_bn"),
    "head": "predictions",
    "first": (2, 1, 1),
    "parts": KERAS,
}
_TORCHVISION: dict[str, Any] = {
    "stem": ("conv1", "bn1"),
    "block": ("layer{stage}.{block}.conv{number}", "layer{stage}.{block}.bn{number}"),
    "first": (1, 0, 1),
    "parts": TORCH,
    "mode": "torch",
}

KERAS_RESNET = Naming("keras_resnet", **_OURS)
TORCHVISION = Naming(
    "torchvision",
    **_TORCHVISION,
    shortcut=("layer{stage}.{block}.downsample.0", "layer{stage}.{block}.downsample.1"),
    head="fc",
    implies={"stride_in_1x1": False},
)
NAMINGS = (
    KERAS_RESNET,
    Naming(
        "keras.applications",
        **_OURS,
        conv_bias=True,
        epsilon=1.001e-5,
        implies={"stride_in_1x1": True},
        mode="caffe",
    ),
    Naming(
        "Keras before 2.2",
        stem=("conv1", "bn_conv1"),
        block=("res{stage}{block}_branch2{number}", "bn{stage}{block}_branch2{number}"),
        shortcut=("res{stage}{block}_branch1", "bn{stage}{block}_branch1"),
        head="fc1000",
        first=(2, 1, 1),
        parts=KERAS,
        conv_bias=True,
        epsilon=1e-3,
        implies={"stride_in_1x1": True},
        mode="caffe",
        letters=True,
    ),
    TORCHVISION,
    Naming(
        "akamaster",
        **_TORCHVISION,
        shortcut=("layer{stage}.{block}.shortcut.0", "layer{stage}.{block}.shortcut.1"),
        head="linear",
        implies={"shortcut": "A", "zero_channels": "halves"},
    ),
    Naming(
        "Hugging Face",
        stem=("embedder.embedder.convolution", "embedder.embedder.normalization"),
        block=(
            "encoder.stages.{stage}.layers.{block}.layer.{number}.convolution",
            "encoder.stages.{stage}.layers.{block}.layer.{number}.normalization",
        ),
        shortcut=(
            "encoder.stages.{stage}.layers.{block}.shortcut.convolution",
            "encoder.stages.{stage}.layers.{block}.shortcut.normalization",
        ),
        head="classifier.1",
        first=(0, 0, 0),
        parts=TORCH,
        implies={"stride_in_1x1": False},
        mode="torch",
    ),
)
"""All supported conventions; timm uses torchvision's."""


def to_ours(name: str, array: np.ndarray, naming: Naming) -> np.ndarray:
    """Convert a tensor to Keras' layout: kernels of PyTorch from [out,in,h,w] to [h,w,in,out].

    Args:
        name: this package's name of the variable.
        array: the tensor as in the file.
        naming: convention of the file.
    """
    if naming.parts is TORCH and name.endswith("/kernel"):
        return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    return array


def to_theirs(arrays: dict[str, np.ndarray], naming: Naming = TORCHVISION) -> Iterator[tuple[str, np.ndarray]]:
    """Convert the names and layouts of a network's variables to those of PyTorch.

    Args:
        arrays: "{layer}/{variable}" -> array.
        naming: a convention of PyTorch.

    Yields:
        Pairs of a name and an array.
    """
    for name, array in arrays.items():
        if name.endswith("/kernel"):
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        yield naming.tensor(name), np.ascontiguousarray(array)


def epsilon_difference(naming: Naming) -> float:
    """Return what to add to the moving variance, since batch norm of this package has its own epsilon."""
    return naming.epsilon - BATCH_NORM_EPSILON
