"""The public names, their types, and that importing the package loads nothing before it is used."""

import ast
import pathlib
import subprocess
import sys

import pytest

import keras_resnet

ROOT = pathlib.Path(__file__).parent.parent
FUNCTIONS = (
    "decode_predictions",
    "feature_info",
    "features",
    "grad_cam",
    "list_weights",
    "load_weights",
    "model_info",
    "optimized",
    "preprocess_input",
    "to_keras",
)


def test_public_names_exist():
    for name in keras_resnet.__all__:
        assert getattr(keras_resnet, name) is not None
    assert set(keras_resnet.__all__) <= set(dir(keras_resnet))
    with pytest.raises(AttributeError, match="no attribute 'ResNet21'"):
        keras_resnet.ResNet21  # noqa: B018


def test_import_starts_nothing():
    code = "import sys, keras_resnet; print([m for m in ('keras', 'tensorflow', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_networks_bring_nothing_but_keras():
    code = (
        "import sys, keras; before = set(sys.modules); import keras_resnet; keras_resnet.ResNet50; "
        "new = {name.split('.')[0] for name in set(sys.modules) - before}; print(new - set(sys.stdlib_module_names))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == "{'keras_resnet'}\n"


def test_subpackages_are_attributes():
    code = "import keras_resnet; print(keras_resnet.ops.__name__, keras_resnet.data.__name__)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == "keras_resnet.ops keras_resnet.data\n"


def test_static_exports_are_the_public_names():
    assert set(keras_resnet.__all__) == {"ARCHITECTURES", "ResNet", *keras_resnet.ARCHITECTURES, *FUNCTIONS}
    static = ast.parse(pathlib.Path(keras_resnet.__file__).read_text(encoding="utf-8"))
    names = {a.asname or a.name for n in ast.walk(static) if isinstance(n, ast.ImportFrom) for a in n.names}
    assert set(keras_resnet.__all__) <= names


def test_a_type_checker_knows_the_arguments_and_results(tmp_path):
    pytest.importorskip("mypy")
    program = {
        "keras_resnet.ResNet50(classes=10)": 'note: Revealed type is "keras.src.models.model.Model"',
        "keras_resnet.PlainNet20(True, None)": 'note: Revealed type is "keras.src.models.model.Model"',
        "keras_resnet.ResNet50(clases=10)": 'error: Unexpected keyword argument "clases"',
        "keras_resnet.PlainNet20(shortcut='A')": 'error: Unexpected keyword argument "shortcut"',
        "keras_resnet.ResNet50(classes='10')": 'error: Argument "classes" to "__call__" of "ResidualConstructor"',
        "keras_resnet.ResNet21": "error: Module has no attribute",
        "keras_resnet.model_info('resnet50').top1_error": 'note: Revealed type is "float | None"',
    }
    path = tmp_path / "program.py"
    path.write_text("import keras_resnet\n" + "".join(f"reveal_type({expression})\n" for expression in program))
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", str(path)]
    output = subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout
    for line, message in enumerate(program.values(), start=2):
        assert f"program.py:{line}: {message}" in output, output
    assert output.count("error:") == 4, output
