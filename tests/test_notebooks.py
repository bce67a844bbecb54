"""The notebooks: their cells are executed in short form, and the outputs that are kept with them are small."""

import base64
import json
import pathlib
import re
import subprocess
import sys

import matplotlib
import pytest

import keras_resnet
from keras_resnet.models import weights
from keras_resnet.models.weights import published
from keras_resnet.training import finetuning
from tests.test_language import BANNED

ROOT = pathlib.Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "examples/notebooks").glob("*.ipynb"))
MOST_IMAGE_BYTES = 300_000

by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind):
    content = json.loads(path.read_text(encoding="utf-8"))
    return [{**cell, "source": "".join(cell["source"])} for cell in content["cells"] if cell["cell_type"] == kind]


def execute(path):
    names = {}
    for number, cell in enumerate(cells(path, "code"), 1):
        exec(compile(cell["source"], f"{path.stem}[{number}]", "exec"), names)


def test_there_are_four():
    names = [path.stem for path in NOTEBOOKS]
    assert names == ["fine_tune_a_folder", "first_steps", "reproduce_degradation", "serve_and_quantize"]


@pytest.fixture
def short(tmp_path, monkeypatch):
    """One training step, in an empty folder, with figures that are not shown."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOTEBOOK_STEPS", "1")
    backend = matplotlib.get_backend()
    matplotlib.use("agg")
    yield tmp_path
    matplotlib.pyplot.close("all")
    matplotlib.use(backend)


@pytest.mark.parametrize("name", ["first_steps", "reproduce_degradation", "serve_and_quantize"])
def test_cells_run_from_top_to_bottom(name, short, small_networks, short_timing, capsys):
    execute(ROOT / f"examples/notebooks/{name}.ipynb")
    printed = capsys.readouterr().out
    assert "1 step of 64 images" in printed
    if name == "serve_and_quantize":
        assert "| int8 |" in printed


def test_fine_tuning_starts_from_weights(short, small_networks, monkeypatch, capsys):
    """From a small network's weights instead of those in the package, which are a whole ResNet-20's."""
    info = published.model_info("resnet20", "cifar10")
    weights.save(keras_resnet.ResNet20(), short / "small.weights.h5", info)
    started = []
    monkeypatch.setattr(finetuning, "find", lambda *names: started.append(names) or (short / "small.weights.h5", info))
    execute(ROOT / "examples/notebooks/fine_tune_a_folder.ipynb")
    assert started == [("cifar10", "resnet20")]
    assert "2 classes; train 216 images, val 216 images" in capsys.readouterr().out


@by_name
def test_outputs_are_kept(path):
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert any(output["output_type"] == "stream" for output in outputs)
    images = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert images
    assert max(len(base64.b64decode(image)) for image in images) < MOST_IMAGE_BYTES
    for output in outputs:
        assert output["output_type"] != "error"
        assert output.get("name") != "stderr", output
    assert not re.search(r"/(root|home|tmp|work)/", json.dumps(outputs))


@by_name
def test_the_first_cell_installs_the_package_only_if_it_is_missing(path):
    first, *others = (cell["source"] for cell in cells(path, "code"))
    assert not any("pip" in source and "install" in source and "subprocess" in source for source in others)
    without = (
        "import importlib.util, subprocess, sys\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: None if {missing} and name == 'keras_resnet' else found(name)\n"
        "subprocess.run = lambda command, check: print(command[1:])\n"
    )
    for missing, printed in ((True, "['-m', 'pip', 'install', '--quiet', 'a.whl']\n"), (False, "")):
        source = without.format(missing=missing) + first
        environment = {"KERAS_RESNET_PACKAGE": "a.whl", "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, env=environment)
        assert (done.returncode, done.stdout) == (0, printed), done.stderr


@by_name
def test_sentences_are_plain(path):
    text = "\n".join(cell["source"] for kind in ("markdown", "code") for cell in cells(path, kind))
    assert not [match[0] for pattern in BANNED for match in re.finditer(pattern, text, re.IGNORECASE)]
