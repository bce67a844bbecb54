"""The part of YAML that data.yaml files of YOLO are written in: keys with a value, a list, or numbered names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from keras_resnet.errors import InputError


def parse(text: str, source: str) -> dict[str, Any]:
    """Return the keys of a file and their values: strings, lists of strings, or dictionaries of strings.

    Nested keys deeper than one level, anchors and multi-line strings are not read: their keys have no value.

    Args:
        text: content of the file.
        source: its name, for the error message.

    Raises:
        ValueError: a list or dictionary in brackets does not end.
    """
    content: dict[str, Any] = {}
    key = ""
    for line in _joined(_lines(text), source):
        match = re.match(r"""(["']?)([\w.-]+)\1\s*:(?:\s+(.*)|)$""", line)
        if match and not line.startswith((" ", "-")):
            key, value = match.group(2), (match.group(3) or "").strip()
            content[key] = _value(value) if value else None
        elif key:
            content[key] = _extended(content[key], line.strip())
    return content


def _lines(text: str) -> Iterable[str]:
    """The lines without comments, empty ones left out."""
    for line in text.splitlines():
        kept = re.sub(r"""^((?:[^"'#]|"[^"]*"|'[^']*')*?)(?:(?<=\s)|^)#.*$""", r"\1", line).rstrip()
        if kept.strip() and kept.strip() != "---":
            yield kept


def _joined(lines: Iterable[str], source: str) -> Iterable[str]:
    """The lines with brackets that go over several lines in one."""
    pending = ""
    for line in lines:
        pending = f"{pending} {line.strip()}" if pending else line
        bare = re.sub(r""""[^"]*"|'[^']*'""", "", pending)
        if bare.count("[") + bare.count("{") <= bare.count("]") + bare.count("}"):
            yield pending
            pending = ""
    if pending:
        raise InputError(f"{source!r} has a bracket that does not end: {pending[:60]!r}.")


def _extended(value: Any, line: str) -> Any:
    """The value of a key with one of the lines below it: an item of a list, or a key of a dictionary."""
    if line.startswith("- ") or line == "-":
        return [*(value if isinstance(value, list) else []), _unquoted(line[1:])]
    name, colon, rest = line.partition(":")
    if not colon:
        return value
    return {**(value if isinstance(value, dict) else {}), _unquoted(name): _unquoted(rest)}


def _value(text: str) -> Any:
    """A value on the line of its key."""
    if text.startswith("[") and text.endswith("]"):
        return [_unquoted(item) for item in _items(text[1:-1])]
    if text.startswith("{") and text.endswith("}"):
        pairs = (item.partition(":") for item in _items(text[1:-1]))
        return {_unquoted(name): _unquoted(value) for name, _, value in pairs}
    return _unquoted(text)


def _items(text: str) -> list[str]:
    """The parts of a text between commas that are not in quotes."""
    return [item for item in re.findall(r"""(?:[^,"']|"[^"]*"|'[^']*')+""", text) if item.strip()]


def _unquoted(text: str) -> str:
    text = text.strip()
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1].replace("''", "'") if quoted else text
