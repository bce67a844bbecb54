"""What people type: paths with `~`, names with typing errors, flags of other packages, and what the command answers.

The command runs in this process. Whatever is refused here is refused before TensorFlow is imported.
"""

import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

from keras_resnet.classification import config as classification
from keras_resnet.classification import task as classification_task
from keras_resnet.cli import exits, flags, notices, reproduce, synonyms
from keras_resnet.cli import main as cli
from keras_resnet.cli.train import Train
from keras_resnet.detection.config import DetectorConfig
from keras_resnet.experiment import names, tasks

ROOT = pathlib.Path(__file__).parents[2]
VERBS = [*cli.TASK_VERBS, *cli.VERBS]


@pytest.fixture
def refused(capsys):
    """Run a command that fails; return its one sentence."""

    def call(command, code=1):
        words = command.split() if isinstance(command, str) else command
        assert cli.run(words[0], words[1:]) == code
        output = capsys.readouterr()
        assert output.err.count("\n") == 1, output.err
        return output.err.strip()

    return call


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with two runs and a data set, which is the current one and the home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "photos"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        content = {"task": "classification", "config": {"dataset": "digits"}}
        (tmp_path / "runs" / name / "config.json").write_text(json.dumps(content))
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "resnet50.weights.h5").write_bytes(b"")
    return tmp_path


def option_classes():
    """Every class whose fields are flags."""
    verbs = [verb for task in tasks.all_tasks().values() for verb in task.verbs.values()]
    configs = [task.config for task in tasks.all_tasks().values()]
    return [Train, *cli.VERBS.values(), *verbs, *configs]


# Paths


@pytest.mark.parametrize("options", option_classes(), ids=lambda options: f"{options.__module__}.{options.__name__}")
def test_every_flag_that_can_be_a_path_says_so(options):
    for field in dataclasses.fields(options):
        text = field.metadata["help"]
        is_path = re.search(r"(^|\W)(folders?|files?|plot|config\.json|data set)\b", text, re.IGNORECASE)
        known = field.metadata["path"] or field.name in NO_PATHS
        assert known or not is_path, f"--{field.name}: {text}"


NO_PATHS = {
    *("model", "preprocessing", "stride_in_1x1", "top", "image_size", "resize", "antialias", "download", "max_broken"),
    *("class_names", "coco", "calibration_images", "batch_size", "report", "threads", "extra_split", "exif"),
}
"""Flags whose help speaks of files and folders, but which are no paths."""


@pytest.mark.parametrize("written", ["~/runs/x", "$HOME/runs/x", "${HOME}/runs/x", "$RUNS/x"])
def test_paths_are_expanded(home, written):
    assert Train().override({"workdir": written}).workdir == f"{home}/runs/x"
    evaluate = classification_task.Evaluate().override({"workdir": [written, "b"], "dataset": f"folder:{written}"})
    assert evaluate.workdir == (f"{home}/runs/x", "b")
    assert evaluate.dataset == f"folder:{home}/runs/x"
    config = classification.ClassifierConfig().override({"data_dir": written, "init_weights": f"{written}.h5"})
    assert (config.data_dir, config.init_weights) == (f"{home}/runs/x", f"{home}/runs/x.h5")


def test_files_are_expanded(home, refused):
    assert f"there is no file '{home}/no.h5'" in refused(["convert", "~/no.h5", "out.weights.h5"])


def test_the_task_of_a_run_is_found_through_a_tilde(home):
    content = {"task": "detection", "config": {}}
    (home / "runs" / "photos" / "config.json").write_text(json.dumps(content))
    assert cli.task_of(["--workdir=~/runs/photos"]).name == "detection"
    assert cli.task_of(["--config=$RUNS/photos/config.json"]).name == "detection"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("~nobody_of_this_name/runs", "there is no user ~nobody_of_this_name"),
        ("$NO_SUCH_VARIABLE/runs", "there is no variable $NO_SUCH_VARIABLE"),
        ("${NO_SUCH_VARIABLE}/runs", "there is no variable ${NO_SUCH_VARIABLE}"),
    ],
)
def test_what_cannot_be_expanded_makes_no_folder_of_that_name(home, refused, path, message):
    assert message in refused(["train", "--preset=digits_resnet20", f"--workdir={path}"])
    assert sorted(path.name for path in home.iterdir()) == ["photos", "resnet50.weights.h5", "runs"]


