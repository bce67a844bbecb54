"""The docs: every command and Python block is executed, links resolve, and the API reference lists every module.

The blocks of a page are executed in order, in a folder of its own that contains the files that a reader is assumed to
have: photos, weights, runs. Networks have one block per stage (`small_networks`), and long runs and downloads are
replaced according to the tables below; blocks that cannot be executed are listed in `NOT_EXECUTED` with the reason.
"""

import ast
import dataclasses
import hashlib
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.data.idx_files import folder as idx_folder
from tests.detection.data.folders import voc_folder
from tests.segmentation.sets import two_folders

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

COMMANDS = [
    ("PHOTO...", "photo.jpg", "any photo"),
    ("folder:/data/val", "folder:PHOTOS", "ImageNet's validation images"),
    ("folder:photos", "folder:PHOTOS", "100 photos of ImageNet"),
    ("idx:/usr/share/datasets/fashion-mnist", "idx:idx", "Debian's package need not be installed"),
    ("--dataset=cifar10", "--dataset=synthetic:32x32x10", "CIFAR-10 is a download"),
    (" --download", "", "no data set is fetched"),
    ("inspect --data=animals", "inspect --data=BCCD", "any folder with boxes"),
]
"""Text in commands, its replacement, and the reason."""

APPENDED = [
    (
        r"train .*--preset=bccd",
        "--steps=2 --min_size=96 --max_size=128 --roi_batch_size_per_image=8 --pre_nms_topk_test=100 "
        "--post_nms_topk_test=10",
    ),
    (r"train (?!.*bccd)", "--steps=2 --batch_size=4"),
    (r"train .*--preset=camvid", "--crop_size=32,32 --multi_grid="),
    (r"train .*--preset=(cifar10|fashion_mnist)(?!.*--dataset)", "--dataset=synthetic:32x32x10"),
    (
        r"train .*--preset=imagenet",
        "--dataset=synthetic:48x48x4 --image_size=32 --scale_range=40,48 --eval_split=test[:20]",
    ),
    (r"train .*folder:PHOTOS", "--image_size=32"),
    (r"evaluate .*multi_scale", "--scales=64,96"),
    (r"evaluate .*--mirror", "--scales=1,1.25"),
    (r"export .*--workdir=runs/(?!bccd).*--format=tflite", "--calibration_images=20 --report_images=20"),
]
"""Commands of `keras-resnet` and flags that make them short; the last flag takes precedence."""

PYTHON = [
    ('"cifar10"', '"synthetic:32x32x10"', "CIFAR-10 is a download"),
    (
        'train(PRESETS["digits_resnet20"]',
        'train(ClassifierConfig(dataset="digits", steps=2, batch_size=4)',
        "300 steps",
    ),
    ("digits.images / 255, digits.labels", "digits.images[:8] / 255, digits.labels[:8]", "1,198 images"),
    ("steps=20, decay_steps=(), eval_steps=10)", "steps=2, batch_size=4, decay_steps=())", "20 steps"),
    ("steps=100)", "steps=1)", "100 batches"),
]
"""The same for Python blocks."""

