"""The layering: a module imports only from earlier layers and from its own wing, without cycles."""

import ast
import pathlib

import pytest

from keras_resnet.experiment import tasks

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "keras_resnet"
TASKS = tuple(module.split(".")[1] for module in tasks.MODULES)
LAYERS = (
    ("errors",),
    ("files", "compat"),
    ("ops",),
    ("distribute",),
    ("models",),
    ("quantization",),
    ("data",),
    ("experiment",),
    ("training",),
    ("evaluation",),
    ("serving",),
    TASKS,
    ("localization",),
    ("paper",),
    ("cli",),
)
"""The wings from the ground up; tasks share a layer and do not import each other, but localization uses detection."""
RANKS = {name: rank for rank, row in enumerate(LAYERS) for name in row}
OUTSIDE = ("export", "examples", "benchmarks", "tests")
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")

LIGHT = ("cli", "experiment/tasks.py", "experiment/config.py", *(f"{task}/task.py" for task in TASKS))
"""Modules that the command line imports before it knows what to do: their other imports are inside functions."""


def name_of(path: pathlib.Path) -> str:
    """The dotted name of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


def imports(path: pathlib.Path, top_level: bool = False) -> set[str]:
    """Dotted names that a file imports; with `top_level`, only those that importing it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = _executed(tree.body) if top_level else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def _executed(body):
    """The statements that run on import, without those under `if TYPE_CHECKING`."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        for part in ("body", "orelse", "finalbody"):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                yield from _executed(getattr(node, part, None) or [])


def unit(path: pathlib.Path) -> str:
    """The folder or module of the package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_the_top_of_the_package():
    modules = {path.name for path in PACKAGE.glob("*.py")}
    assert modules == {"__init__.py", "errors.py", "files.py", "compat.py"}
    assert {unit(path) for path in MODULES} == set(RANKS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    own = unit(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] in OUTSIDE:
            pytest.fail(f"{own} imports {name}")
        if parts[0] != "keras_resnet" or len(parts) == 1:
            continue
        other = parts[1]
        if other not in RANKS:  # a name of the package itself, such as __version__
            continue
        assert other == own or RANKS[other] < RANKS[own], f"{own} imports {name}"


def test_no_circles():
    edges = {}
    for path in [PACKAGE / "__init__.py", *MODULES]:
        found = set()
        for name in imports(path, top_level=True):
            module = name if name in NAMES else name.rpartition(".")[0]
            found |= {module} & NAMES
        edges[name_of(path)] = found
    done: set[str] = set()

    def visit(name, path):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in sorted(edges.get(name, ())):
                visit(other, [*path, name])
            done.add(name)

    for name in sorted(edges):
        visit(name, [])


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_own_modules_are_imported_at_the_top(path):
    """Inside functions stand optional and slow packages, and in the modules of the command line everything heavy."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    late = {
        node.module
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "keras_resnet"
    }
    if path.relative_to(PACKAGE).as_posix().startswith(LIGHT):
        return
    assert late <= {"keras_resnet.training"}, late  # training.addons can only be imported with tensorflow-addons


@pytest.mark.parametrize(
    "path",
    [p for p in MODULES if unit(p) in ("models", "errors", "files", "experiment") or p.name == "task.py"],
    ids=str,
)
def test_models_never_import_tensorflow_when_imported(path):
    """They must work where TensorFlow is not installed; inside a function that only TensorFlow reaches it is fine."""
    assert not any(name.split(".")[0] == "tensorflow" for name in imports(path, top_level=True))
