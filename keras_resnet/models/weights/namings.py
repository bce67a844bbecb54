"""How weight files name their tensors: one row of the table for each convention, and the way between them and us."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator

import numpy as np

from keras_resnet.errors import InputError
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
    """The names of one convention.

    Attributes:
        name: what it is called.
        stem: names of the first convolution and its batch norm.
        block: names of a block's convolution and batch norm; `{stage}`, `{block}` and `{number}` count from `first`.
        shortcut: names of a projection and its batch norm.
        head: name of the classifier.
        first: what the first stage, block and convolution are counted as.
        parts: our name of a variable -> theirs.
        conv_bias: whether convolutions have a bias, which is folded into the batch norm.
        epsilon: what its batch norm adds to the variance.
        implies: what networks of this naming are, where the file does not say: fields of a `ArchitectureSpec`.
        mode: the preprocessing that its weights are usually made for, a key of `normalization.MODES`.
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
    implies: dict[str, object] = dataclasses.field(default_factory=dict)
    mode: str | None = None

    def layer(self, ours: str) -> str:
        """Their name of one of our layers."""
        if ours == "predictions":
            return self.head
        match = LAYER.fullmatch(ours)
        if match["stem"]:
            return self.stem[match["stem"] == "bn"]
        number = int(match["number"])
        template = (self.block if number else self.shortcut)[match["kind"] == "bn"]
        stage, block, first = self.first
        return template.format(
            stage=int(match["stage"]) - 2 + stage, block=int(match["block"]) - 1 + block, number=number - 1 + first
        )

    def tensor(self, ours: str) -> str:
        """Their name of one of our variables, "{layer}/{variable}"."""
        layer, part = ours.split("/")
        return f"{self.layer(layer)}{'/' if self.parts is KERAS else '.'}{self.parts[part]}"

    @functools.cached_property
    def _patterns(self) -> list[tuple[re.Pattern, str]]:
        """Pattern of their layer name -> template of ours."""
        counters = {name: rf"(?P<{name}>0|[1-9]\d{{0,3}})" for name in ("stage", "block", "number")}
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
        """Our name of one of their tensors; None for a name that is none of theirs."""
        layer, _, part = theirs.rpartition("/" if self.parts is KERAS else ".")
        for pattern, template in self._patterns:
            if match := pattern.fullmatch(layer):
                stage, block, number = self.first
                origin = {"stage": stage - 2, "block": block - 1, "number": number - 1}
                ours = template.format(**{name: int(text) - origin[name] for name, text in match.groupdict().items()})
                for name in PARTS[kind_of(ours)]:
                    if self.parts[name] == part:
                        return f"{ours}/{name}"
        return None


_OURS = {
    "stem": ("conv1_conv", "conv1_bn"),
    "block": ("conv{stage}_block{block}_{number}_conv", "conv{stage}_block{block}_{number}_bn"),
    "shortcut": ("conv{stage}_block{block}_0_conv", "conv{stage}_block{block}_0_bn"),
    "head": "predictions",
    "first": (2, 1, 1),
    "parts": KERAS,
}
_TORCHVISION = {
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
"""Every naming that is read; timm's is torchvision's."""

WRAPPERS = ("module.", "resnet.")
"""Prefixes that `torch.nn.DataParallel` and Hugging Face's classifier put before all or most names."""


def identify(names: Iterable[str]) -> tuple[Naming, dict[str, str]]:
    """Find the naming of a file's tensors.

    Args:
        names: their names; batch norm's step counters are passed over.

    Returns:
        The naming, and our name -> theirs, biases of convolutions among them.

    Raises:
        ValueError: some are of no known naming.
    """
    bare = {name: _unwrapped(name) for name in names if not name.endswith(".num_batches_tracked")}
    best, unknown = None, None
    for naming in NAMINGS:
        mapped = {original: naming.ours(name) for original, name in bare.items()}
        biases = [original for original, ours in mapped.items() if ours and ours.endswith("_conv/bias")]
        if naming.conv_bias and not biases:
            continue
        strangers = [original for original, ours in mapped.items() if ours is None]
        strangers += [] if naming.conv_bias else biases
        if not strangers and len(set(mapped.values())) == len(bare):
            return naming, {ours: original for original, ours in mapped.items()}
        if best is None or len(strangers) < best:
            best, unknown = len(strangers), strangers
    allowed = ", ".join(naming.name for naming in NAMINGS)
    example = f"its tensor {unknown[0]!r} is" if unknown else "its tensors are"
    raise InputError(f"{example} not one of a residual network as named by {allowed} or timm")


def _unwrapped(name: str) -> str:
    for prefix in WRAPPERS:
        name = name.removeprefix(prefix)
    return name


def to_ours(name: str, array: np.ndarray, naming: Naming) -> np.ndarray:
    """Turn a tensor of a PyTorch naming into Keras' layout: kernels [out,in,h,w] -> [h,w,in,out]."""
    if naming.parts is TORCH and name.endswith("/kernel"):
        return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    return array


def to_theirs(arrays: dict[str, np.ndarray], naming: Naming = TORCHVISION) -> Iterator[tuple[str, np.ndarray]]:
    """Name and lay out a network's variables for PyTorch.

    Args:
        arrays: "{layer}/{variable}" -> array.
        naming: a naming of PyTorch.
    """
    for name, array in arrays.items():
        if name.endswith("/kernel"):
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        yield naming.tensor(name), np.ascontiguousarray(array)


def epsilon_difference(naming: Naming) -> float:
    """What the variance must grow by so that our batch norm, with our epsilon, computes the same."""
    return naming.epsilon - BATCH_NORM_EPSILON
