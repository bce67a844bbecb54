"""The files around the package that no other test reads: workflows, citation and container."""

import pathlib
import re

import pytest
import yaml

import keras_resnet

ROOT = pathlib.Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def test_the_citation_has_the_version():
    content = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert content["version"] == keras_resnet.__version__


@pytest.mark.parametrize("path", [*WORKFLOWS, ROOT / "Dockerfile"], ids=lambda path: path.name)
def test_make_targets_and_scripts_exist(path):
    """Workflows call what developers call; actionlint checks the rest of them, by hand."""
    text = path.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {*re.findall(r"^([\w-]+):", makefile, re.M), ".venv/.package"}
    called = re.findall(r"(?:run: |RUN )make ([\w./-]+)", text) + re.findall(r'"make", "([\w-]+)"', text)
    assert set(called) <= targets
    assert called or "pages" in text or ".ci/run" in text
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


def test_the_workflows_allow_no_more_than_reading_by_default():
    assert len(WORKFLOWS) == 3
    for path in WORKFLOWS:
        assert yaml.safe_load(path.read_text(encoding="utf-8"))["permissions"] == {"contents": "read"}
