"""The command line and the scripts, run as users run them."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from keras_resnet.cli import main as cli
from keras_resnet.models import resnet
from tests.clean_install import build_wheel
from tests.networks import one_block

ROOT = pathlib.Path(__file__).parent.parent


def run(*command, code=0, cwd=ROOT, **variables):
    """Run Python with arguments from the repository's root; return its output, both streams together."""
    result = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == code, result.stdout
    assert "Traceback" not in result.stdout
    return result.stdout


@pytest.fixture
def command(capfd):
    """Run `keras-resnet` in this process; return its output, both streams together."""

    def call(*arguments, code=0):
        capfd.readouterr()
        assert cli.main([str(argument) for argument in arguments]) == code
        return "".join(capfd.readouterr())

    return call


def test_predict_example(tmp_path, script):
    from keras_resnet import ResNet20
    from keras_resnet.models import weights
    from keras_resnet.models.weights import published

    info = published.ModelInfo("resnet20", "torch", 32, 0, published.CIFAR10_CLASSES)
    weights.save(ResNet20(), tmp_path / "a.weights.h5", info)
    photos = [tmp_path / f"{name}.png" for name in "ab"]
    for photo in photos:
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40, 3)).astype("uint8")).save(photo)
    output = script("examples/predict.py", f"--weights={tmp_path}/a.weights.h5", f"--plot={tmp_path}/best.png", *photos)
    assert output.count("%  ") == 10
    assert f"wrote {tmp_path}/best.png" in output
    assert Image.open(tmp_path / "best.png").size[0] > 600


SCRIPTS = """
import json, runpy, sys
for script, *arguments in json.loads(sys.argv[1]):
    sys.argv = [script, *arguments]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as exit:
        assert not exit.code, exit.code
"""
"""Runs scripts one after another in a process, which has to import TensorFlow once only."""


@pytest.fixture
def installed(tmp_path):
    """Run Python with arguments outside of the repository, with the package installed from its wheel."""
    wheel, site = build_wheel(tmp_path / "wheel", isolated=False), tmp_path / "site"
    run("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", f"--target={site}", wheel)
    (tmp_path / "elsewhere").mkdir()

    def call(*command, code=0):
        return run(*command, code=code, cwd=tmp_path / "elsewhere", PYTHONPATH=str(site))

    assert call("-c", "import keras_resnet; print(keras_resnet.__file__)").startswith(f"{site}/keras_resnet/")
    return call, site / "bin" / "keras-resnet"


