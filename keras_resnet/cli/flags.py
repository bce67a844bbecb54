"""Command-line flags: a dataclass becomes absl flags, and parsed flags become the dataclass again."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence

from absl import flags

from keras_resnet.classification.config import PRESETS, BaseConfig, ClassifierConfig
from keras_resnet.errors import InputError, check_choice


def define(values: flags.FlagValues, dataclass: type = ClassifierConfig) -> None:
    """Define a flag for each field of `dataclass`; unset flags are None, so that a preset's values show through."""
    types = typing.get_type_hints(dataclass)
    for field in dataclasses.fields(dataclass):
        kind = types[field.name]
        kind = next((t for t in typing.get_args(kind) if t in (bool, int, float, str)), kind)
        help = field.metadata["help"] + f" [{field.default}]"
        arguments = {"default": None, "help": help, "flag_values": values}
        if typing.get_origin(types[field.name]) is tuple:
            flags.DEFINE_list(field.name, **arguments)
        elif kind is bool:
            flags.DEFINE_bool(field.name, **arguments)
        elif kind is int:
            flags.DEFINE_integer(field.name, **arguments)
        elif kind is float:
            flags.DEFINE_float(field.name, **arguments)
        else:
            flags.DEFINE_string(field.name, **arguments)


def define_run(
    values: flags.FlagValues, dataclass: type = ClassifierConfig, presets: Mapping[str, BaseConfig] = PRESETS
) -> None:
    """Define the flags of a training: `workdir`, `preset`, `config`, and those of `strategy` and `define`."""
    workdir(values)
    flags.DEFINE_string("preset", None, f"Start from a preset: {', '.join(presets)}.", flag_values=values)
    flags.DEFINE_string("config", None, "Start from a config.json of another run.", flag_values=values)
    strategy(values)
    define(values, dataclass)


def strategy(values: flags.FlagValues) -> None:
    """Define the flags that say where to compute; they decide nothing of the result and are no part of a run."""
    help = "Where to compute: auto, one (device), mirrored (GPUs of this machine), multi_worker or tpu."
    flags.DEFINE_string("strategy", "auto", help, flag_values=values)
    help = "Devices of this machine that share each batch; 0 for all GPUs."
    flags.DEFINE_integer("replicas", 0, help, lower_bound=0, flag_values=values)
    help = "Seconds to wait for other workers at the start."
    flags.DEFINE_integer("peer_timeout", 120, help, lower_bound=1, flag_values=values)


def made_strategy(values: flags.FlagValues):
    """The `tf.distribute.Strategy` that the flags of `strategy` and the environment describe.

    Raises:
        ValueError: as for `training.strategy.make`.
    """
    from keras_resnet.distribute.strategy import make

    return make(values.strategy, replicas=values.replicas, timeout=values.peer_timeout)


def workdir(values: flags.FlagValues) -> None:
    """Define the flag `workdir`."""
    flags.DEFINE_string("workdir", None, "Folder of the run.", flag_values=values)


def parse(values: flags.FlagValues, arguments: Sequence[str]) -> list[str]:
    """Parse `arguments` (the first one is the program's name); return the positional ones.

    Raises:
        ValueError: an unknown flag or a value of another type.
    """
    try:
        return values(list(arguments))[1:]
    except flags.Error as error:
        raise InputError(str(error).replace("FATAL Flags parsing error:", "").strip()) from error


def parsed(values: flags.FlagValues, arguments: Sequence[str], verb: Callable, positional: bool = True):
    """Parse a verb's flags; return the positional arguments or True, or None where help was asked for and printed.

    Raises:
        ValueError: as for `parse`, or arguments that are no flags where `positional` is False.
    """
    if {"--help", "-h", "-help"} & set(arguments):
        print(f"keras-resnet {verb.__name__}: {verb.__doc__}\n")
        for name in values:
            print(f"  --{name}: {values[name].help}")
        return None
    rest = parse(values, [f"keras-resnet {verb.__name__}", *arguments])
    if positional:
        return rest
    if rest:
        raise InputError(f"{verb.__name__} takes flags only; got {rest}.")
    return True


def required(values: flags.FlagValues, name: str) -> str:
    """Return the value of a flag that must be given.

    Raises:
        ValueError: it was not.
    """
    if not values[name].value:
        raise InputError(f"{name} must be given: --{name}=...")
    return values[name].value


def of_format(values: flags.FlagValues, own: Mapping[str, Sequence[str]]) -> dict[str, object]:
    """Return those flags of the format that the flag `format` names which have a value.

    Args:
        values: parsed flags, None where they were not given.
        own: format -> the flags that have a meaning for it.

    Raises:
        ValueError: an unknown format, or a flag that was given and belongs to another one.
    """
    check_choice("format", values.format, own)
    given = {name for names in own.values() for name in names if values[name].value is not None}
    if strange := sorted(given - set(own[values.format])):
        raise InputError(f"{strange[0]} has no meaning for --format={values.format}.")
    return {name: values[name].value for name in sorted(given)}


def config(
    values: flags.FlagValues, dataclass: type = ClassifierConfig, presets: Mapping[str, BaseConfig] = PRESETS
) -> BaseConfig:
    """The configuration that flags, the preset or the config file, and the defaults give, in this order.

    `values` has the flags of `define`, and `preset` and `config`.

    Raises:
        ValueError: an unknown preset, an unreadable file, or a value that is not allowed.
    """
    if values.preset and values.config:
        raise InputError("preset and config exclude each other; give one of them.")
    if values.preset and values.preset not in presets:
        raise InputError(f"preset must be one of {', '.join(presets)}; got {values.preset!r}.")
    base = dataclass.from_file(values.config) if values.config else presets.get(values.preset, dataclass())
    return override(base, {field.name: getattr(values, field.name) for field in dataclasses.fields(dataclass)})


def override(base: BaseConfig, values: Mapping[str, object]) -> BaseConfig:
    """Return `base` with the fields that have a value other than None in `values`; other names are passed over.

    Raises:
        ValueError: a value that is not allowed.
    """
    changed = {}
    for field in dataclasses.fields(base):
        value = values.get(field.name)
        if value is None:
            continue
        if isinstance(field.default, tuple):
            kind = type(field.default[0]) if field.default else str
            try:
                value = tuple(kind(item) for item in value if item)
            except ValueError:
                what = "integers" if kind is int else "numbers"
                raise InputError(f"{field.name} must be a list of {what} such as 1000,2000; got {value}.") from None
        changed[field.name] = value
    return dataclasses.replace(base, **changed)
