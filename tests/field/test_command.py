"""What people type: paths with `~`, names with typing errors, flags of other packages, and what the command answers.

The command runs in this process. Whatever is refused here is refused before TensorFlow is imported.
"""

import dataclasses
import errno
import fcntl
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import keras_resnet
from keras_resnet import files
from keras_resnet.classification import config as classification
from keras_resnet.classification import evaluate
from keras_resnet.classification import task as classification_task
from keras_resnet.classification.run import ClassifierRun
from keras_resnet.cli import exits, flags, notices, reproduce
from keras_resnet.cli import main as cli
from keras_resnet.cli.train import Train
from keras_resnet.data.dataset import Dataset, DatasetInfo
from keras_resnet.data.sources import from_arrays
from keras_resnet.data.transforms import EvalTransform
from keras_resnet.detection.average_precision import Detections
from keras_resnet.detection.config import DetectorConfig
from keras_resnet.detection.data.annotations import DetectionDataset
from keras_resnet.detection.evaluate import draw
from keras_resnet.errors import InputError
from keras_resnet.evaluation import figures
from keras_resnet.evaluation.metrics import Outcomes
from keras_resnet.experiment import curves, names, plots, synonyms, tasks
from keras_resnet.models.weights import published
from keras_resnet.paper import reproduction, responses
from keras_resnet.serving import publish, tflite
from keras_resnet.training import callbacks, finetuning, schedules

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
    *("jobs", "masks", "shard_megabytes"),
}
"""Flags whose help speaks of files and folders, but which are no paths."""


@pytest.mark.parametrize("written", ["~/runs/x", "$HOME/runs/x", "${HOME}/runs/x", "$RUNS/x"])
def test_paths_are_expanded(home, written):
    assert Train().override({"workdir": written}).workdir == f"{home}/runs/x"
    verb = classification_task.Evaluate().override({"workdir": [written, "b"], "dataset": f"folder:{written}"})
    assert verb.workdir == (f"{home}/runs/x", "b")
    assert verb.dataset == f"folder:{home}/runs/x"
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
        ("launch trian --preset=digits_resnet20", "(did you mean 'train'?)"),
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
    assert set(names.WEIGHTS) == {info.weights for info in published.PUBLISHED}
    assert tuple(reproduction.EXPERIMENTS) == reproduce.EXPERIMENTS
    assert classification_task.VARIANTS == tflite.ALL_VARIANTS


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
        ("train --roi_pool_size=3", "it is a flag of --task=detection, and the task here is classification"),
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preset", "=", "digits_resnet20"], "without spaces around the equals sign: --preset=VALUE."),
        (["--workdir=x", "--preset", "=digits_resnet20"], "--preset=VALUE."),
        (["--preset ", "x"], "unknown flag --preset ; it is written --preset=VALUE, without spaces."),
        (["--preset:digits_resnet20"], "unknown flag --preset:digits_resnet20; it is written --preset=digits_resnet20"),
        (["\u2013preset=x"], "flags begin with two hyphens; got '\u2013preset=x'."),
        (["\u2014-steps=3"], "flags begin with two hyphens"),
        (["--no-mirror"], "it is written --nomirror"),
        (["--no_nesterov"], "it is written --nonesterov"),
        (["--no-mirorr"], "(did you mean 'mirror'?)"),
        (["--workdir=x", "--preset="], "preset must not be empty; leave out the flag for its default."),
        (["--workdir="], "workdir must not be empty"),
        (["--data="], "data must not be empty"),
        (["--task="], "task must not be empty"),
        (["--data=my", "photos"], "got 'photos' (did you mean '--data=my photos', in quotes?)."),
        (["--data", "my", "photos", "of", "2021"], "(did you mean 'my photos of 2021', in quotes?)."),
        (["--data=my", "pictures"], "train takes flags only; got 'pictures'."),
    ],
)
def test_the_notation_of_flags(tmp_path, monkeypatch, refused, words, message):
    monkeypatch.chdir(tmp_path)
    for name in ("my photos", "my photos of 2021"):
        (tmp_path / name).mkdir()
    assert message in refused(["train", *words])


