"""Command-line flags: the fields of a dataclass become absl flags, and parsed flags its values."""

from __future__ import annotations

import dataclasses
import textwrap
import typing
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from absl import flags

from keras_resnet.errors import InputError, did_you_mean
from keras_resnet.experiment import synonyms
from keras_resnet.experiment.config import GROUPS, TYPE_NAMES, Options

HELP = frozenset({"--help", "-h", "-help"})


def define(values: flags.FlagValues, options: type[Options]) -> None:
    """Define a flag for each field of a dataclass; a flag that is not given is None."""
    types = typing.get_type_hints(options)
    definers: dict[Any, Any] = {
        bool: flags.DEFINE_bool,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        str: flags.DEFINE_string,
    }
    for field in dataclasses.fields(options):
        kind = types[field.name]
        if typing.get_origin(kind) is tuple:
            definer = flags.DEFINE_list
        else:
            definer = definers[next((t for t in typing.get_args(kind) if t in definers), kind)]
        definer(field.name, None, field.metadata["help"], flag_values=values)


def parse(
    arguments: Sequence[str],
    options: Iterable[type[Options]],
    *,
    files_last: bool = False,
    hint: Callable[[str, Collection[str]], str] = synonyms.hint,
) -> tuple[dict[str, Any], list[str]]:
    """Parse flags.

    Args:
        arguments: flags and files, without the program's name.
        options: dataclasses whose fields are the flags.
        files_last: stop at the first argument that is not a flag.
        hint: function of an unknown flag and the known ones; says what to write instead, as the end of a sentence.

    Returns:
        The flags that were given, by name, and the other arguments.

    Raises:
        ValueError: an unknown flag, a value of another type, or an equals sign or dash that is not written as here.
    """
    values, options = flags.FlagValues(), list(options)
    values.set_gnu_getopt(not files_last)
    for dataclass in options:
        define(values, dataclass)
    _check_notation(arguments)
    try:
        rest = values(["keras-resnet", *arguments])[1:]
    except flags.UnrecognizedFlagError as error:
        known = [name for name in values if not name.startswith("no") or name[2:] not in values]
        text = _notation(error.flagname, values) or hint(error.flagname, known) or did_you_mean(error.flagname, known)
        raise InputError(f"unknown flag --{error.flagname}{text}.") from error
    except flags.IllegalFlagValueError as error:
        raise InputError(_wrong_value(str(error), options)) from error
    except flags.Error as error:
        raise InputError(_without_prefix(error)) from error
    for field in (field for dataclass in options for field in dataclasses.fields(dataclass)):
        if values[field.name].value == "" != field.default:
            raise InputError(f"{field.name} must not be empty; leave out the flag for its default.")
    return {name: values[name].value for name in values if values[name].value is not None}, rest


LONG_DASHES = ("\u2013", "\u2014", "\u2212")
"""Dashes that text editors and web pages make of hyphens."""


def _check_notation(arguments: Sequence[str]) -> None:
    """Refuse an equals sign between spaces, and dashes that are no hyphens.

    Raises:
        ValueError: the command line has one of them.
    """
    for number, word in enumerate(arguments):
        if word.startswith(LONG_DASHES):
            raise InputError(f"flags begin with two hyphens; got {word!r}.")
        if word.startswith("=") and number and arguments[number - 1].startswith("-"):
            flag = arguments[number - 1].lstrip("-")
            raise InputError(f"flags are written without spaces around the equals sign: --{flag}=VALUE.")


def _notation(flag: str, known: flags.FlagValues) -> str:
    """Say how an unknown flag is written if only its notation is wrong: `no-mirror`, `preset:digits`, "preset "."""
    name, colon, value = flag.partition(":")
    if colon and name in known:
        return f"; it is written --{name}={value}"
    if flag.strip() != flag and flag.strip() in known:
        return f"; it is written --{flag.strip()}=VALUE, without spaces"
    name = synonyms.normalized(flag)
    if name.startswith("no_") and name[3:] in known and known[name[3:]].boolean:
        return f"; it is written --no{name[3:]}"
    return ""


def _without_prefix(error: flags.Error) -> str:
    """Return absl's message without the words that absl puts before it."""
    return str(error).replace("FATAL Flags parsing error:", "").strip()


def _wrong_value(message: str, options: Iterable[type[Options]]) -> str:
    """Say which type a flag has, of absl's message "flag --NAME=VALUE: the error of Python"."""
    name, _, rest = message.removeprefix("flag --").partition("=")
    value = rest.split(": ")[0]
    for dataclass in options:
        kind = str(typing.get_type_hints(dataclass).get(name, ""))
        for known in (bool, int, float):
            if known.__name__ in kind:
                return f"{name} must be {TYPE_NAMES[known]}{_example(known, value)}; got {value!r}."
    return message


def _example(kind: type, value: str) -> str:
    """The whole number that a user means by a number such as 1e3, which has to be written out."""
    try:
        number = float(value)
    except ValueError:
        return ""
    return f" such as {int(number)}" if kind is int and number.is_integer() else ""


def parse_known(arguments: Sequence[str], names: Iterable[str]) -> dict[str, str]:
    """Return the values of some string flags among `arguments`, whatever the others are."""
    values = flags.FlagValues()
    values.set_gnu_getopt(True)
    for name in names:
        flags.DEFINE_string(name, None, "", flag_values=values)
    _check_notation(arguments)
    try:
        values(["keras-resnet", *arguments], known_only=True)
    except flags.Error as error:
        raise InputError(_without_prefix(error)) from error
    return {name: str(values[name].value) for name in values if values[name].value is not None}


def help_text(options: Iterable[type[Options]]) -> str:
    """Return a line for each flag with its default, grouped by topic."""
    groups: dict[str, list[str]] = {name: [] for name in GROUPS}
    for dataclass in options:
        for field in dataclasses.fields(dataclass):
            default = field.default
            shown = "" if default in (None, (), "") else f" [{_text(default)}]"
            lines = groups.setdefault(field.metadata["group"], [])
            lines.append(wrapped(f"--{field.name}: {field.metadata['help']}{shown}"))
    return "\n\n".join(f"{name}:\n" + "\n".join(lines) for name, lines in groups.items() if lines)


def wrapped(text: str) -> str:
    """Return an indented line of the help, wrapped to 100 columns."""
    return textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)


def _text(default: object) -> str:
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
