"""The task of segmentation: its commands and their flags."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import shutil
from collections.abc import Sequence
from typing import Any

from keras_resnet import files
from keras_resnet.errors import counted
from keras_resnet.experiment import names, tasks
from keras_resnet.experiment.config import option
from keras_resnet.experiment.tasks import Invocation, Task, Verb
from keras_resnet.segmentation.config import PRESETS, SegmenterConfig

VARIANTS = ("float32", "float16", "dynamic", "int8")
"""Kinds of TFLite files; those of `serving.tflite`, which imports TensorFlow."""


@dataclasses.dataclass(frozen=True)
class SegmentFlags(Verb):
    """The flags that say how a segmenter is applied."""

    workdir: str | None = option(None, "Folder of the run.", "network", path="file")
    scales: tuple[float, ...] = option(
        (1.0,), "Factors of the image's size, whose probabilities are averaged: 0.5,0.75,1,1.25,1.5,1.75.", "evaluation"
    )
    mirror: bool = option(False, "Average with the mirrored image.", "evaluation")
    window: tuple[int, ...] = option(
        (), "Height and width of overlapping windows for images that do not fit in memory.", "evaluation"
    )

    def open(self) -> tuple[Any, Any]:
        """Open the run.

        Returns:
            The `SegmenterRun`, and its function from normalized images f32[B,H,W,3] to probabilities f32[B,H,W,K].

        Raises:
            ValueError: the folder holds no segmenter's run.
        """
        workdir = tasks.one_folder(self.workdir)
        names.check_run(workdir)

        from keras_resnet.segmentation import inference  # imports TensorFlow
        from keras_resnet.segmentation.run import SegmenterRun

        run = SegmenterRun.open(workdir)
        predict = inference.predictor(run.load(), scales=self.scales, mirror=self.mirror, window=self.window)
        return run, predict


@dataclasses.dataclass(frozen=True)
class Evaluate(SegmentFlags):
    """Print the mean IoU of a segmenter at the images' own size; write its numbers and pictures."""

    dataset: str | None = option(
        None,
        "Data set with masks of the run's classes; by default that of the run.",
        "data",
        path="dataset",
    )
    split: str | None = option(None, "Split to evaluate on; by default eval_split of the run.", "data")
    data_dir: str | None = option(None, "Folder of prepared tensorflow-datasets.", "data", path="file")
    batch_size: int = option(1, "Images of one size in a batch.", "evaluation", minimum=1)
    pictures: int = option(8, "Number of the worst images to draw.", minimum=0)
    out: str | None = option(None, "Folder to create; by default evaluation_SPLIT in the run's folder.", path="file")

    def run(self, invocation: Invocation) -> None:
        """Evaluate, print the table and write the report."""
        files.check_new(self.out)
        run, predict = self.open()

        from keras_resnet.segmentation import evaluate  # imports TensorFlow
        from keras_resnet.segmentation.data import pipeline

        split, class_names = self.split or run.config.eval_split, run.dataset_info.class_names
        dataset = run.dataset(self.data_dir, self.dataset)
        examples = dataset.examples(split)
        evaluation = evaluate.evaluate(
            predict,
            pipeline.evaluate(examples, run.transform(), self.batch_size),
            class_names,
            run.transform(),
            samples=self.pictures,
            total=len(examples),
            progress=True,
        )
        out = pathlib.Path(self.out or run.path / re.sub(r"\W+", "_", f"evaluation_{split}").rstrip("_"))
        if not self.out and out.exists():
            shutil.rmtree(out)  # of an earlier evaluation
        details = {
            "workdir": str(run.path),
            "dataset": dataset.info.name,
            "split": split,
            "seed": run.config.seed,
            "steps": run.config.steps,
            "scales": list(self.scales),
            "mirror": self.mirror,
            "window": list(self.window),
            "command": invocation.command,
        }
        evaluate.write(out, evaluation, [example.name for example in examples], run.palette, details)
        print(
            f"{run.config.head} on {run.config.backbone}, {dataset.info.name} {split}, "
            f"{counted(len(examples), 'image')} at their own size:"
        )
        print(evaluation.result.table())
        print(f"wrote {out}")


@dataclasses.dataclass(frozen=True)
class Predict(SegmentFlags):
    """Label the pixels of each image file or folder of images; write the labels, in colors, and over the image.

    The palette indices of NAME_labels.png are the classes, as in PASCAL VOC; NAME_colors.png has the colors of the
    classes in RGB, and NAME_overlay.png is the image under these colors.
    """

    FILES = "PHOTO..."

    out: str | None = option(None, "Folder for the images; by default the current one.", path="file")

    def run(self, invocation: Invocation) -> None:
        """Label each file."""
        names.check_run(tasks.one_folder(self.workdir))
        names.check_photos(invocation.files)
        run, predict = self.open()

        import numpy as np
        from PIL import Image

        from keras_resnet.data import folders  # imports TensorFlow
        from keras_resnet.ops import codecs
        from keras_resnet.segmentation import evaluate, pictures

        class_names, transform, out = run.dataset_info.class_names, run.transform(), pathlib.Path(self.out or ".")
        photos = folders.expand(invocation.files)
        stems = files.unique_stems(photos)
        endings = ("labels", "colors", "overlay")
        files.check_absent(out, [f"{stem}_{ending}.png" for stem in stems for ending in endings])
        for index, pixels in codecs.read_each(photos, transform.decode):
            photo, stem = photos[index], stems[index]
            labels = evaluate.classify(predict, transform.normalize(pixels[None]).numpy(), len(class_names))[0]
            files.make_parent(out / stem)
            pictures.save_index_png(labels, run.palette, out / f"{stem}_labels.png")
            Image.fromarray(pictures.colored(labels, run.palette)).save(out / f"{stem}_colors.png")
            overlay = pictures.overlay(pixels.numpy(), labels, run.palette)
            Image.fromarray(overlay).save(out / f"{stem}_overlay.png")
            print(f"{photo}: wrote {out / stem}_{{{','.join(endings)}}}.png")
            shares = np.bincount(labels.ravel(), minlength=len(class_names)) / labels.size
            for label in np.argsort(-shares, kind="stable"):
                if shares[label] >= 0.001:
                    print(f"  {class_names[label]} {100 * shares[label]:.1f} %")