def test_empty_values_that_mean_something():
    parsed = flags.parse(["--decay_steps=", "--shortcut=", "--cache="], [classification.ClassifierConfig])[0]
    config = classification.ClassifierConfig(decay_steps=(3,)).override(parsed)
    assert (config.decay_steps, config.shortcut, config.cache) == ((), "", "")


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        ("phoot.jpg", "there is no image file 'phoot.jpg' (did you mean 'photo.jpg'?)."),
        ("*.png", "there is no image file '*.png'."),
        (
            "https://example.org/a.jpg",
            "predict takes files, not addresses; download 'https://example.org/a.jpg' first.",
        ),
        ("", "there is no image file ''."),
        ("link.jpg", "image file 'link.jpg' is a link to a file that does not exist."),
    ],
)
@pytest.mark.parametrize("task", ["classification", "detection"])
def test_photos_are_looked_for_before_tensorflow_is_imported(home, refused, photo, message, task):
    (home / "photo.jpg").write_bytes(b"")
    (home / "link.jpg").symlink_to("missing.jpg")
    (home / "runs/photos/config.json").write_text(json.dumps({"task": task, "config": {}}))
    assert message in refused(["predict", "--workdir=runs/photos", "photo.jpg", photo])


@pytest.mark.parametrize("words", [["--version"], ["version"], ["-V"]])
def test_the_version_is_printed(words, capsys):
    assert cli.main(words) == 0
    assert capsys.readouterr().out == f"keras-resnet {keras_resnet.__version__}\n"


def test_help_of_a_verb(capsys):
    assert cli.main(["help", "costs"]) == 0
    assert capsys.readouterr().out.startswith("usage: keras-resnet costs")


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


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["costs"], 128 + signal.SIGPIPE, ""),
        (["--help"], 128 + signal.SIGPIPE, ""),
        (["train", "--help"], 128 + signal.SIGPIPE, ""),
        (["costs", ">/dev/full"], 1, "keras-resnet costs: the output cannot be written: No space left on device.\n"),
        (["costs", ">&-"], 0, ""),
        (["costs", ">&-", "2>&-", "<&-"], 0, ""),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written(words, code, error, unbuffered):
    """As by `| head`, whose pipe closes, to a full disk, and without any output."""
    command = f"sleep 0.2; {sys.executable} -m keras_resnet.cli {' '.join(words)}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(["sh", "-c", command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as sh:
        sh.stdout.close()
        assert sh.stderr.read().decode() == error
    assert sh.returncode == code


def test_every_verb_refuses_a_flag_before_tensorflow_is_imported(tmp_path):
    """In one process, in which TensorFlow cannot be imported."""
    program = (
        "import sys\n"
        "import builtins\n"
        "original = builtins.__import__\n"
        "def light(name, *arguments, **options):\n"
        "    assert name.split('.')[0] not in ('tensorflow', 'keras', 'numpy', 'matplotlib'), name\n"
        "    return original(name, *arguments, **options)\n"
        "builtins.__import__ = light\n"
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
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # jobs in the background ignore it
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


def test_ctrl_c_while_tensorflow_is_imported_is_not_lost(tmp_path):
    """Also in a destructor, where Python ignores exceptions."""
    (tmp_path / "tensorflow.py").write_text(
        "import os, signal, time\n"
        "class Destroyed:\n"
        "    def __del__(self): os.kill(os.getpid(), signal.SIGINT); time.sleep(0.1)\n"
        "Destroyed()\n"
    )
    program = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from keras_resnet.cli import exits\n"
        "exits.handle_interrupts()\n"
        "exits.exit_code('keras-resnet train', lambda: __import__('tensorflow') and None)\n"
        "print('went on')\n"
    )
    (tmp_path / "own.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    result = subprocess.run([sys.executable, "own.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "own: interrupted\n")


@pytest.mark.parametrize("kind", [RuntimeError, InputError])
def test_ctrl_c_that_a_library_turns_into_its_own_error(kind, capsys):
    """As OpenVINO does while it converts a network."""

    def convert():
        try:
            exits.interrupt(signal.SIGINT, None)
        except KeyboardInterrupt as error:
            raise kind("Check 'false' failed") from error

    assert exits.exit_code("keras-resnet export", convert) == 130
    assert capsys.readouterr().err == "keras-resnet export: interrupted\n"
    with pytest.raises(RuntimeError, match="a defect"):
        exits.exit_code("keras-resnet export", lambda: (_ for _ in ()).throw(RuntimeError("a defect")))


# Notices of TensorFlow