def test_a_run_keeps_absolute_paths(home):
    config = classification.ClassifierConfig(init_weights="runs/digits", data_dir="data", cache="cached")
    assert (config.init_weights, config.data_dir) == (f"{home}/runs/digits", f"{home}/data")
    assert classification.ClassifierConfig(init_weights="imagenet", cache="memory").init_weights == "imagenet"
    assert DetectorConfig(backbone_weights="resnet50.weights.h5").backbone_weights == f"{home}/resnet50.weights.h5"
    assert DetectorConfig().dataset == "voc/2007"


# Names


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train --preset=digits_resnet2", "got 'digits_resnet2' (did you mean 'digits_resnet20'?)"),
        ("train --preset=cifar_resnet20", "(did you mean 'cifar10_resnet20'?)"),
        ("train --preset=digits_resnet20 --workdir=x --model=resnet21", "(did you mean 'resnet20'?)"),
        ("train --preset=digits_resnet20 --workdir=x --model=ResNet-50", "(did you mean 'resnet50'?)"),
        ("train --preset=digits_resnet20 --workdir=x --dataset=minst", "(did you mean 'mnist'?)"),
        ("train --preset=digits_resnet20 --workdir=x --dataset=imagenet", "(did you mean 'imagenet2012'?)"),
        ("train --preset=digits_resnet20 --workdir=x --dataset=photos", "(did you mean 'folder:photos'?)"),
        (
            "train --preset=digits_resnet20 --workdir=x --dataset=./photo",
            "(did you mean './photos'?)",
        ),
        ("train --preset=digits_resnet20 --workdir=x --data=photso", "(did you mean"),
        ("train --preset=digits_resnet20 --workdir=x --init_weights=imagnet", "init_weights must be the path of an"),
        ("train --preset=bccd_resnet50 --workdir=x --data=photos --backbone=resnet5", "backbone must be one of"),
        ("train --preset=bccd_resnet50 --workdir=x --data=photos --backbone_weights=imagenett", "'imagenet'?)"),
        ("train --preset=digits_resnet20 --task=detection --workdir=x", "is one of --task=classification"),
        ("train --preset=digits_resnet20 --workdir=x --optimizer=adam", "got 'adam' (did you mean 'adamw'?)"),
        ("train --task=detect --workdir=x", "task must be one of 'classification', 'detection'"),
        ("predict --weights=imagnet photo.jpg", "there is no file 'imagnet' (did you mean 'imagenet'?)"),
        ("predict --weights=imagnet photo.jpg", "weights must be the path of an existing file or one of 'imagenet', "),
        ("predict --weights=resnet5.weights.h5 photo.jpg", "(did you mean 'resnet50.weights.h5'?)"),
        ("predict --weights=imagenet --model=resnt50 photo.jpg", "(did you mean 'resnet50'?)"),
        ("evaluate --workdir=runs/digit", "has no config.json (did you mean 'runs/digits'?)"),
        ("evaluate --workdir=runs/digits,runs/nope", "there are the runs 'runs/digits', 'runs/photos'"),
        ("evaluate --workdir=runs", "there are the runs 'runs/digits', 'runs/photos'"),
        ("evaluate --workdir=digits", "'runs/digits'"),
        ("evaluate --workdir=runs/digits --views=ten_crops", "(did you mean 'ten_crop'?)"),
        ("evaluate --workdir=runs/digits --dataset=fasion_mnist", "(did you mean 'fashion_mnist'?)"),
        ("export --workdir=runs/nope --out=x", "'runs/digits'"),
        ("export --workdir=runs/digits --out=x --format=tflite --variants=int4", "variants must be one of 'float32'"),
        ("curves --workdir=runs/nope", "'runs/digits'"),
        ("responses --workdir=runs/nope", "'runs/digits'"),
        ("convert resnet5.weights.h5 out.safetensors", "IN must be the path of an existing file"),
        ("convert resnet50.weights.h5 out.safetensors --model=resnet5", "model must be one of"),
        ("reproduce tabel6 --out=x", "the experiment must be one of 'table2', 'table6', 'figure6', 'figure7'"),
        ("reproduce table6 --out=x --networks=resnet21", "networks must be one of"),
        ("costs ResNt50", "(did you mean 'resnet50'?)"),
    ],
)
def test_a_name_with_a_typing_error(home, refused, command, message):
    before = sorted(home.rglob("*"))
    assert message in refused(command)
    assert sorted(home.rglob("*")) == before


