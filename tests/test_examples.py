"""The examples, run in this process on networks of one block per stage; test_scripts.py runs one as users do."""

import pathlib
import re
import runpy

import numpy as np
import optuna
import pytest
from PIL import Image

import keras_resnet
from keras_resnet.classification.run import ClassifierRun
from keras_resnet.detection.data import sources
from keras_resnet.experiment.curves import read_metrics
from keras_resnet.models import weights
from tests.detection.data.folders import voc_folder

pytestmark = pytest.mark.usefixtures("small_networks", "short_timing")


@pytest.mark.slow
def test_demo(tmp_path, script):
    output = script("examples/demo.py", "--steps=2", f"--workdir={tmp_path}/demo")
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
    output = script("examples/demo.py", "--steps=2", f"--workdir={tmp_path}/demo", code=1)
    assert "demo: workdir must be a folder that does not exist yet" in output


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("train_cifar", ["--dataset=folder:/nowhere"]),
        ("train_imagenet", ["--dataset=folder:/nowhere"]),
        ("finetune_folder", ["--data=/nowhere", "--workdir=unused"]),
    ],
)
def test_mistakes(name, arguments, script):
    assert f"{name}: dataset must name an existing folder" in script(f"examples/{name}.py", *arguments, code=1)


@pytest.mark.parametrize("name", ["train_cifar", "train_imagenet"])
def test_weights_are_not_overwritten(name, script, tmp_path):
    (tmp_path / "a.weights.h5").write_text("mine")
    output = script(f"examples/{name}.py", f"--weights={tmp_path}/a.weights.h5", code=1)
    assert f"{name}: weights must be a file that does not exist yet; '{tmp_path}/a.weights.h5' does." in output
    output = script(f"examples/{name}.py", f"--weights={tmp_path}/a.weights.h5/b.weights.h5", code=1)
    assert f"{name}: weights must be a writable file" in output
    assert [path.name for path in tmp_path.iterdir()] == ["a.weights.h5"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("train_cifar", ["--dataset=digits"]),
        ("train_imagenet", ["--dataset=synthetic:40x40x4", "--image_size=32", "--batch_size=8", "--eval_split=test"]),
    ],
)
def test_training(name, arguments, tmp_path, script):
    trained = tmp_path / "trained.weights.h5"
    output = script(f"examples/{name}.py", "--steps=2", f"--weights={trained}", *arguments)
    assert "val_top1_error" in output
    assert trained.stat().st_size > 10_000


@pytest.mark.slow
def test_finetune_folder(tmp_path, script):
    weights.save(keras_resnet.ResNet20(), tmp_path / "a.weights.h5")
    for number in range(10):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (40, 40, 3), "uint8")).save(path)
    arguments = [f"--data={tmp_path}/photos", f"--weights={tmp_path}/a.weights.h5", f"--workdir={tmp_path}/run"]
    arguments += ["--model=resnet20", "--image_size=32", "--steps=2", "--batch_size=4"]
    assert "2 steps of 4 images: 1.0 epochs of folder:" in script("examples/finetune_folder.py", *arguments)


@pytest.mark.slow
def test_detectors(tmp_path, script):
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
    output = script("examples/train_detector.py", *arguments)
    assert "2 training images with 2 boxes of cat" in output
    output = script("examples/detect.py", f"--workdir={run_dir}", f"--out={tmp_path}", str(root / "JPEGImages/a.jpg"))
    assert "a.jpg: wrote" in output
    assert (tmp_path / "a_boxes.png").stat().st_size > 0


@pytest.mark.soak
def test_degradation(tmp_path, script):
    arguments = ["--steps=2", "--depth=20", "--batch_size=16", f"--workdir={tmp_path}/runs"]
    output = script("examples/degradation.py", *arguments)
    assert "plainnet20: 7 3x3 layers" in output  # one block of two layers in each stage
    files = {path.name for path in (tmp_path / "runs").iterdir()}
    assert files == {"plainnet20", "resnet20", "curves.png", "responses.png", "responses.csv"}