def test_notices_are_dropped_and_everything_else_arrives():
    """Also what is written by a process that then crashes."""
    program = (
        "import os, signal, sys\n"
        "from keras_resnet.cli import notices\n"
        "notices.start_filter()\n"
        "os.write(2, b'I0000 00:00:1.2 3 port.cc:153] oneDNN custom operations are on. You may see\\n')\n"
        "os.write(2, b'W0000 00:00:1.2 3 tf_tfl.cc:364] Ignored output_format.\\n')\n"
        "os.write(2, b'E0000 00:00:1.2 3 cuda_platform.cc:52] failed call to cuInit: UNKNOWN ERROR (303)\\n')\n"
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
        assert "cuInit" not in result.stderr


def test_a_process_without_standard_streams(tmp_path):
    """Progress bars and the filter of notices write to `sys.stderr`, which is None there."""
    program = (
        "import sys, tqdm\n"
        "from keras_resnet.cli import exits, notices\n"
        "exits.open_standard_streams()\n"
        "notices.start_filter()\n"
        "for _ in tqdm.tqdm(range(2), disable=None): print('a', file=sys.stderr)\n"
        f"open({str(tmp_path / 'file')!r}, 'w').write('written')\n"
    )
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", program]
    assert subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode == 0
    assert (tmp_path / "file").read_text() == "written"


@pytest.mark.parametrize(
    "line",
    [
        b"E0000 00:00:1.2 3 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error: UNKNOWN ERROR (100)",
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


# Run folders


LOCKED = """
import sys, time
from keras_resnet import files
with files.in_use(sys.argv[1]):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other_process(tmp_path):
    """A process that trains in the folder `run`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", LOCKED, str(tmp_path / "run")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_two_processes_do_not_train_in_one_folder(tmp_path, other_process):
    folder = tmp_path / "run"
    owner = f"process {other_process.pid} on host {socket.gethostname()}"
    with pytest.raises(InputError, match=f"workdir {str(folder)!r} is in use by {owner}."), files.in_use(folder):
        pass
    other_process.kill()
    other_process.wait()
    with files.in_use(folder):  # a kill releases the lock, though the file is still there
        assert (folder / files.LOCK).read_text().startswith(f"process {os.getpid()} on host")
    assert not (folder / files.LOCK).exists()


def test_a_lock_leaves_nothing_behind(tmp_path):
    with pytest.raises(KeyError), files.in_use(tmp_path / "new" / "run"):
        raise KeyError
    assert not (tmp_path / "new").exists()
    with files.in_use(tmp_path / "run"):
        (tmp_path / "run" / "config.json").write_text("{}")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]
    for _ in range(2):  # the same process again
        with files.in_use(tmp_path / "run"):
            pass


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="workdir must be a writable folder"), files.in_use(tmp_path / "file" / "run"):
        pass


def test_a_bracket_in_the_path_of_a_run_or_model(home, refused, monkeypatch):
    """TensorFlow would write checkpoints there, and find none when the run is to resume."""
    words = ["train", "--preset=digits_resnet20", "--workdir=runs/new[1]", "--steps=2"]
    assert "workdir must not have '[' in its path, which TensorFlow reads as a pattern; got 'runs/new[1]'" in refused(
        words
    )
    with pytest.raises(InputError, match=r"^out must not have '\['"):
        files.check_no_bracket("models/a[1]")
    assert not (home / "runs" / "new[1]").exists()


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def no_locks(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with files.in_use(tmp_path / "run"):
        assert (tmp_path / "run" / files.LOCK).exists()


def test_the_folder_of_the_second_training_is_refused(home, other_process, refused):
    words = ["train", "--preset=digits_resnet20", "--model=resnet20", f"--workdir={home}/run", "--steps=2"]
    assert f"is in use by process {other_process.pid} on host" in refused(words)
    assert [path.name for path in (home / "run").iterdir()] == [files.LOCK]


# Plots, reports and the next command


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "curves --workdir=runs/digits --out=curves.png",
            "out must be a file that does not exist yet; 'curves.png' does",
        ),
        ("curves --workdir=runs/digits", "'curves.png' does"),
        ("responses --workdir=runs/digits --out=new.png", "'new.csv' does"),
        ("convert resnet50.weights.h5 curves.safetensors", "OUT must be a file that does not exist yet"),
        ("evaluate --workdir=runs/digits --out=photos", "out must be a folder that does not exist yet; 'photos' does"),
        ("export --workdir=runs/digits --format=tflite --out=photos", "'photos' does"),
    ],
)
def test_nothing_is_overwritten(home, refused, command, message):
    for name in ("curves.png", "new.csv", "curves.safetensors"):
        (home / name).write_text("mine")
    assert message in refused(command)
    assert (home / "curves.png").read_text() == (home / "new.csv").read_text() == "mine"


