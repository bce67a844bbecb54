"""The command line and the scripts, run as users run them."""

import json
import logging
import os
import pathlib
import runpy
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from PIL import Image

from keras_resnet.cli import main as cli
from tests.clean_install import build_wheel
from tests.detection.data.folders import voc_folder

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
def refused_here(monkeypatch, capfd):
    """As `run` with code 1, but in this process, which has TensorFlow already: for scripts that `run` runs too."""

    def call(script, *arguments):
        monkeypatch.setattr(sys, "argv", [str(ROOT / script), *map(str, arguments)])
        monkeypatch.setattr(logging.root, "handlers", [*logging.root.handlers])  # absl's app adds one
        known = set(flags.FLAGS)
        with pytest.raises(SystemExit) as exit:
            runpy.run_path(sys.argv[0], run_name="__main__")
        for name in set(flags.FLAGS) - known:  # the next script defines its own
            delattr(flags.FLAGS, name)
        # Python prints a text that is the code, and exits with 1.
        message = exit.value.code if isinstance(exit.value.code, str) else ""
        assert message or exit.value.code == 1
        return "".join(capfd.readouterr()) + message

    return call


@pytest.fixture
def command(capfd):
    """Run `keras-resnet` in this process; return its output, both streams together."""

    def call(*arguments, code=0):
        capfd.readouterr()
        assert cli.main([str(argument) for argument in arguments]) == code
        return "".join(capfd.readouterr())

    return call


@pytest.mark.slow
def test_demo(tmp_path, refused_here):
    output = run("examples/demo.py", "--steps=2", f"--workdir={tmp_path}/demo")
    assert "on 599 held-out images" in output
    assert "SavedModel: max difference" in output
    assert "TFLite: max difference" in output
    files = {path.name for path in (tmp_path / "demo").iterdir()}
    assert files == {
        "best.weights.h5",
        "best.weights.h5.sha256",
        "checkpoints",
        "config.json",
        "curves.png",
        "metrics.jsonl",
        "saved_model",
        "tensorboard",
        "tflite",
    }
    # The demo does not replace an existing folder.
    message = "demo: workdir must be a folder that does not exist yet"
    assert message in refused_here("examples/demo.py", "--steps=2", f"--workdir={tmp_path}/demo")


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("train_cifar", ["--dataset=folder:/nowhere"]),
        ("train_imagenet", ["--dataset=folder:/nowhere"]),
        ("finetune_folder", ["--data=/nowhere", "--workdir=unused"]),
    ],
)
def test_mistakes_of_examples(script, arguments, refused_here):
    assert f"{script}: dataset must name an existing folder" in refused_here(f"examples/{script}.py", *arguments)


@pytest.mark.parametrize("script", ["train_cifar", "train_imagenet"])
def test_examples_do_not_overwrite_weights(script, refused_here, tmp_path):
    (tmp_path / "a.weights.h5").write_text("mine")
    output = refused_here(f"examples/{script}.py", f"--weights={tmp_path}/a.weights.h5")
    assert f"{script}: weights must be a file that does not exist yet; '{tmp_path}/a.weights.h5' does." in output
    output = refused_here(f"examples/{script}.py", f"--weights={tmp_path}/a.weights.h5/b.weights.h5")
    assert f"{script}: weights must be a writable file" in output
    assert [path.name for path in tmp_path.iterdir()] == ["a.weights.h5"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("train_cifar", ["--dataset=digits"]),
        ("train_imagenet", ["--dataset=synthetic:40x40x4", "--image_size=32", "--batch_size=8", "--eval_split=test"]),
    ],
)
def test_examples(script, arguments, tmp_path):
    weights = tmp_path / "trained.weights.h5"
    output = run(f"examples/{script}.py", "--steps=2", f"--weights={weights}", *arguments)
    assert "val_top1_error" in output
    assert weights.stat().st_size > 100_000


def test_predict_example(tmp_path):
    from keras_resnet import ResNet20
    from keras_resnet.models import weights
    from keras_resnet.models.weights import published

    info = published.ModelInfo("resnet20", "torch", 32, 0, published.CIFAR10_CLASSES)
    weights.save(ResNet20(), tmp_path / "a.weights.h5", info)
    photos = [tmp_path / f"{name}.png" for name in "ab"]
    for photo in photos:
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40, 3)).astype("uint8")).save(photo)
    output = run("examples/predict.py", f"--weights={tmp_path}/a.weights.h5", f"--plot={tmp_path}/best.png", *photos)
    assert output.count("%  ") == 10
    assert f"wrote {tmp_path}/best.png" in output
    assert Image.open(tmp_path / "best.png").size[0] > 600


@pytest.mark.slow
def test_finetune_example(tmp_path):
    from keras_resnet import ResNet20
    from keras_resnet.models import weights

    weights.save(ResNet20(), tmp_path / "a.weights.h5")
    for number in range(10):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (40, 40, 3), "uint8")).save(path)
    arguments = [f"--data={tmp_path}/photos", f"--weights={tmp_path}/a.weights.h5", f"--workdir={tmp_path}/run"]
    arguments += ["--model=resnet20", "--image_size=32", "--steps=2", "--batch_size=4"]
    assert "2 steps of 4 images: 1.0 epochs of folder:" in run("examples/finetune_folder.py", *arguments)