NOT_EXECUTED = [
    (r"make (test|soak|demo|dist|docs|format|clean-install|help)\b", "runs these tests, or builds for minutes"),
    (r"keras-resnet .*hf://", "models/weights/test_hub.py has a stand-in for the Hub; its flags are parsed"),
    (r"(\w+=\S+ )?pip install ", "installs packages; test_scripts.py installs the wheel"),
    (r"\.venv/bin/", "uses the environment that make creates"),
    (r"pre-commit install$", "changes the repository's hooks"),
    (r"docker compose --file=(\S+) up$", "docker is not installed; the file must exist"),
    (
        r"python ((examples|export|benchmarks)/\w+\.py)",
        "test_examples.py and test_scripts.py run it; its flags are checked",
    ),
    (
        r"keras-resnet (launch|train .*--strategy=)",
        "distribute/test_launch.py and test_strategy.py start workers; its flags are parsed",
    ),
    (r"keras-resnet train --preset=\S+ (--download|--steps=)", "similar to docs/training.md; its flags are parsed"),
    (r"keras-resnet train --preset=fashion_mnist_resnet20 .* --precision=", "the same"),
    (r"keras-resnet train .*bccd.*--backbone_weights=resnet50_w", "similar to docs/detection.md; its flags are parsed"),
    (
        r"keras-resnet (train|evaluate) .*runs/masks",
        "detection/test_task.py trains and evaluates masks; its flags are parsed",
    ),
    (
        r"WANDB_MODE=offline keras-resnet train .* --log=wandb,mlflow",
        "training/test_trackers.py has stand-ins for the clients, which are not installed",
    ),
    (
        r"keras-resnet train --preset=cifar10_resnet20_int8 --init_weights=cifar10 ",
        "similar to the command with a teacher; its flags are parsed",
    ),
    (r"keras-resnet reproduce ", "paper/test_reproduction.py trains; its flags are parsed"),
    (
        r"keras-resnet export .*--format=tflite.*--out=(r50|r20|models/digits_tflite)$",
        "similar to docs/serving.md; its flags are parsed",
    ),
    (
        r"keras-resnet (export|evaluate) .*(onnx|openvino)",
        "serving/test_interchange.py writes and evaluates such files; its flags are parsed",
    ),
    (r"keras-resnet export .*--format=web", "serving/test_web.py writes and opens such pages; its flags are parsed"),
    (r"python -m http.server ", "serves until it is stopped"),
    (
        r"keras-resnet export --workdir=runs/bccd --format=tflite",
        "detection/test_export.py writes one; its flags are parsed",
    ),
    (r"keras-resnet export --weights=resnet50-11ad3fa6.pth", "similar to docs/serving.md; its flags are parsed"),
    (r"keras-resnet evaluate --weights=resnet50_weights", "similar to --weights=imagenet; its flags are parsed"),
    (
        r"keras-resnet (evaluate|responses) .*\.th\b",
        "similar to --weights=cifar10 and to --workdir; its flags are parsed",
    ),
    (
        r"keras-resnet (train --preset=camvid_deeplabv3_plus|evaluate --workdir=runs/camvid --split=test$)",
        "similar to docs/segmentation.md; its flags are parsed",
    ),
    (
        r"keras-resnet (train|evaluate|predict|export) .*(_loc_resnet|runs/loc)",
        "localization/test_task.py and test_train.py run the commands; its flags are parsed",
    ),
    (
        r"keras-resnet (train|evaluate|predict|export) .*runs/animals",
        "detection/test_train.py and test_recipe.py train without a preset; its flags are parsed",
    ),
    (r"keras-resnet train --preset=coco_mask", "detection/test_task.py trains with masks; its flags are parsed"),
    (r"keras-resnet evaluate --saved_model", "classification/test_evaluate.py evaluates exports; its flags are parsed"),
    (
        r"import safetensors.torch, torchvision\n",
        "torchvision is not installed; its files are compared in docs/weights.md",
    ),
]
"""Patterns of commands and blocks that are not executed, and the reason."""

TASK_OF = {
    "runs/loc": "localization",
    "runs/animals": "detection",
    "runs/masks": "detection",
    "runs/camvid": "segmentation",
}
"""Beginnings of the folders of runs whose training is not executed, and their tasks."""


def blocks(page):
    """Yield (line, language, text) of each fenced block."""
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, match.start()) + 1, match[1], match[2]


def commands(text):
    """Yield the commands of a shell block, without comments and with continued lines joined."""
    for line in text.replace("\\\n", " ").splitlines():
        if command := re.sub(r"\s+#.*|^#.*", "", line).strip():
            yield re.sub(r"\s+", " ", command)


def reason(code):
    """Return why a command or block is not executed, or None if it is."""
    return next((why for beginning, why in NOT_EXECUTED if re.match(beginning, code)), None)


EXECUTED_AT = {
    command: page
    for page in [*PAGES[:2], *reversed(PAGES[2:])]
    for _, language, text in blocks(page)
    if language == "sh"
    for command in commands(text)
}
"""Command -> the page on which it is executed, once: the first in docs/, or else the README or CONTRIBUTING."""