@pytest.mark.slow
def test_train_evaluate_predict_export(installed, command, script, tmp_path):
    """Each verb by the console command of the installed wheel; what a run refuses afterwards, in this process."""
    python, console = installed
    zoo = ROOT / "keras_resnet/models/weights/zoo"
    packaged = {path.relative_to(ROOT) for path in zoo.rglob("*") if path.suffix in (".safetensors", ".json", ".md")}
    assert packaged <= {path.relative_to(console.parents[1]) for path in console.parents[1].rglob("zoo/*/*")}

    run_dir = tmp_path / "run"
    photo = tmp_path / "a photo.png"
    Image.fromarray(np.zeros((50, 40, 3), "uint8")).save(photo)
    served = [f"--workdir={run_dir}", f"--out={tmp_path}/models/digits"]
    lite = [f"--workdir={run_dir}", f"--out={tmp_path}/lite", "--variants=float32"]
    calls = [
        [console, "train", "--preset=digits_resnet20", "--steps=4", "--eval_steps=2", f"--workdir={run_dir}"],
        [console, "evaluate", f"--workdir={run_dir}"],
        [console, "predict", f"--workdir={run_dir}", photo],
        [ROOT / "export/to_saved_model.py", *served],
        [ROOT / "export/to_tflite.py", *lite, "--report_images=20"],
    ]
    output = python("-c", SCRIPTS, json.dumps(calls, default=str))
    assert "resnet20: 269,722 parameters, 40.6e6 multiply-adds" in output
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [2, 4]
    best = min(record["val_top1_error"] for record in records)
    (row,) = [line for line in output.splitlines() if line.startswith("| resnet20 | single |")]
    assert row.startswith(f"| resnet20 | single | {best:.2f} |")
    assert row.endswith("| 599 |")
    assert f"{photo}: " in output
    assert f"wrote {tmp_path}/models/digits/1" in output
    assert "| float32 |" in output
    assert f"wrote {tmp_path}/lite" in output

    again = command("train", f"--config={run_dir}/config.json", f"--workdir={run_dir}")
    assert "finished at step 4; nothing to do" in again
    other = command("train", "--preset=digits_resnet20", "--steps=4", f"--workdir={run_dir}", code=1)
    assert "holds a run with a different configuration: eval_steps 2 there, 50 here." in other
    explain = ["predict", f"--workdir={run_dir}", f"--explain={tmp_path}/why", photo]
    assert f"wrote {tmp_path}/why/a photo_explained.png" in command(*explain)
    with Image.open(tmp_path / "why/a photo_explained.png") as picture:
        assert picture.width > 4 * 240, "the image and three classes"
    assert "has that file" in command(*explain, code=1)
    assert "is not a readable JPEG" in command("predict", f"--workdir={run_dir}", run_dir / "config.json", code=1)
    assert "no image file" in command("predict", f"--workdir={run_dir}", tmp_path / "none.png", code=1)
    assert "has version 1 already" in script("export/to_saved_model.py", *served, "--version=1", code=1)
    assert "that does not exist yet" in script("export/to_tflite.py", *lite, code=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["trian"],
            "the verb must be one of train, evaluate, predict, export, inspect, prepare, convert, publish, responses, "
            "curves, costs, reproduce, launch, watch; got 'trian'",
        ),
        (["launch", "--workers=2"], "usage: keras-resnet launch --workers=N train|evaluate [flags]."),
        (["launch", "--workers=2", "predict"], "usage: keras-resnet launch --workers=N train|evaluate [flags]."),
        (["train", "--stepz=3"], "unknown flag --stepz (did you mean 'steps'?)."),
        (["train", "--steps=x"], "steps"),
        (["train", "--preset=digits_resnet20"], "workdir must be given"),
        (
            ["predict", "a.jpg"],
            "one of --workdir=FOLDER and --weights=NAME|FILE must be given; got neither.",
        ),
        (["convert", "a.pth"], "convert requires two arguments, IN and OUT; got 1."),
        (["train", "extra"], r"takes flags only"),
        (["evaluate", "--workdir=/no/such"], "workdir must be the folder of a run; '/no/such' has no config.json"),
        (
            ["export", "--workdir=/no/such", "--out=unused"],
            "workdir must be the folder of a run; '/no/such' has no config.json",
        ),
        (
            ["export", "--format=onx"],
            "format must be one of 'saved_model', 'tflite', 'onnx', 'openvino', 'web'; got 'onx'",
        ),
        (["export", "--variants=int8"], "variants is a flag of --format=tflite or web, not of --format=saved_model."),
        (["export"], "out must be given: --out=..."),
        (["train", "--dataset=nothing", "--workdir=unused"], "dataset must be 'digits', 'folder:PATH'"),
        (["train", "--dataset=folder:/no/such", "--workdir=unused"], "dataset must name an existing folder"),
        (["train", "--dataset=digits", "--eval_split=val", "--workdir=unused"], "split must be one of 'train', 'test'"),
        (["train", "--dataset=digits", "--image_size=16", "--resize=8", "--workdir=unused"], "resize must be at least"),
        (["train", "--dataset=digits", "--model=resnet21", "--workdir=unused"], "model must be one of"),
        (["train", "--dataset=digits", "--workdir=/proc/none"], "workdir must be a writable folder"),
        (["train", "--dataset=digits", "--batch_size=5000", "--workdir=unused"], "batch_size must be from 1 to"),
        (
            ["train", "--dataset=digits", "--batch_size=25", "--replicas=2", "--workdir=unused"],
            "batch_size must be a multiple of the 2 replicas; got 25.",
        ),
        (["train", "--dataset=digits", "--strategy=two", "--workdir=unused"], "strategy must be one of 'auto', 'one'"),
        (
            ["train", "--dataset=digits", "--strategy=tpu", "--workdir=unused"],
            "strategy 'tpu' requires a TPU",
        ),
        (
            ["train", "--dataset=digits", "--strategy=multi_worker", "--workdir=unused"],
            "strategy 'multi_worker' requires TF_CONFIG, a Slurm step of several tasks or KERAS_RESNET_PODS",
        ),
    ],
)
def test_mistakes_exit_with_one_sentence(arguments, message, tmp_path, capsys):
    arguments = [argument.replace("unused", str(tmp_path / "unused")) for argument in arguments]
    assert cli.main(arguments) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("keras-resnet")]
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "unused").exists()