@pytest.mark.parametrize(
    ("written", "field", "value"),
    [
        ({"model": "ResNet20"}, "model", "resnet20"),
        ({"schedule": "Cosine"}, "schedule", "cosine"),
        ({"shortcut": "b"}, "shortcut", "B"),
        ({"precision": "Mixed_BFloat16"}, "precision", "mixed_bfloat16"),
    ],
)
def test_the_case_of_names_does_not_matter(written, field, value):
    assert getattr(classification.ClassifierConfig().override(written), field) == value


def test_the_case_of_presets_and_verbs_does_not_matter(capsys):
    assert tasks.preset(tasks.of_preset("Digits_ResNet20"), "Digits_ResNet20").dataset == "digits"
    assert cli.main(["Train", "--help"]) == 0
    assert "usage: keras-resnet train" in capsys.readouterr().out


def test_names_of_prepared_and_unknown_data_sets_are_left_to_others(tmp_path):
    (tmp_path / "mnisst").mkdir()
    names.check_dataset("mnisst", str(tmp_path))
    for name in ("voc/2007", "coco/2017", "imagenet2012", "emnist/letters", "fashion_mnist:3.0.1", "zzzz_private"):
        names.check_dataset(name)


def test_the_names_known_here_are_those_of_the_package():
    from keras_resnet.models.weights import published
    from keras_resnet.paper import reproduction
    from keras_resnet.serving import tflite

    assert set(names.WEIGHTS) == {info.weights for info in published.PUBLISHED}
    assert tuple(reproduction.EXPERIMENTS) == reproduce.EXPERIMENTS
    assert classification_task.VARIANTS == tflite.VARIANTS


# Flags


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train --lr=0.1", "unknown flag --lr; it is called --learning_rate here."),
        ("train --epochs=3", "it is called --steps here (an epoch has as many steps as"),
        ("train --batch=3", "--batch_size"),
        ("train --batch-size=3", "it is written --batch_size"),
        ("train --Learning_Rate=3", "it is written --learning_rate"),
        ("train --arch=resnet50", "--model"),
        ("train --data_path=x", "--data "),
        ("train --output_dir=x", "--workdir"),
        ("train --gpus=2", "--replicas"),
        ("train --wd=2", "--weight_decay"),
        ("train --pretrained", "--init_weights"),
        ("train --resume", "rerun the same command to resume"),
        ("train --num_classes=3", "the data set determines the classes"),
        ("train --img_size=3 --task=detection", "--min_size"),
        ("train --anchor_scales=3", "it is a flag of --task=detection, and the task here is classification"),
        ("train --mixup=3 --task=detection", "it is a flag of --task=classification, and the task here is detection"),
        ("train --top=3", "it is a flag of keras-resnet predict, export"),
        ("evaluate --steps=3", "it is a flag of keras-resnet train, reproduce"),
        ("evaluate --task=detection --views=single", "it is a flag of --task=classification"),
        ("evaluate --val_split=test", "--split"),
        ("predict --image=a.jpg", "give files without a flag"),
        ("predict --topk=3", "--top"),
        ("export --output=x", "--out"),
        ("launch --nproc=3 train", "--workers"),
        ("costs --num_classes=3", "--classes"),
        ("train --wrong", "unknown flag --wrong."),
        ("train steps=3", "(did you mean '--steps=3'?)"),
        ("train digits_resnet20", "(did you mean '--preset=digits_resnet20'?)"),
    ],
)
def test_flags_of_other_packages_and_commands(refused, command, message):
    assert message in refused(command)


def test_synonyms_lead_to_flags_that_exist():
    known = {name for options in option_classes() for name in options.field_names()}
    assert set(synonyms.SYNONYMS) <= known
    for options in ([Train, classification.ClassifierConfig], [Train, DetectorConfig]):
        flags_of_train = {name for each in options for name in each.field_names()}
        assert "--learning_rate" in synonyms.hint("lr", flags_of_train)


@pytest.mark.parametrize("written", ["1e3", "10.5", "1,000", "many", "0x", "inf", "nan", ""])
def test_numbers_of_steps_are_whole(refused, written):
    example = " such as 1000" if written == "1e3" else ""
    expected = f"steps must be a whole number{example}; got {written!r}."
    assert expected in refused(["train", f"--steps={written}"])


def test_underscores_in_numbers(capsys):
    assert flags.parse(["--steps=64_000"], [classification.ClassifierConfig])[0] == {"steps": 64000}