def test_folders_of_outputs_are_made_only_for_outputs(home, refused):
    content = {"task": "classification", "config": {}, "dataset": {"name": "a", "class_names": ["b"]}}
    content["dataset"] |= {"image_size": None, "splits": {}}
    (home / "runs" / "digits" / "config.json").write_text(json.dumps(content))
    assert "has no metrics.jsonl" in refused("curves --workdir=runs/digits --out=new/folder/curves.png")
    assert not (home / "new").exists()


def test_the_next_command_can_be_typed():
    text = tasks.next_commands(["keras-resnet", "evaluate", "--workdir=my runs/a"], "keras-resnet predict PHOTO...")
    assert text == "next: keras-resnet evaluate '--workdir=my runs/a'\n      keras-resnet predict PHOTO..."


def test_the_manifest_of_a_version_is_checked_from_its_folder_and_from_the_one_above(tmp_path):
    with files.staging(tmp_path / "models") as folder:
        (folder / "variables").mkdir()
        (folder / "variables" / "a b").write_text("content")
        version = publish.publish(folder, tmp_path / "models")
    for where, manifest in ((version, "manifest.sha256"), (version.parent, "1.sha256")):
        command = ["sha256sum", "--check", "--strict", manifest]
        assert subprocess.run(command, cwd=where, capture_output=True).returncode == 0
    assert publish.version_numbers(version.parent) == {1}


def test_the_learning_rate_is_written_as_it_was_given():
    for rate in (0.1, 0.01, 1e-3, 5e-05, 0.3):
        assert callbacks.shortest(np.float32(rate)) == rate


def test_a_constant_rate_is_called_constant():
    assert schedules.describe("piecewise", 0.1) == "constant learning rate 0.1"
    assert "constant" not in schedules.describe("piecewise", 0.1, decay_steps=[3])


@pytest.mark.parametrize(("available", "given", "expected"), [(20, None, 20), (300, None, 256), (20, 5, 5)])
def test_int8_is_calibrated_on_as_many_images_as_there_are(available, given, expected):
    dataset = from_arrays(np.zeros((available, 4, 4, 3), "uint8"), np.zeros(available, "int32"), ("a",))
    transform = EvalTransform((4, 4), (0.0,) * 3, (1.0,) * 3)
    assert sum(len(batch) for batch in tflite.calibrate(dataset, "train", given, transform)) == expected


def test_a_run_of_a_folder_is_evaluated_on_its_own_split():
    info = DatasetInfo("folder:photos", ("a", "b"), None, {"train": 9})
    for split in ("train[80%:]", "train"):
        config = classification.ClassifierConfig(eval_split=split)
        run = ClassifierRun(pathlib.Path("run"), config, info)
        assert evaluate.default_split(Dataset(info, lambda split: None), [run]) == split


# Names in plots

NAMES = ("猫", "قطة", "🐈", "a$b$", "_background", "50 %", "x_1^2", "line\nbreak", r"\alpha", "größe", "<b>")


def outcomes(classes):
    random = np.random.default_rng(0)
    scores = random.normal(size=(50, classes))
    return Outcomes.of(random.integers(0, classes, 50), scores - np.log(np.exp(scores).sum(1, keepdims=True)))


def test_class_names_of_any_script_are_drawn_in_silence(tmp_path, recwarn, caplog):
    records = [{"step": 2, "top1_error": 50.0, "val_top1_error": 40.0}, {"step": 4, "val_top1_error": 30.0}]
    figures.confusion_matrix(outcomes(len(NAMES)), NAMES, tmp_path / "confusion.png", "猫 $")
    figures.reliability(outcomes(len(NAMES)), tmp_path / "reliability.png", "_猫 $")
    curves.plot({name: records for name in NAMES}, tmp_path / "curves.png", "猫 $")
    responses.plot([responses.Responses(name, ("a",), np.ones(3)) for name in NAMES], tmp_path / "responses.png")
    detections = Detections(np.array([[0, 0, 9, 9]] * len(NAMES)), np.ones(len(NAMES)), np.arange(len(NAMES)))
    draw(np.zeros((40, 40, 3), "uint8"), detections, NAMES)
    assert len(list(tmp_path.iterdir())) == 4
    assert not [str(warning.message) for warning in recwarn if "Deprecat" not in str(warning.category)]
    assert not caplog.records


