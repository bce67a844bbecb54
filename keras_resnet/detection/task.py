"""The task of detection: its commands and their flags."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import re
import shutil
from typing import TYPE_CHECKING, Any

from keras_resnet import files
from keras_resnet.detection.config import PRESETS, DetectorConfig
from keras_resnet.errors import InputError, counted
from keras_resnet.experiment import names, tasks
from keras_resnet.experiment.config import option
from keras_resnet.experiment.tasks import Invocation, Task, Verb

if TYPE_CHECKING:
    from keras_resnet.detection.evaluate import VocResult


@dataclasses.dataclass(frozen=True)
class DetectFlags(Verb):
    """The flags that say how a detector is applied; those that are not given are as in training."""

    workdir: str | None = option(None, "Folder of the run.", "network", path="file")
    ensemble: tuple[str, ...] = option(
        (), "Folders of runs of the same classes to combine with it, separated by commas.", "network", path="file"
    )
    refine: bool | None = option(None, "Refine boxes iteratively and vote (appendix B).", "network")
    score_thresh: float | None = option(None, "Lowest probability of a detection.", "network")
    scales: tuple[int, ...] = option((), "Shorter sides for multi-scale testing: 200,400,600.", "network")

    def open(self) -> tuple[Any, Any, Any, list]:
        """Open the run.

        Returns:
            The `DetectorRun`, its function from a batch to detections, its transform, and those of further scales.

        Raises:
            ValueError: a folder holds no detector's run, or the runs of the ensemble do not match.
        """
        workdir = tasks.one_folder(self.workdir)
        names.check_run(workdir)
        for path in self.ensemble:
            names.check_run(path, "ensemble")
        if len(self.scales) == 1:
            raise InputError(f"scales must be two or more, or none; got {self.scales[0]}.")

        import tensorflow as tf

        from keras_resnet.detection import multi_scale
        from keras_resnet.detection.run import DetectorRun

        run = DetectorRun.open(workdir)
        changes = {"refine": self.refine, "score_thresh": self.score_thresh}
        options: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
        transform = run.transform()
        pyramid = [
            dataclasses.replace(
                transform, min_size=scale, max_size=round(scale * transform.max_size / transform.min_size)
            )
            for scale in sorted(self.scales)
        ]
        models = [run.load(**options)]
        for path in self.ensemble:
            other = DetectorRun.open(path, "ensemble")
            if other.dataset_info.class_names != run.dataset_info.class_names or other.transform() != transform:
                raise InputError(
                    f"ensemble must be runs of the same classes and image sizes; {path!r} has different ones."
                )
            if other.config.masks != run.config.masks:
                raise InputError(f"ensemble must be runs that all have masks, or none of them; {path!r} differs.")
            models.append(other.load(**options))
        # Otherwise each new size of an image would be traced, which takes as long as the image itself.
        sides = [scale.max_size for scale in (transform, *pyramid)]
        any_size = all(model.pools_any_size(max(sides)) for model in models)
        detect = tf.function(lambda batch: multi_scale.detect(models, batch), reduce_retracing=any_size)
        return run, detect, transform, pyramid


@dataclasses.dataclass(frozen=True)
class Evaluate(DetectFlags):
    """Print the average precision of a detector; write its curves, numbers and images with boxes and masks."""

    split: str | None = option(None, "Split to evaluate on; by default that of training.", "data")
    data_dir: str | None = option(None, "Folder of prepared tensorflow-datasets.", "data", path="file")
    coco: bool = option(False, "Print COCO's twelve metrics too; requires pycocotools.")
    pictures: int = option(8, "Number of images with boxes to write.", minimum=0)
    out: str | None = option(None, "Folder to create; by default evaluation_SPLIT in the run's folder.", path="file")

    def run(self, invocation: Invocation) -> None:
        """Evaluate, print the table and write the report."""
        files.check_new(self.out)
        run, predict, transform, pyramid = self.open()

        from keras_resnet.detection import evaluate, inference, page  # imports TensorFlow

        if self.coco:
            evaluate.pycocotools()  # so that a missing package is found before the detector runs
        split, class_names = self.split or run.config.eval_split, run.dataset_info.class_names
        annotations = run.dataset(self.data_dir).annotations(split)
        detections = inference.detect(predict, annotations, transform, progress=True, pyramid=pyramid)
        result = evaluate.voc(detections, annotations, class_names)
        coco = evaluate.coco(detections, annotations, class_names) if self.coco else {}
        of_masks = evaluate.voc(detections, annotations, class_names, masks=True) if run.config.masks else None
        if of_masks and self.coco:
            values = evaluate.coco(detections, annotations, class_names, masks=True)
            coco |= {f"mask_{name}": value for name, value in values.items()}
        out = pathlib.Path(self.out or run.path / re.sub(r"\W+", "_", f"evaluation_{split}").rstrip("_"))
        if not self.out and out.exists():
            shutil.rmtree(out)  # of an earlier evaluation
        out.mkdir(parents=True)
        evaluate.plot(result, out / "curves.png")
        if of_masks:
            evaluate.plot(of_masks, out / "mask_curves.png")
        evaluate.write_pictures(
            detections, annotations, class_names, out / "pictures", self.pictures, transform=transform
        )
        averages = zip(result.class_names, result.averages(), strict=True)
        record = {
            "workdir": str(run.path),
            "split": split,
            "images": len(annotations),
            "seed": run.config.seed,
            "steps": run.config.steps,
            "map50": _number(result.mean()),
            "map50_11_points": _number(result.mean(11)),
            "ap50": {name: _number(average) for name, average in averages},
            **(_mask_record(of_masks) if of_masks else {}),
            "coco": {name: _number(value) for name, value in coco.items()},
            "refine": self.refine,
            "score_thresh": self.score_thresh,
            "scales": list(self.scales),
            "ensemble": list(self.ensemble),
        }
        (out / "results.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        details = {
            "command": invocation.command,
            "dataset": f"{run.config.dataset}, {split}, {counted(len(annotations), 'image')}",
            "network": f"Faster R-CNN on {run.config.backbone}, {run.config.steps:,} steps, seed {run.config.seed}",
            **{name: f"{value:.2f} %" for name, value in coco.items()},
        }
        title = f"Evaluation: mAP {result.mean():.2f} %"
        page.write(out, title, result, of_masks, detections, annotations, transform, details)
        print(
            f"Faster R-CNN on {run.config.backbone}, {run.config.dataset} {split}, "
            f"{counted(len(annotations), 'image')}, IoU 0.5:"
        )
        print(result.table())
        if of_masks:
            print("Masks, IoU 0.5:")
            print(of_masks.table())
        for name, value in coco.items():
            print(f"{name} {value:.2f} %")
        print(f"wrote {out}")


def _mask_record(result: VocResult) -> dict[str, Any]:
    """The average precision of masks, for results.json."""
    averages = zip(result.class_names, result.averages(), strict=True)
    return {
        "mask_map50": _number(result.mean()),
        "mask_map50_11_points": _number(result.mean(11)),
        "mask_ap50": {name: _number(average) for name, average in averages},
    }


def _number(value: float) -> float | None:
    """A metric for JSON, which has no NaN."""
    return None if math.isnan(value) else value


@dataclasses.dataclass(frozen=True)
class Predict(DetectFlags):
    """Print the objects in each image file or folder of images, and write the images with boxes and masks to --out."""

    FILES = "PHOTO..."

    show: float = option(0.5, "Lowest probability of the detections that are printed and drawn.")
    out: str | None = option(None, "Folder for the images; by default the current one.", path="file")

    def run(self, invocation: Invocation) -> None:
        """Detect in each file."""
        names.check_run(tasks.one_folder(self.workdir))
        names.check_photos(invocation.files)
        run, detect, transform, pyramid = self.open()

        import numpy as np

        from keras_resnet.data import folders  # imports TensorFlow
        from keras_resnet.detection import evaluate, inference
        from keras_resnet.ops import codecs

        class_names = run.dataset_info.class_names
        photos = folders.expand(invocation.files)
        out = pathlib.Path(self.out or ".")
        targets = [out / f"{stem}_boxes.png" for stem in files.unique_stems(photos)]
        files.check_absent(out, [target.name for target in targets])
        for index, pixels in codecs.read_each(photos, transform.decode):
            photo, target = photos[index], targets[index]
            batch, *levels = (scale.batch(pixels) for scale in (transform, *pyramid))
            outputs = detect(batch | ({"pyramid": tuple(levels)} if levels else {}))
            outputs = {name: np.asarray(value) for name, value in outputs.items()}
            detections = inference.unpacked(outputs, 0, np.asarray(batch["image_size"])[0], pixels.shape[:2])
            files.make_parent(target)
            evaluate.draw(pixels.numpy(), detections, class_names, self.show).save(target)
            print(f"{photo}: wrote {target}")
            for box, score, label in zip(*detections[:3], strict=True):
                if score >= self.show:
                    top, left, bottom, right = box
                    place = f"left {left:.0f}, top {top:.0f}, right {right:.0f}, bottom {bottom:.0f}"
                    print(f"  {class_names[label]} {score:.3f}: {place}")


@dataclasses.dataclass(frozen=True)
class Export(Verb):
    """Write a run's detector as a SavedModel or as a TFLite file."""

    workdir: str | None = option(None, "Folder of the run.", "network", path="file")
    refine: bool | None = option(None, "Refine boxes iteratively and vote (appendix B).", "network")
    format: str = option("saved_model", "saved_model or tflite.", choices=("saved_model", "tflite"))
    out: str | None = option(None, "saved_model: folder of all versions; tflite: file to create.", path="file")
    style: str | None = option(
        None, "tf_od (default) or model_garden.", "saved_model", choices=("tf_od", "model_garden")
    )
    version: int | None = option(None, "Number of the version; by default the next one.", "saved_model", minimum=1)
    size: tuple[int, ...] = option((), "Height and width of the input; by default the training's.", "tflite")

    def run(self, invocation: Invocation) -> None:
        """Export."""
        options = self.of_format(self.format, invocation)
        out, workdir = tasks.required(self.out, "out"), tasks.one_folder(self.workdir)
        names.check_run(workdir)
        if self.size and len(self.size) != 2:
            raise InputError(f"size must be two integers, height and width, such as 240,320; got {list(self.size)}.")

        from keras_resnet.detection import export  # imports TensorFlow
        from keras_resnet.detection.run import DetectorRun

        run = DetectorRun.open(workdir)
        # Half precision is for training: SavedModels and TFLite files run in float32.
        model = run.load(policy="float32", **({} if self.refine is None else {"refine": self.refine}))
        transform = run.transform()
        path: Any = out
        if self.format == "saved_model":
            path = export.export(model, out, transform, run.dataset_info.class_names, **options)
        else:
            height, width = self.size or (
                -(-side // transform.multiple) * transform.multiple for side in (transform.min_size, transform.max_size)
            )
            export.export_tflite(model, out, transform, (height, width))
        print(f"wrote {path}")
        if self.format == "saved_model":
            print(tasks.next_commands(["docker", "compose", f"--file={out}/compose.yaml", "up"]))


TASK = tasks.register(
    Task(
        name="detection",
        config=DetectorConfig,
        presets=PRESETS,
        train="keras_resnet.detection.train:train",
        verbs={"evaluate": Evaluate, "predict": Predict, "export": Export},
        recipe="keras_resnet.detection.recipe:recipe",
        inspection="keras_resnet.detection.inspection",
    )
)
