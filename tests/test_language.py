"""The docs, docstrings, comments and messages are plain technical English: none of these phrases, and US spelling."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent

BANNED = {
    r"\b(goes|went|gone|go) on (with|from|at|where)\b|\b(to|and|may|can) go on\b|\bgoes on\b": "resume or continue",
    r"\bbeside\b": "next to, in addition to or compared with",
    r"\bat hand\b": "available",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bwhat came\b": "the given value",
    r"\bwants?\b|\b(is|are) wanted\b": "require or need",
    r"\bso many\b": "that many",
    r"\bby (itself|themselves)\b": "alone",
    r"\bknows? of no\b|\bknow nothing of\b": "does not know, or independent of",
    r"\bto (its|their) end\b": "to completion",
    r"\bthe very\b": "exactly the",
    r"\b(stands?|stood) in (its|their|the) place\b|\bin (its|the) place of\b": "instead of",
    r"\bnobody\b": "name the subject",
    r"\bbecomes? of\b": "happens to",
    r"\b(colour|grey|centre|favour|behaviour)": "US spelling",
    r"\b(de)?(normal|initial|synchron|optim|quant|recogn|serial|organ|summar)is(e|ing|ation)": "US spelling",
}
"""Pattern -> what to write instead."""

EXPORTED = "normalisation is part of the network"
"""Text in the metadata of exported files, which stays as it is."""

PACKAGES = ("keras_resnet", "examples", "export", "benchmarks")
FILES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
    + [*(ROOT / "docs").rglob("*.md")]
    + [path for folder in PACKAGES for path in (ROOT / folder).rglob("*.py")]
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_banned_phrases(path):
    text = path.read_text(encoding="utf-8").replace(EXPORTED, "")
    hits = [
        f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]!r}: {replacement}"
        for pattern, replacement in BANNED.items()
        for match in re.finditer(pattern, text, re.IGNORECASE)
    ]
    assert not hits, "\n".join(hits)
