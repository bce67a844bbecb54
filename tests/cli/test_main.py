"""The verbs evaluate, responses, curves and costs, as a user gives them."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from keras_resnet.cli import main as cli


@pytest.fixture
def command(capsys):
    def call(*arguments, code=0):
        assert cli.run(arguments[0], [str(argument) for argument in arguments[1:]]) == code
        captured = capsys.readouterr()
        return captured.out if code == 0 else captured.err

    return call


def rows(output):
    """Cells of the table: (network, views) -> the rest."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in output.splitlines() if line[:1] == "|"]
    return {(line[0], line[1]): line[2:] for line in lines[2:]}


@pytest.fixture(scope="module")
def exports(run, tmp_path_factory):
    from keras_resnet.serving import saved_model, tflite

    folder = tmp_path_factory.mktemp("exports")
    saved_model.export(run, folder / "saved_model")
    tflite.export(run, folder / "tflite", variants=["float32"], batch_size=None)
    return folder


def test_report_of_an_ensemble(command, run, other_run, tmp_path):
    out = tmp_path / "report"
    arguments = [f"--workdir={run.path},{other_run.path}", "--views=single"]
    found = rows(command("evaluate", *arguments, "--split=test[:40]", f"--out={out}"))
    assert list(found) == [(network, "single") for network in ("resnet20", "plainnet20", "ensemble of 2")]
    assert all(cells[-1] == "40" for cells in found.values())
    values = json.loads((out / "results.json").read_text())
    assert values["dataset"] == "synthetic:16x16x7"
    assert values["command"].startswith("keras-resnet evaluate --workdir=")
    for row in values["results"]:
        assert f"{row['top1_error']:.2f}" == found[row["network"], row["views"]][0]
        assert sum(count for *_, count in row["confusion"]) == 40
        wrong = sum(count for label, other, count in row["confusion"] if label != other)
        assert 100 * wrong / 40 == pytest.approx(row["top1_error"])
        for name in ("confusion", "reliability", "mistakes"):
            picture = np.asarray(Image.open(out / row["folder"] / f"{name}.png").convert("L"))
            assert picture.std() > 5
        assert len((out / row["folder"] / "classes.csv").read_text().split()) == 8
    assert "![confusion](resnet20_single/confusion.png)" in (out / "results.md").read_text()
    assert "that does not exist yet" in command("evaluate", *arguments, f"--out={out}", code=1)


def test_exports_have_the_networks_error(command, run, exports):
    arguments = [
        f"--saved_model={exports}/saved_model",
        f"--tflite={exports}/tflite/resnet20_float32.tflite",
        "--batch_size=100",
    ]
    found = rows(command("evaluate", f"--workdir={run.path}", *arguments))
    assert len(found) == 3
    assert len({tuple(cells) for cells in found.values()}) == 1, found
    alone = rows(command("evaluate", *arguments, f"--dataset={run.config.dataset}"))
    assert list(alone.values()) == list(found.values())[1:]


def test_two_replicas_and_recalibration(command, run):
    one, two = (
        rows(command("evaluate", f"--workdir={run.path}", f"--replicas={n}", "--batch_size=33")) for n in (1, 2)
    )
    assert one == two
    again = rows(command("evaluate", f"--workdir={run.path}", "--recalibrate=192"))
    assert next(iter(again.values()))[4] != next(iter(one.values()))[4]  # another loss


def test_recalibration_is_over_the_runs_own_images(command, run, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (16, 16, 3), "uint8")
    for label in range(7):  # a class for each of the network's
        path = tmp_path / f"val/{label}/photo.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(pixels).save(path)
    # There is no split named train in this folder.
    found = rows(command("evaluate", f"--workdir={run.path}", f"--dataset=folder:{tmp_path}", "--recalibrate=64"))
    assert next(iter(found.values()))[-1] == "7"


