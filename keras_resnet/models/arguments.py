"""Arguments of the constructors under the names of other packages, and their documentation."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterable
from typing import ParamSpec, TypeVar

from keras_resnet.errors import did_you_mean

P = ParamSpec("P")
R = TypeVar("R")

OTHER_NAMES = {
    "classes": ("num_classes", "n_classes", "nb_classes", "num_labels", "num_outputs", "output_dim"),
    "weights": ("pretrained", "pretrained_weights", "checkpoint", "checkpoint_path", "ckpt", "load_weights"),
    "include_top": ("include_head", "include_classifier", "top", "head", "include_rescaling"),
    "input_shape": (
        *("in_chans", "in_channels", "num_channels", "channels", "input_channels"),
        *("img_size", "image_size", "input_size", "image_shape", "size"),
    ),
    "input_tensor": ("inputs", "input"),
    "pooling": ("global_pool", "pool", "avgpool"),
    "classifier_activation": ("activation", "classifier_act", "head_activation", "final_activation", "top_activation"),
    "drop_path_rate": ("drop_path", "stochastic_depth", "stochastic_depth_prob", "survival_probability"),
    "zero_init_residual": ("zero_init_last", "zero_init_last_bn", "zero_gamma"),
    "batch_norm_momentum": ("bn_momentum", "norm_momentum", "momentum"),
    "synchronized": ("sync_bn", "use_sync_bn", "synchronized_norm", "synchronized_bn"),
    "output_stride": ("dilation", "dilated", "replace_stride_with_dilation", "dilation_rate"),
    "recompute": ("grad_checkpointing", "gradient_checkpointing", "use_checkpoint", "remat", "checkpointing"),
    "dtype": ("precision", "mixed_precision", "policy", "dtype_policy", "torch_dtype"),
    "stages": ("layers", "depths", "blocks", "block_layers", "stackwise_num_blocks"),
    "block": ("block_type", "block_fn"),
    "name": ("model_name",),
}
"""Argument -> its names in timm, torchvision, KerasHub, Hugging Face and configurations of this package."""

NOTES = {
    "pretrained": "weights='imagenet' for pretrained=True",
    "weights": "weights='imagenet' or the path of a file",
    "input_shape": "input_shape=(height, width, channels)",
    "output_stride": "output_stride=16 or 8",
    "dtype": "dtype='mixed_bfloat16' or another policy",
}
"""Argument, or other name of one, -> how to write it."""


def advice(given: str, allowed: Collection[str]) -> str:
    """Return what to write instead of an unknown argument, as an appendix to an error message."""
    for name, others in OTHER_NAMES.items():
        if given in others and name in allowed:
            return f"; use {NOTES.get(given) or NOTES.get(name) or name}"
    return did_you_mean(given, allowed)


def check_names(
    function: str,
    given: Iterable[str],
    allowed: Collection[str],
    advice: Callable[[str, Collection[str]], str] = advice,
) -> None:
    """Raise `TypeError` for the first unknown keyword argument, as Python does, with the argument that is meant."""
    for name in given:
        if name not in allowed:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}{advice(name, allowed)}")


def hinted(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function that is called with an unknown keyword argument name the argument that is meant."""
    parameters = inspect.signature(function).parameters

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        check_names(function.__name__, kwargs, parameters)
        return function(*args, **kwargs)

    return checked


def described(documented: Callable, names: Iterable[str]) -> str:
    """Return the sections of a docstring from "Args:" on, with the entries of some arguments only.

    Args:
        documented: a function with a docstring in Google's style.
        names: the arguments to keep.
    """
    text = inspect.getdoc(documented) or ""
    _, _, rest = text.partition("\nArgs:\n")
    if not rest:
        return ""
    arguments, _, following = rest.partition("\n\n")
    entries = re.split(r"\n(?=    \w+: )", arguments)
    kept = [entry for entry in entries if re.match(r" *(\w+)", entry)[1] in names]  # type: ignore[index]
    return "\n".join(["Args:", *kept]) + f"\n\n{following}"