@pytest.mark.slow
def test_search_optuna(tmp_path, script, without_curves, one_block_resnet20):
    """Two trials, of which the first has the settings of the preset; the same command again repeats none."""
    arguments = ["--trials=2", "--steps=2", "--batch_size=8", f"--workdir={tmp_path}/search"]
    for message in ("wrote", "nothing to do"):
        output = script("examples/search_optuna.py", *arguments)
        assert re.search(r"^trial 0: error \d+\.\d\d %, learning_rate=0\.1, weight_decay=0\.0001, ", output, re.M)
        assert len(re.findall(r"^trial \d: error ", output, re.M)) == 2
        assert re.search(r"^best: test error \d+\.\d\d % after the last step$", output, re.M)
        assert message in output
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{tmp_path}/search/study.db")
    assert [trial.number for trial in study.trials] == [0, 1]
    for trial in study.trials:
        run = ClassifierRun.open(tmp_path / f"search/trial{trial.number}")
        assert {name: getattr(run.config, name) for name in trial.params} == trial.params
        assert min(record["val_top1_error"] for record in read_metrics(run.metrics)) == trial.value
        assert run.config.eval_split == "train[75%:]"
    files = {path.name for path in (tmp_path / "search").iterdir()}
    assert files == {f"best{study.best_trial.number}", "preset", "search.png", "study.db", "trial0", "trial1"}


def test_objects_of_a_segmentation_data_set(tmp_path):
    """Connected components are objects, whose pixels share a side; small ones are crowds."""
    example = runpy.run_path(str(pathlib.Path(__file__).parent.parent / "examples/instances_from_masks.py"))
    mask = np.array([[1, 0, 1, 0, 1], [1, 1, 1, 0, 0], [0, 0, 0, 1, 1], [1, 0, 1, 1, 0]], bool)
    found = example["components"](mask)
    expected = [[[0, 0], [0, 2], [1, 0], [1, 1], [1, 2]], [[0, 4]], [[2, 3], [2, 4], [3, 2], [3, 3]], [[3, 0]]]
    assert sorted(np.argwhere(component).tolist() for component in found) == sorted(expected)

    for folder in ("images/train", "masks/train"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    labels = np.zeros((20, 30), "uint8")
    labels[2:12, 3:13], labels[15, 20], labels[0, 29] = 1, 1, 2
    Image.fromarray(labels).save(tmp_path / "data/masks/train/a.png")
    Image.fromarray(np.zeros((20, 30, 3), "uint8")).save(tmp_path / "data/images/train/a.jpg")
    (tmp_path / "data/classes.txt").write_text("sky\ncar\ntree\n")
    arguments = [f"--data={tmp_path / 'data'}", "--classes=car", "--min_pixels=50", f"--out={tmp_path / 'out'}"]
    assert example["main"](arguments) == 0
    dataset = sources.load(f"folder:{tmp_path / 'out'}")
    (annotation,) = dataset.annotations("train")
    assert annotation.boxes.tolist() == [[2, 3, 12, 13], [15, 20, 16, 21]]
    assert annotation.crowd.tolist() == [False, True]
    assert (annotation.masks[0].draw() | annotation.masks[1].draw()).tolist() == (labels == 1).tolist()
    with pytest.raises(SystemExit):
        example["main"](arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: (data / "classes.txt").unlink(), "has no classes.txt"),
        (lambda data: (data / "images/train/a.jpg").unlink(), "must have an image for each mask"),
        (
            lambda data: (data / "masks/train/a.png").rename(data / "masks/a.png") and (data / "masks/train").rmdir(),
            "must have a folder for each split",
        ),
        (lambda data: Image.new("RGB", (30, 20)).save(data / "masks/train/a.png"), "has colors"),
        (lambda data: (data / "classes.txt").write_text("sky\n"), "must be among sky; got 'hot dog'"),
    ],
)
def test_objects_of_a_wrong_folder(tmp_path, capsys, change, message):
    example = runpy.run_path(str(pathlib.Path(__file__).parent.parent / "examples/instances_from_masks.py"))
    data = tmp_path / "data"
    for folder in ("images/train", "masks/train"):
        (data / folder).mkdir(parents=True)
    Image.fromarray(np.ones((20, 30), "uint8")).save(data / "masks/train/a.png")
    Image.new("RGB", (30, 20)).save(data / "images/train/a.jpg")
    (data / "classes.txt").write_text("sky\nhot dog\n")
    arguments = [f"--data={data}", "--classes=hot dog", f"--out={tmp_path / 'out'}"]
    assert example["main"]([*arguments[:2], f"--out={tmp_path / 'right'}"]) == 0
    change(data)
    with pytest.raises(SystemExit):
        example["main"](arguments)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