@pytest.mark.slow
def test_detector_examples(tmp_path):
    content = {name: [("cat", (11, 21, 60, 70), 0)] for name in "abc"}
    root = voc_folder(tmp_path / "voc", content, (96, 128), {"train": ["a", "b"], "val": ["c"]})
    run_dir = tmp_path / "run"
    size = [
        "--min_size=96",
        "--max_size=128",
        "--backbone=resnet18",
        "--roi_batch_size_per_image=8",
        "--pre_nms_topk_test=100",
        "--post_nms_topk_test=10",
    ]
    arguments = ["--preset=bccd_resnet50", f"--data={root}", "--steps=2", f"--workdir={run_dir}", *size]
    output = run("examples/train_detector.py", *arguments)
    assert "2 training images with 2 boxes of cat" in output
    output = run("examples/detect.py", f"--workdir={run_dir}", f"--out={tmp_path}", str(root / "JPEGImages/a.jpg"))
    assert "a.jpg: wrote" in output
    assert (tmp_path / "a_boxes.png").stat().st_size > 0


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
def test_train_evaluate_predict_export(installed, command, refused_here, tmp_path):
    """Each verb by the console command of the installed wheel; what a run refuses afterwards, in this process."""
    python, console = installed
    zoo = ROOT / "keras_resnet/models/weights/zoo"
    packaged = {path.relative_to(ROOT) for path in zoo.rglob("*") if path.suffix in (".safetensors", ".json", ".md")}
    assert packaged <= {path.relative_to(console.parents[1]) for path in console.parents[1].rglob("zoo/*/*")}

    def keras_resnet(*arguments):
        return python(console, *arguments)

    run_dir = tmp_path / "run"
    output = keras_resnet("train", "--preset=digits_resnet20", "--steps=4", "--eval_steps=2", f"--workdir={run_dir}")
    assert "resnet20: 269,722 parameters, 40.6e6 multiply-adds" in output
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [2, 4]
    best = min(record["val_top1_error"] for record in records)

    again = command("train", f"--config={run_dir}/config.json", f"--workdir={run_dir}")
    assert "finished at step 4; nothing to do" in again
    other = command("train", "--preset=digits_resnet20", "--steps=4", f"--workdir={run_dir}", code=1)
    assert "holds a run with a different configuration: eval_steps 2 there, 50 here." in other

    output = keras_resnet("evaluate", f"--workdir={run_dir}")
    (row,) = [line for line in output.splitlines() if line.startswith("| resnet20 | single |")]
    assert row.startswith(f"| resnet20 | single | {best:.2f} |")
    assert row.endswith("| 599 |")

    photo = tmp_path / "a photo.png"
    Image.fromarray(np.zeros((50, 40, 3), "uint8")).save(photo)
    assert f"{photo}: " in keras_resnet("predict", f"--workdir={run_dir}", photo)
    assert "is not a readable JPEG" in command("predict", f"--workdir={run_dir}", run_dir / "config.json", code=1)
    assert "no image file" in command("predict", f"--workdir={run_dir}", tmp_path / "none.png", code=1)

    arguments = [f"--workdir={run_dir}", f"--out={tmp_path}/models/digits"]
    assert f"wrote {tmp_path}/models/digits/1" in python(ROOT / "export/to_saved_model.py", *arguments)
    assert "has version 1 already" in refused_here("export/to_saved_model.py", *arguments, "--version=1")
    arguments = [f"--workdir={run_dir}", f"--out={tmp_path}/lite", "--variants=float32,int8"]
    output = python(ROOT / "export/to_tflite.py", *arguments, "--report_images=20", "--calibration_images=20")
    assert "| int8 |" in output
    assert f"wrote {tmp_path}/lite" in output
    assert "that does not exist yet" in refused_here("export/to_tflite.py", *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["trian"],
            "the verb must be one of train, evaluate, predict, export, convert, publish, responses, curves, costs, "
            "reproduce, launch; got 'trian'",
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
        (["export", "--format=onnx"], "format must be one of 'saved_model', 'tflite'; got 'onnx'"),
        (["export", "--variants=int8"], "variants is a flag of --format=tflite, not of --format=saved_model."),
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
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "keras-resnet train: stopped by SIGTERM at step" in output
    assert "Traceback" not in output
    step = int(output.split("by SIGTERM at step ")[1].split(";")[0])
    assert (tmp_path / "run" / "checkpoints" / f"ckpt-{step}.index").exists()


@pytest.mark.slow
def test_a_folder_with_a_broken_file(tmp_path, command):
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


@pytest.mark.slow
def test_degradation(tmp_path):
    arguments = ["--steps=2", "--depth=20", "--batch_size=16", f"--workdir={tmp_path}/runs"]
    output = run("examples/degradation.py", *arguments)
    assert "plainnet20: 19 3x3 layers" in output
    files = {path.name for path in (tmp_path / "runs").iterdir()}
    assert files == {"plainnet20", "resnet20", "curves.png", "responses.png", "responses.csv"}


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


def test_the_scaling_benchmark_runs():
    output = run("benchmarks/scaling.py", "expect", "--speed=100")
    assert "ResNet-50: 102.2 MB of gradients; 100 images/s on one accelerator" in output
    assert "| 512 | 256 | less than one |" in output


@pytest.mark.soak
def test_the_benchmark_of_evaluation_runs():
    output = run("benchmarks/evaluation.py", "--images=2", "--runs=1", "--size=32", "--scales=32", "--batch_size=20")
    assert "ten_crop over single: " in output


@pytest.mark.soak
def test_the_benchmark_of_performance_runs(tmp_path, refused_here):
    arguments = ["--quick", "--only=training", "--contenders=keras_resnet float32,torch matrix product float32"]
    output = run("benchmarks/performance.py", *arguments, f"--out={tmp_path}/out")
    assert "### Training step of ResNet50, batch 2, 32 pixels, float32" in output
    assert output.count("| keras_resnet float32 | ") == 2
    assert "not measured" not in output
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"performance.json", "performance.md", "performance.png"}
    assert "only must be some of" in refused_here("benchmarks/performance.py", "--only=nothing")


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