@dataclasses.dataclass(frozen=True)
class Export(Verb):
    """Publish a run's segmenter as a SavedModel for TensorFlow Serving, or write it as TFLite files with a report."""

    workdir: str | None = option(None, "Folder of the run.", "network", path="file")
    format: str = option("saved_model", "saved_model or tflite.", choices=("saved_model", "tflite"))
    out: str | None = option(None, "saved_model: folder of all versions; tflite: folder to create.", path="file")
    version: int | None = option(None, "Number of the version; by default the next one.", "saved_model", minimum=1)
    probability_size: tuple[int, ...] = option(
        (), "Height and width of the signature probabilities, which is left out by default.", "saved_model"
    )
    max_pixels: int | None = option(None, "Refuse images with more pixels than this.", "saved_model", minimum=1)
    size: tuple[int, ...] = option((), "Height and width of the input; by default crop_size of the run.", "tflite")
    variants: tuple[str, ...] = option(
        (), "Some of float32,float16,dynamic,int8; by default all.", "tflite", choices=VARIANTS
    )
    dataset: str | None = option(
        None, "Images and masks for calibration and report; by default those of the run.", "tflite", path="dataset"
    )
    data_dir: str | None = option(None, "Folder of prepared tensorflow-datasets.", "tflite", path="file")
    calibration_split: str | None = option(None, "Images to calibrate int8 on; by default train_split.", "tflite")
    calibration_images: int | None = option(None, "Number of calibration images; 64 by default.", "tflite", minimum=1)
    report: bool | None = option(None, "Compare the files with the network on images; on by default.", "tflite")
    report_split: str | None = option(None, "Images of the report; by default eval_split.", "tflite")
    report_images: int | None = option(None, "Number of images of the report; by default 0, all.", "tflite", minimum=0)
    threads: int | None = option(None, "Interpreter threads in the report; 2 by default.", "tflite", minimum=1)

    def run(self, invocation: Invocation) -> None:
        """Export."""
        options = self.of_format(self.format, invocation)
        out, workdir = tasks.required(self.out, "out"), tasks.one_folder(self.workdir)
        names.check_run(workdir)
        if self.format == "tflite":
            files.check_new(out)

        from keras_resnet.segmentation.run import SegmenterRun  # imports TensorFlow

        run = SegmenterRun.open(workdir)
        # Half precision is for training: SavedModels and TFLite files run in float32.
        model = run.load(policy="float32")
        if self.format == "saved_model":
            from keras_resnet.segmentation import export

            options.setdefault("warmup_size", run.config.crop_size)
            path = export.export(model, out, run.transform(), run.dataset_info.class_names, **options)
            print(f"wrote {path}")
            print(tasks.next_commands(["docker", "compose", f"--file={out}/compose.yaml", "up"]))
        else:
            self._tflite(run, model, out, options)

    def _tflite(self, run: Any, model: Any, out: str, options: dict[str, Any]) -> None:
        """Write TFLite files of a run's model, calibrated and compared on its data."""
        from keras_resnet.data.transforms import WholeImageTransform
        from keras_resnet.segmentation import tflite
        from keras_resnet.segmentation.data import pipeline

        config, pixels = run.config, WholeImageTransform((0.0,) * 3, (1.0,) * 3, run.config.exif)
        report, variants = options.pop("report", True), options.pop("variants", tflite.VARIANTS)
        calibrated = "int8" in variants
        dataset = run.dataset(self.data_dir, self.dataset) if report or calibrated else None
        calibration = batches = None
        if dataset and calibrated:
            split = self.calibration_split or config.train_split
            examples = _spread(dataset.examples(split, "calibration_split"), self.calibration_images or 64)
            calibration = (images.numpy() for _, images, _ in pipeline.evaluate(examples, pixels))
        if dataset and report:
            split = self.report_split or config.eval_split
            batches = pipeline.evaluate(
                _spread(dataset.examples(split, "report_split"), self.report_images or 0), pixels
            )
        path = tflite.export(
            model,
            out,
            run.transform(),
            run.dataset_info.class_names,
            size=self.size or config.crop_size,
            name=f"{config.head}_{config.backbone}",
            variants=variants,
            calibration=calibration,
            batches=batches,
            threads=self.threads or 2,
            exif=config.exif,
        )
        if report:
            print((path / "report.md").read_text(encoding="utf-8"))
        print(f"wrote {out}")


def _spread(examples: Sequence[Any], count: int) -> list[Any]:
    """Some examples, spread evenly over all of them; all for 0 or more than there are."""
    count = min(count or len(examples), len(examples))
    return [examples[index * len(examples) // count] for index in range(count)]


TASK = tasks.register(
    Task(
        name="segmentation",
        config=SegmenterConfig,
        presets=PRESETS,
        train="keras_resnet.segmentation.train:train",
        verbs={"evaluate": Evaluate, "predict": Predict, "export": Export},
        inspection="keras_resnet.segmentation.inspection",
    )
)