@pytest.fixture(scope="module")
def belongings(small_networks, tmp_path_factory):
    """A folder with a reader's files, and the published weights of a ResNet-50 in a cache."""
    import keras_resnet
    from keras_resnet.classification.config import ClassifierConfig
    from keras_resnet.classification.train import train
    from keras_resnet.models import weights
    from keras_resnet.models.weights import published

    root = tmp_path_factory.mktemp("belongings")
    random = np.random.default_rng(0)
    for number in range(6):
        path = root / "PHOTOS" / ("n01440764", "n01443537")[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (60, 70, 3), "uint8")).save(path)
    shutil.copy(path, root / "photo.jpg")
    idx_folder(root / "idx", random.integers(0, 256, (40, 28, 28)), np.arange(40) % 10)
    content = {name: [("cat", (11, 21, 60, 70), 0)] for name in "abc"}
    voc_folder(root / "BCCD", content, (96, 128), {"train": ["a"], "val": ["b"], "test": ["c"]})
    two_folders(root / "CamVid", {"train": 4, "val": 1, "test": 1})
    made = {
        "resnet50_weights_tf_dim_ordering_tf_kernels.h5": (keras_resnet.ResNet50(), "imagenet"),
        "resnet50-0676ba61.pth": (keras_resnet.ResNet50(stride_in_1x1=False), "imagenet_torchvision_v1"),
        "resnet20-12fca82f.th": (keras_resnet.ResNet20(), "cifar10_akamaster"),
        "resnet56-4bfd9763.th": (keras_resnet.ResNet56(), "cifar10_akamaster"),
    }
    for name, (model, origin) in made.items():
        # Files are recognized by their content, not by their name.
        info = published.model_info(model.name, origin)
        if info.resize:
            info = dataclasses.replace(info, image_size=64, resize=72)
        weights.save(model, root / "made.weights.h5", info)
        shutil.copy(root / "made.weights.h5", root / name)
    for name, other in (
        ("resnet50.weights.h5", "resnet50_weights_tf_dim_ordering_tf_kernels.h5"),
        ("resnet50-11ad3fa6.pth", "resnet50-0676ba61.pth"),
        ("resnet20.weights.h5", "resnet20-12fca82f.th"),
    ):
        shutil.copy(root / other, root / name)
    train(ClassifierConfig(dataset="synthetic:32x32x10", steps=2, batch_size=4), root / "runs" / "r20")
    for name in ("r56", "plain20", "other"):
        shutil.copytree(root / "runs" / "r20", root / "runs" / name)
    return root


@pytest.fixture
def reader(belongings, tmp_path, monkeypatch):
    """A copy of `belongings` as the current folder."""
    from keras_resnet import files
    from keras_resnet.models.weights import published

    home = tmp_path / "home"
    shutil.copytree(belongings, home)
    file = home / "resnet50_weights_tf_dim_ordering_tf_kernels.h5"
    info = published.model_info("resnet50", "imagenet")
    digest = f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    small = dataclasses.replace(info, image_size=64, resize=72, digest=digest)
    monkeypatch.setattr(published, "PUBLISHED", tuple(small if row == info else row for row in published.PUBLISHED))
    monkeypatch.setenv(files.CACHE_VARIABLE, str(home))
    monkeypatch.chdir(home)
    return home


def small(command):
    """Return the command that is executed instead of a command of `keras-resnet`."""
    for text, replacement, _ in COMMANDS:
        command = command.replace(text, replacement)
    return " ".join([command, *(flags for pattern, flags in APPENDED if re.match(f"keras-resnet {pattern}", command))])


def execute(command):
    """Execute a command of `keras-resnet`; of other commands, check the flags, targets or files that they name."""
    from keras_resnet.cli import main as cli

    if reason(command) is None:
        program, verb, *arguments = shlex.split(small(command))
        for argument in arguments:
            if verb == "train" and argument.startswith("--workdir="):
                shutil.rmtree(argument.removeprefix("--workdir="), ignore_errors=True)  # one of `belongings`
        if verb == "convert":
            pathlib.Path(arguments[-1]).unlink(missing_ok=True)
        assert program == "keras-resnet", f"{command!r} is neither executed nor in NOT_EXECUTED"
        assert cli.run(verb, arguments) == 0, command
    elif command.startswith("keras-resnet "):
        tasks = {task for folder, task in TASK_OF.items() if f"--workdir={folder}" in command}
        parse(*shlex.split(command)[1:], *(f"--task={task}" for task in tasks if " train " not in command))
    elif command.startswith("python ") and not command.startswith("python -m "):
        known = flags_of(ROOT / shlex.split(command)[1])
        assert {part[2:].split("=")[0] for part in shlex.split(command) if part.startswith("--")} <= known, command
    elif command.startswith("make "):
        assert f"\n{command.split()[1]}:" in (ROOT / "Makefile").read_text()
    elif match := re.match(r"docker compose --file=(\S+)", command):
        assert pathlib.Path(match[1]).is_file()


