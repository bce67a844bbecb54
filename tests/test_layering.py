"""The layering: a module imports only from lower ranks and from its own folder."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "keras_resnet"
ORDER = (
    ("errors",),
    ("files", "compat"),
    ("ops",),
    ("distribute",),
    ("models",),
    ("data",),
    ("experiment",),
    ("training",),
    ("evaluation",),
    ("serving",),
    ("classification", "detection"),
    ("paper",),
    ("cli",),
)
"""The wings from the ground up: a module imports from earlier rows and from its own wing."""
RANKS = {name: rank for rank, row in enumerate(ORDER) for name in row}
ABOVE = ("export", "examples", "benchmarks", "tests")
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imports(path: pathlib.Path) -> set[str]:
    """Dotted names that a file imports, wherever in it the import stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def unit(path: pathlib.Path) -> str:
    """The folder or module of the package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    own = unit(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] in ABOVE:
            pytest.fail(f"{own} imports {name}")
        if parts[0] != "keras_resnet" or len(parts) == 1:
            continue
        other = parts[1]
        allowed = other == own or RANKS[other] < RANKS[own]
        assert allowed, f"{own} (rank {RANKS[own]}) imports {name} (rank {RANKS[other]})"


@pytest.mark.parametrize(
    "path", [p for p in MODULES if unit(p) in ("models", "errors", "files", "experiment")], ids=str
)
def test_models_never_import_tensorflow_when_imported(path):
    """They must work where TensorFlow is not installed; inside a function that only TensorFlow reaches it is fine."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert not any(name.split(".")[0] == "tensorflow" for name in names)


def test_every_part_has_a_rank():
    assert {unit(path) for path in MODULES} <= set(RANKS)