def test_a_folder_of_photos(command, run, tmp_path):
    random = np.random.default_rng(0)
    for number, size in enumerate([(30, 40), (50, 35), (64, 64)]):
        path = tmp_path / "photos" / str(number) / "photo.jpg"
        path.parent.mkdir(parents=True)
        Image.fromarray(random.integers(0, 256, (*size, 3)).astype("uint8")).save(path)
    arguments = ["evaluate", f"--workdir={run.path}", f"--dataset=folder:{tmp_path}/photos", "--split=train"]
    found = rows(command(*arguments, "--views=single,ten_crop,multi_scale", "--scales=32,48", "--resize=18"))
    assert [cells[-1] for cells in found.values()] == ["3", "3", "3"]
    assert "resize must be at least the crop" in command(*arguments, "--resize=12", code=1)
    assert "split must be given for a data set without test" in command(*arguments[:-1], code=1)


def test_analysis(command, run, other_run, tmp_path):
    both = f"--workdir={run.path},{other_run.path}"
    output = command("responses", both, "--split=test[:8]", f"--out={tmp_path}/new/responses.png")
    assert re.search(r"resnet20: 5 3x3 layers, mean standard deviation \d\.\d{3}", output)
    assert (tmp_path / "new" / "responses.csv").read_text().count("\n") == 1 + 5 + 5
    assert "has no metrics.jsonl" in command("curves", both, f"--out={tmp_path}/curves.png", code=1)
    assert "| ResNet50 | 50 | 224 | 25,557,032 | 3,858.0e6 |" in command("costs", "ResNet50")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate"], "workdir, weights, saved_model, tflite, onnx or openvino must be given"),
        (["evaluate", "--workdir={run}", "--views=many"], "views must be one of 'single', 'ten_crop', 'multi_scale'"),
        (["evaluate", "--workdir={run}", "--views="], "views must name at least one"),
        (["evaluate", "--workdir={run}", "--views=ten_crop"], "resize must be above the crop"),
        (["evaluate", "--workdir={run}", "--views=multi_scale", "--scales=224,31"], "scales must be at least 32"),
        (["evaluate", "--workdir={run}", "--views=multi_scale", "--scales=big"], "scales must be a list of integers"),
        (["evaluate", "--workdir={run}", "--average=votes"], "average must be one of 'probabilities', 'logits'"),
        (["evaluate", "--workdir={run}", "--split=test[5:5]"], "is empty"),
        (["evaluate", "--workdir={run}", "--split=nothing"], "split must be one of 'train', 'test'"),
        (["evaluate", "--workdir={run}", "--dataset=synthetic:16x16x9"], "dataset must have the network's 7 classes"),
        (["evaluate", "--saved_model=/no/such"], "dataset must be given"),
        (["evaluate", "--saved_model=/no/such", "--dataset=digits"], "must be the folder of a SavedModel"),
        (["evaluate", "--tflite=/no/such", "--dataset=digits"], "tflite must be an existing file"),
        (["evaluate", "--tflite={run}/config.json", "--dataset=digits"], "tflite must be a TFLite file"),
        (["responses", "--workdir={run}", "--out=x.txt"], "out must end in .png, .pdf or .svg; got 'x.txt'"),
        (["responses"], "workdir or weights must be given"),
        (
            ["evaluate", "--weights=a.h5,b.h5", "--model=resnet20,resnet32,resnet44"],
            "model must have one value, or one",
        ),
        (["evaluate", "--workdir={run}", "--model=resnet20"], "one for each of weights (0); got 1"),
        (["evaluate", "--weights=no.weights.h5"], "no.weights.h5"),
        (["curves"], "workdir must be given"),
        (["costs", "ResNet21"], "networks must be one of 'resnet18'"),
        (["costs", "ResNet50", "--shortcut=D"], "shortcut must be one of 'A', 'B', 'C'"),
    ],
)
def test_mistakes(command, run, arguments, message):
    output = command(*(argument.format(run=run.path) for argument in arguments), code=1)
    assert message in output
    assert output.count("\n") == 1


def test_an_exported_network_with_other_classes(command, exports):
    output = command("evaluate", f"--saved_model={exports}/saved_model", "--dataset=digits", code=1)
    assert "has 7 scores, but the data set has 10 classes" in output