def test_names_are_shown_as_they_are_or_escaped():
    assert plots.label("größe 50 % x_1") == "größe 50 % x_1"
    assert plots.label("a$b") == r"a\$b"
    assert plots.label("line\nbreak\t") == r"line\nbreak\t"
    assert plots.label("_background").strip() == "_background"
    assert plots.label("猫", fallbacks=False) == r"\u732b"
    assert plots.label("🐈", fallbacks=False) == r"\U0001f408"


@pytest.mark.parametrize("last", [1, 3, 7, 10, 300, 64_000])
def test_axes_of_steps_have_whole_numbers(last):
    axes = Figure().subplots()
    axes.plot([1, last], [0, 1])
    plots.whole_numbers(axes.xaxis)
    assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_a_bin_of_few_images_is_pale(tmp_path, monkeypatch):
    drawn = []
    bar = Axes.bar
    monkeypatch.setattr(Axes, "bar", lambda *arguments, **options: drawn.append(options) or bar(*arguments, **options))
    sure = np.log([[0.999, 0.001]] * 500 + [[0.55, 0.45]])
    figures.reliability(Outcomes.of(np.zeros(501, int), sure), tmp_path / "reliability.png")
    pale, solid = (color[3] for color in drawn[0]["color"])
    assert pale < 0.25
    assert solid == 1


# The paper's numbers stand next to the paper's data sets


@pytest.mark.parametrize(
    ("dataset", "class_names", "title", "has_paper"),
    [
        ("cifar10", published.CIFAR10_CLASSES, "Table 6: residual networks on CIFAR-10", True),
        ("digits", tuple("0123456789"), "Table 6: residual networks on digits", False),
        ("folder:/cifar", published.CIFAR10_CLASSES, "Table 6: residual networks on folder:/cifar", True),
    ],
)
def test_an_experiment_names_its_data_set(dataset, class_names, title, has_paper):
    config = classification.ClassifierConfig(dataset=dataset)
    run = ClassifierRun(pathlib.Path("run"), config, DatasetInfo(dataset, class_names, (32, 32), {}))
    experiment = reproduction._on(reproduction.EXPERIMENTS["table6"], [run])
    assert experiment.title == title
    assert bool(experiment.paper) is has_paper


# Arguments by the names that the user gave them


@pytest.mark.parametrize("argument", ["train_split", "eval_split", "calibration_split", "report_split"])
def test_a_split_is_named_as_the_flag_that_has_it(argument):
    info = DatasetInfo("photos", ("a",), None, {"train": 9, "test": 3})
    message = f"{argument} must be one of 'train', 'test'; got 'tset' (did you mean 'test'?)."
    with pytest.raises(InputError, match=re.escape(message)):
        Dataset(info, lambda split: None).count("tset", argument)
    with pytest.raises(InputError, match=re.escape(message)):
        DetectionDataset(info, lambda split: []).annotations("tset[:2]", argument)


@pytest.mark.parametrize("argument", ["init_weights", "backbone_weights"])
def test_weights_are_named_as_the_flag_that_has_them(tmp_path, argument):
    with pytest.raises(InputError, match=f"^{argument} must be .*the path of an existing file"):
        finetuning.find(str(tmp_path / "no.weights.h5"), "resnet20", argument)


# Scripts

SCRIPT = """
import logging
from absl import flags
from keras_resnet.cli import script
from keras_resnet.errors import InputError
flags.DEFINE_string("weights", None, "A file.")

def main(arguments):
    logging.getLogger("keras_resnet").warning("a warning")
    print(flags.FLAGS.weights, *arguments[1:])
    if arguments[1:] == ["stop"]:
        raise KeyboardInterrupt
    raise InputError("weights must be something else.")

script.run(main)
"""


@pytest.mark.parametrize(
    ("argument", "code", "last"),
    [("$HOME/a.jpg", 1, "own: weights must be something else."), ("stop", 130, "own: interrupted")],
)
def test_scripts_end_as_commands_do(tmp_path, argument, code, last):
    (tmp_path / "own.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": "/home/me"}
    command = [sys.executable, "own.py", "--weights=~/a.h5", argument]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (code, f"a warning\n{last}\n")
    assert result.stdout == f"/home/me/a.h5 {argument.replace('$HOME', '/home/me')}\n"