@pytest.mark.slow
def test_sigterm_saves_and_exits_with_143(tmp_path):
    arguments = ["train", "--dataset=synthetic:8x8x4", "--eval_steps=20", f"--workdir={tmp_path}/run"]
    command = [sys.executable, "-m", "keras_resnet.cli", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while "step 20/" not in process.stdout.readline():
        assert process.poll() is None
    process.terminate()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "keras-resnet train: stopped by SIGTERM at step" in output
    assert "Traceback" not in output
    step = int(output.split("by SIGTERM at step ")[1].split(";")[0])
    assert (tmp_path / "run" / "checkpoints" / f"ckpt-{step}.index").exists()


@pytest.mark.slow
def test_a_folder_with_a_broken_file(tmp_path, command, monkeypatch):
    monkeypatch.setitem(resnet.CONSTRUCTORS, "resnet20", one_block)
    random = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / "foto s" / f"class {number % 2}" / f"{number} ü.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (40, 50, 3)).astype("uint8")).save(path)
    arguments = ["train", f"--dataset=folder:{tmp_path}/foto s", "--image_size=32", "--steps=2", "--batch_size=6"]
    arguments += ["--eval_split=train", "--crop=inception", f"--workdir={tmp_path}/run"]
    assert "wrote" in command(*arguments)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["dataset"]["mean"][0] > 100
    path.write_bytes(b"broken")
    output = command(*arguments, f"--workdir={tmp_path}/other", code=1)
    refused = f"{path} cannot be decoded as a JPEG, PNG, GIF, BMP or WebP image"
    assert f"keras-resnet train: {refused}; 1 of the 12 images of split 'train' cannot be used." in output
    output = command("evaluate", f"--workdir={tmp_path}/run", "--split=train", code=1)
    assert f"keras-resnet evaluate: {refused}." in output


def test_a_mistake_exits_without_a_traceback():
    output = run("-m", "keras_resnet.cli", "train", "--dataset=folder:/no/such", "--workdir=/no/such", code=1)
    assert "keras-resnet train: dataset must name an existing folder" in output


def test_help():
    assert "evaluate" in run("-m", "keras_resnet.cli", "--help")


def test_the_cluster_scripts(tmp_path, monkeypatch):
    """The shell accepts the scripts, and the command line the flags and TF_CONFIG in them."""
    monkeypatch.setenv("RUNS", str(tmp_path))
    subprocess.run(["bash", "-n", ROOT / "examples/cluster/slurm.sh"], check=True)
    text = (ROOT / "examples/cluster/kubernetes.yaml").read_text(encoding="utf-8")
    block = text.split("            - |\n")[1].split("          resources:")[0]
    script = block.replace("exec keras-resnet", "echo $TF_CONFIG; echo keras-resnet")
    environment = {**os.environ, "JOB": "run", "WORKERS": "12", "JOB_COMPLETION_INDEX": "10"}
    output = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, check=True).stdout
    config, command = output.splitlines()
    values = json.loads(config)
    assert values["task"] == {"type": "worker", "index": 10}
    assert values["cluster"]["worker"] == [f"run-{number}.run:2222" for number in range(12)]
    for words in (command, (ROOT / "examples/cluster/slurm.sh").read_text().split("\nsrun")[1].split("code=")[0]):
        verb, _ = cli.parse("train", words.replace("\\\n", " ").split("train ")[1].split())
        assert verb.preset == "imagenet_resnet50"
        assert verb.strategy == "multi_worker"