@pytest.mark.parametrize("verb", ["train", "predict", "export"])
def test_one_run_is_one_folder(home, refused, verb):
    words = [verb, "--workdir=runs/digits,runs/photos", *(["--out=x"] if verb == "export" else [])]
    words += ["--preset=digits_resnet20"] if verb == "train" else ["photo.jpg"] if verb == "predict" else []
    assert "workdir must be one folder, without a comma" in refused(words)
    assert not (home / "runs" / "digits,runs").exists()


# How a command ends


@pytest.mark.parametrize(
    ("arguments", "file", "expected"),
    [
        (["--out=/full/report"], "/full/report/results.json", "out '/full/report' cannot be read or written: No space"),
        (["--out", "/full/report"], "/full/report", "out '/full/report' cannot"),
        (["--dataset=folder:/full"], "/full/cat/1.jpg", "dataset '/full' cannot"),
        (["--workdir=/a,/full"], "/full/config.json", "workdir '/full' cannot"),
        (["/full/photo.jpg"], "/full/photo.jpg", "the file '/full/photo.jpg' cannot"),
        (["--out=/elsewhere"], "/full/x", "'/full/x' cannot be read or written: No space"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_argument(capsys, arguments, file, expected):
    def fail():
        raise OSError(28, "No space left on device", file)

    assert exits.exit_code("keras-resnet train", fail, arguments) == 1
    assert capsys.readouterr().err.startswith(f"keras-resnet train: {expected}")


def test_every_verb_refuses_a_flag_before_tensorflow_is_imported(tmp_path):
    """In one process, in which TensorFlow cannot be imported."""
    program = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'numpy', 'matplotlib'): sys.modules[name] = None\n"
        "from keras_resnet.cli import main\n"
        f"for verb in {VERBS}:\n"
        "    assert main.run(verb, ['--wrong']) == 1\n"
        "for name in ('--preset=digits_resnet2', '--model=resnet5', '--dataset=minst'):\n"
        "    assert main.run('train', [name, '--workdir=x']) == 1\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("unknown flag --wrong") == len(VERBS)
    assert result.stderr.count("did you mean") == 3
    assert not list(tmp_path.iterdir())


def test_ctrl_c_while_the_command_is_imported():
    slow = (
        "import os, signal, sys\n"
        "from keras_resnet.cli import __main__ as entry\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'keras_resnet.cli.main': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "sys.exit(entry.main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", slow], env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (128 + signal.SIGINT, "keras-resnet: interrupted\n")


# Notices of TensorFlow


def test_notices_are_dropped_and_everything_else_arrives():
    """Also what is written by a process that then crashes."""
    program = (
        "import os, signal, sys\n"
        "from keras_resnet.cli import notices\n"
        "notices.start_filter()\n"
        "os.write(2, b'I0000 00:00:1.2 3 port.cc:153] oneDNN custom operations are on. You may see\\n')\n"
        "os.write(2, b'W0000 00:00:1.2 3 tf_tfl.cc:364] Ignored output_format.\\n')\n"
        "os.write(2, b'E0000 00:00:1.2 3 cuda_dnn.cc:1] could not create a handle\\nwithout an end')\n"
        "print('a sentence', file=sys.stderr)\n"
        "if sys.argv[1] == 'crash': os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for end, code in (("return", 0), ("crash", -signal.SIGKILL)):
        result = subprocess.run([sys.executable, "-c", program, end], env=environment, capture_output=True, text=True)
        assert result.returncode == code
        lines = ["E0000 00:00:1.2 3 cuda_dnn.cc:1] could not create a handle", "a sentence", "without an end"]
        assert result.stdout == ""
        for line in lines:
            assert line in result.stderr
        assert "oneDNN" not in result.stderr
        assert "Ignored" not in result.stderr


@pytest.mark.parametrize(
    "line",
    [
        b"E0000 00:00:1.2 3 cuda_executor.cc:1] INTERNAL: CUDA error",
        b"W0000 00:00:1.2 3 gpu_device.cc:1] Cannot dlopen some GPU libraries",
        b"Local rendezvous is aborting with status: INVALID_ARGUMENT: Paddings must be non-negative",
        b"F0000 00:00:1.2 3 tensor.cc:1] Check failed",
        b"Segmentation fault",
        b"UserWarning: something of Python",
    ],
)
def test_warnings_and_errors_are_not_dropped(line):
    arrived = []
    notices.forward([line + b"\n"], arrived.append)
    assert arrived == [line + b"\n"]
