"""Find the network in a file by the names of its tensors, wherever it is nested and whatever is stored with it.

The tensors of nested dictionaries have names such as "state_dict.module.conv1.weight": what precedes the names of a
naming convention is the prefix of a network. A file may have several networks, for example with averaged weights.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping

from keras_resnet.errors import InputError, did_you_mean, listed
from keras_resnet.models.weights.namings import KERAS, NAMINGS, Naming
from keras_resnet.models.weights.spec import LAYER, STEM

Shapes = Mapping[str, tuple[int, ...]]
"""Name of a tensor -> its shape in the file."""

AVERAGED = re.compile(r"(?:^|[._/])(?:ema|averaged?|avg|swa|shadow|polyak)(?:$|[._/])", re.IGNORECASE)
"""Prefixes of averaged weights, such as "state_dict_ema." and "ema_model.module."."""

IGNORED = "num_batches_tracked"
"""Last part of the names of batch norm's step counters."""

WRAPPERS = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Parts that PyTorch's wrappers of single modules insert into names: "layer1.0._fsdp_wrapped_module.conv1.weight"."""

SHOWN = 6
"""Names in a message."""


@dataclasses.dataclass(frozen=True)
class Network:
    """A residual or plain network in a file.

    Attributes:
        naming: naming convention of its tensors.
        prefix: what precedes all names of its backbone.
        names: "{layer}/{variable}" of this package -> name in the file, with the biases of convolutions.
        head: layers of a head that is not one linear classifier of the backbone's features.
        note: which of several networks in the file this is, for the log; "" if it is the only one.
    """

    naming: Naming
    prefix: str
    names: dict[str, str]
    head: tuple[str, ...] = ()
    note: str = ""


def identify(shapes: Shapes, weights_key: str | None = None) -> Network:
    """Find the network in a file; with averaged weights and others in it, the averaged ones.

    Args:
        shapes: all tensors of the file; the step counters of batch norm are ignored.
        weights_key: part of the prefix of the network to take, if the file has several: "state_dict_ema", "encoder_q".

    Raises:
        ValueError: there is no network that a convention covers, or there are several to choose from.
    """
    shapes = {name: shape for name, shape in shapes.items() if not name.endswith(IGNORED)}
    networks, problem = _networks(shapes)
    if not networks:
        allowed = ", ".join(naming.name for naming in NAMINGS)
        subject = f"its tensor {problem!r} is" if problem else "its tensors are"
        known = f"not named as in a residual network of {allowed} or timm"
        raise InputError(f"{subject} {known}; its names begin with {_beginnings(shapes)}")
    network = _chosen(networks, weights_key)
    return _with_head(network, shapes, [other.prefix for other in networks if other is not network])


def _networks(shapes: Shapes) -> tuple[list[Network], str | None]:
    """Return the networks in a file, and the first tensor that does not fit if there are none."""
    networks: list[Network] = []
    problem, claimed = next(iter(shapes), None), set[str]()
    for prefix, stem in sorted(_prefixes(shapes)):
        if stem in claimed:  # the first convolution of a block of a network with a shorter prefix
            continue
        own = {WRAPPERS.sub("", name[len(prefix) :]): name for name in shapes if name.startswith(prefix)}
        found = [_match(naming, prefix, own, shapes) for naming in NAMINGS]
        fitting = [network for network, unknown in found if network and not unknown]
        unfit = [(network, unknown) for network, unknown in found if network and unknown]
        if fitting:
            network = min(fitting, key=lambda network: len(network.head))
            networks.append(network)
        elif unfit:
            network, unknown = min(unfit, key=lambda pair: len(pair[1]))
            problem = unknown[0]
        else:
            continue
        claimed.update(network.names.values())
    return networks, problem


def _prefixes(shapes: Shapes) -> Iterator[tuple[str, str]]:
    """Yield what precedes each tensor that is named as the kernel of a first convolution, and its name."""
    stems = {naming.tensor(STEM) for naming in NAMINGS}
    for name in shapes:
        for stem in stems:
            if name == stem or name.endswith((f".{stem}", f"/{stem}")):
                yield name[: -len(stem)], name


def _match(naming: Naming, prefix: str, own: Mapping[str, str], shapes: Shapes) -> tuple[Network | None, list[str]]:
    """Match the tensors under a prefix with a convention.

    Args:
        naming: the convention.
        prefix: the prefix.
        own: name without the prefix -> name in the file.
        shapes: all tensors of the file.

    Returns:
        The network, None if its stem or biases are those of another convention or it has no blocks; and the names that
        are parts of the backbone without being named by the convention, so that the network is another one.
    """
    ours = {bare: naming.ours(bare) for bare in own}
    names = {name: own[bare] for bare, name in ours.items() if name}
    biases = [own[bare] for bare, name in ours.items() if name and name.endswith("_conv/bias")]
    has_blocks = any("_block" in name for name in names)
    if STEM not in names or (naming.conv_bias and not biases) or (prefix and not has_blocks):
        return None, []
    backbone = {_family(bare) for bare, name in ours.items() if name and not name.startswith("predictions/")}
    rest = [bare for bare, name in ours.items() if name is None]
    unknown = [own[bare] for bare in rest if _family(bare) in backbone or len(shapes[own[bare]]) > 2]
    unknown += [] if naming.conv_bias else biases
    layers = dict.fromkeys(_layer(bare) for bare in rest)
    linear = {_layer(bare) for bare in rest if len(shapes[own[bare]]) == 2}
    if len(layers) > 2 * len(linear):  # more layers with vectors only than a head has, such as scales of the backbone
        unknown += [own[bare] for bare in rest]
    return Network(naming, prefix, names, tuple(layers)), unknown