def parse(verb, *arguments):
    """Parse the flags of a command of `keras-resnet` without running it."""
    from keras_resnet.cli import main as cli

    cli.parse(verb, arguments)
    if verb == "launch":
        parse(*arguments[[argument.startswith("-") for argument in arguments].index(False) :])


def flags_of(script):
    """Return the names of the flags that a script defines, including those of its configuration."""
    from keras_resnet.classification.config import ClassifierConfig
    from keras_resnet.detection.config import DetectorConfig

    calls = [node for node in ast.walk(ast.parse(script.read_text())) if isinstance(node, ast.Call) and node.args]
    names = {str(call.args[0].value).lstrip("-") for call in calls if isinstance(call.args[0], ast.Constant)}
    if "cli.run" in script.read_text():
        names |= set(vars(ClassifierConfig())) | set(vars(DetectorConfig())) | {"preset", "workdir", "out", "data"}
    return names


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if list(blocks(page))], ids=lambda page: page.name)
def test_blocks_are_executed(page, reader, short_timing):
    from keras_resnet.classification.config import ClassifierConfig

    names, done = {"ClassifierConfig": ClassifierConfig}, set()
    for line, language, text in blocks(page):
        where = f"{page.name}:{line}"
        print(f"--- {where}")
        if language == "sh":
            for command in commands(text):
                if EXECUTED_AT[command] == page and command not in done:
                    print(f"$ {command}")
                    execute(command)
                    done.add(command)
        elif language == "python":
            if reason(text) is None:
                for original, replacement, _ in PYTHON:
                    text = text.replace(original, replacement)
                exec(compile("\n" * line + text, str(page), "exec"), names)
        else:
            assert language == "text", f"{where}: a block must be sh, python or text"


def test_tables_of_replacements_are_used():
    """Every row of the tables above matches a block of the docs."""
    everything = [(language, text) for page in PAGES for _, language, text in blocks(page)]
    python = "".join(text for language, text in everything if language == "python")
    shell = [command for language, text in everything if language == "sh" for command in commands(text)]
    for text, _, _ in COMMANDS:
        assert any(text in command for command in shell), text
    for pattern, _ in APPENDED:
        assert any(re.match(f"keras-resnet {pattern}", command) for command in shell), pattern
    for text, _, _ in PYTHON:
        assert text in python, text
    for beginning, _ in NOT_EXECUTED:
        candidates = [*shell, *(text for language, text in everything if language == "python")]
        assert any(re.match(beginning, code) for code in candidates), beginning


def test_scripts_in_the_docs_have_tests():
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = {match for page in PAGES for match in re.findall(r"(?:examples|export)/(\w+)\.py", page.read_text())}
    assert named
    for name in named:
        assert (ROOT / "examples" / f"{name}.py").is_file() or (ROOT / "export" / f"{name}.py").is_file()
        assert re.search(rf"\b{name}\b", tests), f"no test runs {name}.py"


def anchors(page):
    """Return the anchors of a page's headings, as GitHub and mkdocs generate them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md", *(ROOT / "docs/api").glob("*.md")], ids=str)
def test_links_resolve(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.is_file(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name} links to {target}"


def test_the_api_reference_lists_every_module():
    named = re.findall(r"^::: (\S+)$", "".join(path.read_text() for path in (ROOT / "docs/api").glob("*.md")), re.M)
    modules = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "keras_resnet").rglob("*.py")]
    assert sorted(named) == sorted(".".join(path.parts) for path in modules if not path.name.startswith("__"))


def test_images_are_used():
    text = "".join(page.read_text() for page in PAGES)
    for image in (ROOT / "docs").glob("*.png"):
        assert image.name in text


@pytest.mark.slow
def test_the_site_is_built_without_warnings_and_loads_nothing_from_other_hosts(tmp_path):
    """The same build as `make docs`."""
    pytest.importorskip("mkdocs", reason="the docs are built on the main stack")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    build = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert build.returncode == 0, build.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page.read_text(encoding="utf-8"))
        assert not [tag for tag in tags if re.search(r"""(src|href)=["']?(https?:)?//""", tag)], page.name
