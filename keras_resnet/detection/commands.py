"""What the command `keras-resnet` does with detectors: the same verbs, told by the preset or the workdir.

keras-resnet train --preset=bccd_resnet50 --data=BCCD --weights=imagenet --workdir=runs/bccd
keras-resnet evaluate --workdir=runs/bccd --split=test
keras-resnet predict --workdir=runs/bccd PHOTO...
keras-resnet export --workdir=runs/bccd --format=saved_model --out=models/bccd
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import re
import shutil
from collections.abc import Sequence

from absl import flags as absl_flags

from keras_resnet.cli import flags
from keras_resnet.detection.config import PRESETS, DetectorConfig
from keras_resnet.errors import InputError


def wanted(arguments: Sequence[str]) -> bool:
    """Whether a command line is about a detector, by --preset, or the config.json of --config or --workdir."""
    values = {}
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        name, found, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name in ("preset", "config", "workdir"):
            values[name] = value if found else following
    if values.get("preset"):
        return values["preset"] in PRESETS
    files = [values.get("config"), values.get("workdir") and pathlib.Path(values["workdir"], "config.json")]
    for file in filter(None, files):
        try:
            content = json.loads(pathlib.Path(file).read_text(encoding="utf-8"))
            return "backbone" in content.get("config", content)
        except (OSError, ValueError, AttributeError):
            continue
    return False


def train(arguments: Sequence[str]) -> None:
    """Train a detector and write everything about the run to --workdir; the same command again goes on with it."""
    values = absl_flags.FlagValues()
    flags.define_run(values, DetectorConfig, PRESETS)
    absl_flags.DEFINE_string(
        "data", None, "Folder in VOC's or COCO's layout; for --dataset=folder:.", flag_values=values
    )
    if not flags.parsed(values, arguments, train, positional=False):
        return
    config = flags.config(values, DetectorConfig, PRESETS)
    if values.data:
        config = dataclasses.replace(config, dataset=f"folder:{values.data}")
    workdir = flags.required(values, "workdir")
    strategy = flags.made_strategy(values)

    from keras_resnet.detection import train as detection
    from keras_resnet.distribute import collectives

    run = detection.train(config, workdir, strategy)
    if collectives.is_chief(strategy):
        print(f"wrote {run.path}")


def _testing_flags(values: absl_flags.FlagValues) -> None:
    """How a detector is applied; unset flags are as in training."""
    flags.workdir(values)
    absl_flags.DEFINE_bool("refine", None, "Box refinement and voting.", flag_values=values)
    absl_flags.DEFINE_float("score_thresh", None, "Lowest probability of a detection.", flag_values=values)
    absl_flags.DEFINE_list(
        "scales", [], "Shorter sides for testing at several scales: 200,400,600.", flag_values=values
    )
    absl_flags.DEFINE_list("ensemble", [], "Workdirs of further detectors of the same classes.", flag_values=values)


def _detector(values: absl_flags.FlagValues):
    """The run, its function from a batch to detections, its view, and the views of further scales."""
    import tensorflow as tf

    from keras_resnet.detection import test_time
    from keras_resnet.detection.run import DetectorRun

    run = DetectorRun.open(flags.required(values, "workdir"))
    options = {name: values[name].value for name in ("refine", "score_thresh") if values[name].value is not None}
    view = run.transform()
    try:
        scales = [int(scale) for scale in values.scales]
    except ValueError:
        raise InputError(f"scales must be a list of whole numbers such as 200,400; got {values.scales}.") from None
    if len(scales) == 1:
        raise InputError(f"scales must be two or more, or none; got {values.scales}.")
    pyramid = [
        dataclasses.replace(view, min_size=scale, max_size=round(scale * view.max_size / view.min_size))
        for scale in sorted(scales)
    ]
    models = [run.load(**options)]
    for path in values.ensemble:
        other = DetectorRun.open(path)
        if other.dataset_info.class_names != run.dataset_info.class_names or other.transform() != view:
            raise InputError(f"ensemble must be of runs with the same classes and image sizes; {path!r} has others.")
        models.append(other.load(**options))
    return run, tf.function(lambda batch: test_time.detect(models, batch)), view, pyramid


def evaluate(arguments: Sequence[str]) -> None:
    """Print the average precision of a detector on a split, and write its curves, numbers and pictures with boxes."""
    values = absl_flags.FlagValues()
    _testing_flags(values)
    absl_flags.DEFINE_string("split", None, "Split to evaluate on; by default that of training.", flag_values=values)
    absl_flags.DEFINE_string("data_dir", None, "Folder of prepared tensorflow-datasets.", flag_values=values)
    absl_flags.DEFINE_bool("coco", False, "COCO's twelve numbers too; needs pycocotools.", flag_values=values)
    absl_flags.DEFINE_integer("pictures", 8, "How many pictures to write.", lower_bound=0, flag_values=values)
    absl_flags.DEFINE_string("out", None, "Folder to make; by default evaluation_SPLIT there.", flag_values=values)
    if not flags.parsed(values, arguments, evaluate, positional=False):
        return
    run, predict, view, pyramid = _detector(values)

    from keras_resnet.detection import evaluate as detection
    from keras_resnet.detection import inference
    from keras_resnet.evaluation import report

    report.check(values.out)
    if values.coco:
        detection.pycocotools()  # so that it is not missed only when all is detected
    split = values.split or run.config.eval_split
    pictures = run.dataset(values.data_dir).annotations(split)
    found = inference.detect(predict, pictures, view, progress=True, pyramid=pyramid)
    result = detection.voc(found, pictures, run.dataset_info.class_names)
    numbers = detection.coco(found, pictures, run.dataset_info.class_names) if values.coco else {}
    out = pathlib.Path(values.out or run.path / re.sub(r"\W+", "_", f"evaluation_{split}").rstrip("_"))
    if not values.out and out.exists():
        shutil.rmtree(out)  # of an evaluation before
    out.mkdir(parents=True)
    detection.plot(result, out / "curves.png")
    detection.write_pictures(found, pictures, run.dataset_info.class_names, out / "pictures", values.pictures)
    record = {
        "workdir": str(run.path),
        "split": split,
        "images": len(pictures),
        "seed": run.config.seed,
        "steps": run.config.steps,
        "map50": _number(result.mean()),
        "map50_11_points": _number(result.mean(11)),
        "ap50": {name: _number(one) for name, one in zip(result.class_names, result.averages(), strict=True)},
        "coco": {name: _number(value) for name, value in numbers.items()},
        "refine": values.refine,
        "score_thresh": values.score_thresh,
        "scales": values.scales,
        "ensemble": values.ensemble,
    }
    (out / "results.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"Faster R-CNN on {run.config.backbone}, {run.config.dataset} {split}, {len(pictures)} images, overlap 0.5:")
    print(result.table())
    for name, value in numbers.items():
        print(f"{name} {value:.2f} %")
    print(f"wrote {out}")


def _number(value: float) -> float | None:
    """A result for JSON, which has no NaN."""
    return None if math.isnan(value) else value


def predict(arguments: Sequence[str]) -> None:
    """Print what is in each image file, and write it with boxes beside or to --out."""
    values = absl_flags.FlagValues()
    _testing_flags(values)
    absl_flags.DEFINE_string("out", None, "Folder for the pictures; by default the current one.", flag_values=values)
    absl_flags.DEFINE_float("show", 0.5, "Lowest probability that is printed and drawn.", flag_values=values)
    photos = flags.parsed(values, arguments, predict)
    if photos is None:
        return
    if not photos:
        raise InputError("predict needs at least one image file.")
    run, detect, view, pyramid = _detector(values)

    import numpy as np

    from keras_resnet.detection import evaluate as detection
    from keras_resnet.detection import inference
    from keras_resnet.ops import codecs

    out = pathlib.Path(values.out or ".")
    out.mkdir(parents=True, exist_ok=True)
    names: list[str] = []  # of the pictures that are written, each another one
    for photo in photos:
        pixels = codecs.read(photo)
        batch, *levels = (one.batch(pixels) for one in (view, *pyramid))
        output = {k: np.asarray(v) for k, v in detect(batch | ({"pyramid": tuple(levels)} if levels else {})).items()}
        scale = np.array(pixels.shape[:2]) / np.asarray(batch["image_size"])[0]
        found = inference.unpacked(output, 0, scale)
        name, count = pathlib.Path(photo).stem, 1
        while name in names:
            count += 1
            name = f"{pathlib.Path(photo).stem}_{count}"
        names.append(name)
        target = out / f"{name}_boxes.png"
        detection.draw(pixels.numpy(), found, run.dataset_info.class_names, values.show).save(target)
        print(f"{photo}: wrote {target}")
        for box, score, label in zip(*found, strict=True):
            if score >= values.show:
                top, left, bottom, right = box
                place = f"left {left:.0f}, top {top:.0f}, right {right:.0f}, bottom {bottom:.0f}"
                print(f"  {run.dataset_info.class_names[label]} {score:.3f}: {place}")


def export(arguments: Sequence[str]) -> None:
    """Write a run's detector as a SavedModel or a TFLite file."""
    values = absl_flags.FlagValues()
    flags.workdir(values)
    absl_flags.DEFINE_string("format", "saved_model", "saved_model or tflite.", flag_values=values)
    absl_flags.DEFINE_string(
        "out", None, "Folder of a SavedModel's versions, or TFLite file to make.", flag_values=values
    )
    absl_flags.DEFINE_string("style", None, "Of a SavedModel: tf_od or model_garden. [tf_od]", flag_values=values)
    absl_flags.DEFINE_integer("version", None, "Number of a SavedModel's version.", lower_bound=1, flag_values=values)
    absl_flags.DEFINE_bool("refine", None, "Box refinement and voting.", flag_values=values)
    absl_flags.DEFINE_list("size", None, "Height and width for TFLite; by default the training's.", flag_values=values)
    if not flags.parsed(values, arguments, export, positional=False):
        return
    options = flags.of_format(values, {"saved_model": ["style", "version"], "tflite": ["size"]})
    out = flags.required(values, "out")

    from keras_resnet.detection import export as detection
    from keras_resnet.detection.run import DetectorRun

    run = DetectorRun.open(flags.required(values, "workdir"))
    # Half precision is for training: SavedModels and TFLite files run in float32.
    model = run.load(policy="float32", **({} if values.refine is None else {"refine": values.refine}))
    view = run.transform()
    if values.format == "saved_model":
        out = detection.export(model, out, view, run.dataset_info.class_names, **options)
    else:
        try:
            size = tuple(map(int, values.size or ())) or tuple(
                -(-side // view.multiple) * view.multiple for side in (view.min_size, view.max_size)
            )
            height, width = size
        except ValueError:
            raise InputError(f"size must be two whole numbers such as 240,320; got {values.size}.") from None
        detection.export_tflite(model, out, view, (height, width))
    print(f"wrote {out}")


VERBS = {"train": train, "evaluate": evaluate, "predict": predict, "export": export}