def _family(name: str) -> str:
    """Return the part of a name that tells the parts of a network apart: "layer1", or "conv2" of "conv2_block1_add"."""
    first = re.split(r"[./]", name, maxsplit=1)[0]
    match = re.match(r"(?:conv|res|bn)\d+", first)
    return match[0] if match and "/" in name else first


def _layer(name: str) -> str:
    """Return the layer of a tensor's name."""
    return re.split(r"[./][^./]*$", name, maxsplit=1)[0]


def _chosen(networks: list[Network], weights_key: str | None) -> Network:
    """Return the network that `weights_key` names, the only one, or the only one with averaged weights.

    Raises:
        ValueError: none or several are named, or there are several that are not averaged.
    """
    keys = [network.prefix.rstrip("./") for network in networks]
    if weights_key is not None:
        parts = re.split(r"[./]", weights_key)
        chosen = [network for network in networks if _contains(re.split(r"[./]", network.prefix), parts)]
        if len(chosen) != 1:
            if keys == [""]:
                raise InputError(f"weights_key must be left out, as the file has one network; got {weights_key!r}")
            reason = "names several" if chosen else f"is none of them{did_you_mean(weights_key, keys)}"
            raise InputError(f"weights_key must be one of {_quoted(keys)}; got {weights_key!r}, which {reason}")
        return chosen[0]
    if len(networks) == 1:
        return networks[0]
    averaged = [network for network in networks if AVERAGED.search(network.prefix)]
    if len(averaged) != 1 or len(networks) > 2:
        known = f"it has {len(networks)} networks, {_quoted(keys)}"
        raise InputError(f"{known}; choose one with weights_key of weights.load or of keras-resnet convert")
    (other,) = (network for network in networks if network is not averaged[0])
    names = [network.prefix.rstrip("./") for network in (averaged[0], other)]
    note = f"took the averaged weights {names[0]!r}, not {names[1]!r}; weights_key chooses"
    return dataclasses.replace(averaged[0], note=note)


def _contains(parts: list[str], wanted: list[str]) -> bool:
    """Return whether a list contains another one in a row."""
    return any(parts[at : at + len(wanted)] == wanted for at in range(len(parts) - len(wanted) + 1))


def _with_head(network: Network, shapes: Shapes, others: list[str]) -> Network:
    """Return a network whose classifier is also found under another name, if it is one linear layer.

    Args:
        network: the network.
        shapes: all tensors of the file.
        others: prefixes of other networks in the file.
    """
    if any(name.startswith("predictions/") for name in network.names):
        return network
    prefix, layers = network.prefix, [network.prefix + layer for layer in network.head]
    while not layers and prefix:
        # A classifier next to the backbone: "model.backbone.conv1.weight" and "model.head.fc.weight".
        prefix = prefix[: 1 + max(prefix.rfind(mark, 0, -1) for mark in "./")]
        if any(other.startswith(prefix) for other in others):
            break
        near = [name for name in shapes if name.startswith(prefix) and not name.startswith(network.prefix)]
        layers = [_layer(name) for name in near if len(shapes[name]) == 2 and _is_kernel(name)]
    if len(layers) == 1 and (names := _classifier(network, layers[0], shapes)):
        return dataclasses.replace(network, names={**network.names, **names}, head=())
    return dataclasses.replace(network, head=tuple(layers))


def _is_kernel(name: str) -> bool:
    return re.split(r"[./]", name)[-1] in ("weight", "kernel")


def _classifier(network: Network, layer: str, shapes: Shapes) -> dict[str, str] | None:
    """Return the names of a linear layer's kernel and bias; None if it does not take the backbone's features."""
    keras = network.naming.parts is KERAS
    kernel, bias = (f"{layer}{'/' if keras else '.'}{network.naming.parts[part]}" for part in ("kernel", "bias"))
    if len(shapes.get(kernel, ())) != 2 or len(shapes.get(bias, ())) != 1:
        return None
    inputs, outputs = shapes[kernel] if keras else shapes[kernel][::-1]
    convolutions = [name for name in network.names if name.endswith("_conv/kernel") and LAYER.match(name)]
    last = shapes[network.names[max(convolutions, key=_place)]]
    if inputs != (last[-1] if keras else last[0]) or shapes[bias] != (outputs,):
        return None
    return {"predictions/kernel": kernel, "predictions/bias": bias}


def _place(name: str) -> tuple[int, ...]:
    """Return the place of a convolution in the network: stage, block and number."""
    match = LAYER.match(name)
    return tuple(int(match[part] or 0) for part in ("stage", "block", "number")) if match else ()


def _beginnings(names: Iterable[str]) -> str:
    """Return the first parts of some names, for messages."""
    return _quoted(dict.fromkeys(re.split(r"[./]", name, maxsplit=1)[0] for name in names))


def _quoted(names: Iterable[str]) -> str:
    return listed(map(repr, names), SHOWN)