def test_the_scaling_benchmark_runs(script):
    output = script("benchmarks/scaling.py", "expect", "--speed=100")
    assert "ResNet-50: 102.2 MB of gradients; 100 images/s on one accelerator" in output
    assert "| 512 | 256 | less than one |" in output


@pytest.mark.soak
def test_the_benchmark_of_evaluation_runs():
    output = run("benchmarks/evaluation.py", "--images=2", "--runs=1", "--size=32", "--scales=32", "--batch_size=20")
    assert "ten_crop over single: " in output


@pytest.mark.soak
def test_the_benchmark_of_performance_runs(tmp_path, script):
    arguments = ["--quick", "--only=training", "--contenders=keras_resnet float32,torch matrix product float32"]
    output = run("benchmarks/performance.py", *arguments, f"--out={tmp_path}/out")
    assert "### Training step of ResNet50, batch 2, 32 pixels, float32" in output
    assert output.count("| keras_resnet float32 | ") == 2
    assert "not measured" not in output
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"performance.json", "performance.md", "performance.png"}
    assert "only must be some of" in script("benchmarks/performance.py", "--only=nothing", code=1)


def test_a_training_step_is_not_twice_as_slow():
    run("benchmarks/performance.py", "--only=guard", "--rounds=3", "--seconds=0.3")


@pytest.mark.soak
def test_the_traffic_of_a_step_is_compared_with_the_step():
    output = run("benchmarks/traffic.py", "--batch_size=2", "--rounds=1")
    assert "| convolution | 0.2 | " in output
    assert "of the limit's speed" in output


@pytest.mark.soak
def test_the_profile_of_a_step_runs():
    arguments = ["--model=ResNet20", "--batch_size=2", "--size=32", "--steps=1", "--layers=2"]
    output = run("benchmarks/profile_step.py", *arguments)
    assert "Conv2DBackpropFilter | 19 | " in output
    assert "a step of training: " in output
    output = run("benchmarks/profile_step.py", *arguments, "--step=exported")
    assert "a step of exported: " in output
    assert "Conv2D | 17 | " in output  # and two with the padding before them
    assert "BatchNorm" not in output


@pytest.mark.soak
def test_the_operations_of_a_relu_are_timed():
    output = run("benchmarks/relu.py", "--shape=2,8,8,4", "--rounds=1")
    rows = [line.strip("| ").split(" | ") for line in output.splitlines() if line.startswith("| ")]
    assert [name for name, _ in rows[1::4]] == ["ReLU, float32", "maximum as int16"]
    assert all(float(milliseconds) > 0 for _, milliseconds in rows[1:])


@pytest.mark.soak
def test_lite_convolutions_are_timed():
    output = run("benchmarks/lite_convolutions.py", "--model=ResNet20", "--size=32", "--rounds=1")
    assert "| 34x34x3 | 3x3x3x16 | 1 | 1 | " in output
    assert "| all | | | 19 | " in output


@pytest.mark.soak
def test_the_rehearsal_of_imagenet_runs(tmp_path):
    sizes = ["--records=96", "--kilobytes=2", "--shards=8", "--batch_size=16", "--seconds=0.05", "--rounds=1"]
    output = run("benchmarks/imagenet_rehearsal.py", f"--folder={tmp_path}", "--kinds=folder,tar", *sizes)
    assert output.count("| tar | ") == 2
    assert "chi-squared of 4000 draws, 90 degrees of freedom" in output
