"""The task of localization: its commands and their flags."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

from keras_resnet import files
from keras_resnet.errors import InputError, counted
from keras_resnet.experiment import names, tasks
from keras_resnet.experiment.config import option
from keras_resnet.experiment.tasks import Invocation, Task, Verb
from keras_resnet.localization.choices import PROTOCOLS
from keras_resnet.localization.config import PRESETS, LocalizerConfig


@dataclasses.dataclass(frozen=True)
class LocalizeFlags(Verb):
    """The flags that say how a localizer is applied, and which classifiers select the classes."""

    workdir: str | None = option(None, "Folder of the run of stage 1 or 2.", "network", path="file")
    classifier_workdir: tuple[str, ...] = option(
        (), "Folders of classifiers' runs, whose mean probabilities select the classes.", "network", path="file"
    )
    classifier_weights: tuple[str, ...] = option(
        (), "In addition or instead: weights files or names of published weights.", "network", path="name"
    )
    classifier_model: tuple[str, ...] = option(
        (), "Networks of classifier_weights, one for each or one for all.", "network"
    )
    classifier_preprocessing: tuple[str, ...] = option(
        (), "Preprocessing of classifier_weights, likewise: caffe, torch or tf.", "network"
    )
    protocol: str | None = option(
        None, "single (one crop) or dense; by default that of training.", "evaluation", choices=PROTOCOLS
    )
    resize: int | None = option(
        None, "Shorter side before the center crop of single; 0 for the whole image.", "evaluation", minimum=0
    )
    scales: tuple[int, ...] = option((), "Shorter sides of the images of dense: 192,256,320.", "evaluation")
    mirror: bool = option(False, "Add the mirrored views.", "evaluation")
    vote_thresh: float | None = option(
        None,
        "Average the boxes whose IoU with the best one is at least this; 1 for no voting.",
        "evaluation",
        minimum=0,
        maximum=1,
    )
    proposals: int | None = option(
        None, "Proposals of each class in stage 2; by default those of training.", "evaluation", minimum=1
    )
    multiply_scores: bool | None = option(
        None, "Multiply the scores of stage 2 by those of stage 1; by default as in training.", "evaluation"
    )

    def check(self) -> str:
        """Check what can be checked without TensorFlow; return the run's folder.

        Raises:
            ValueError: a folder holds no run, or a flag does not go with another.
        """
        workdir = tasks.one_folder(self.workdir)
        names.check_run(workdir)
        if self.scales and self.protocol == "single":
            raise InputError("scales is a flag of --protocol=dense, not of --protocol=single.")
        if self.has_classifier:
            with self._classifier_errors():
                self._classifiers().check_names()
        return workdir

    @property
    def has_classifier(self) -> bool:
        """Whether a classifier selects the classes."""
        return bool(self.classifier_workdir or self.classifier_weights)

    def open(self, policy: str | None = None) -> tuple[Any, Any]:
        """Open the run.

        Returns:
            The `LocalizerRun` and its `Localizer`.

        Raises:
            ValueError: the folder holds no localizer's run, or it has no weights yet.
        """
        workdir = self.check()

        from keras_resnet.localization.run import LocalizerRun  # imports TensorFlow

        run = LocalizerRun.open(workdir)
        for name in ("proposals", "multiply_scores"):
            if getattr(self, name) is not None and run.config.stage == 1:
                raise InputError(f"{name} is a flag of runs of stage 2; {workdir!r} holds one of stage 1.")
        given: dict[str, Any] = {"protocol": self.protocol, "resize": self.resize, "scales": self.scales or None}
        if self.scales and not self.protocol:
            given["protocol"] = "dense"
        views = {name: value for name, value in given.items() if value is not None}
        localizer = run.localizer(
            policy,
            vote_thresh=self.vote_thresh,
            proposals=self.proposals,
            multiply_scores=self.multiply_scores,
            mirror=self.mirror,
            **views,
        )
        return run, localizer

    def open_classifiers(self) -> list[Any]:
        """Open the classifiers.

        Raises:
            ValueError: one of them cannot be used.
        """
        with self._classifier_errors():
            return self._classifiers().open()

    @contextlib.contextmanager
    def _classifier_errors(self) -> Iterator[None]:
        """Let errors name the flags as they are written here: classifier_workdir instead of workdir."""
        try:
            yield
        except InputError as error:
            name = str(error).partition(" ")[0]
            prefix = "classifier_" if f"classifier_{name}" in self.field_names() else ""
            raise InputError(f"{prefix}{error}") from error

    def _classifiers(self) -> Any:
        """The flags of the classifiers as those of the task of classification."""
        verb: Any = tasks.get("classification").verbs["evaluate"]
        return verb(
            workdir=self.classifier_workdir,
            weights=self.classifier_weights,
            model=self.classifier_model,
            preprocessing=self.classifier_preprocessing,
        )


@dataclasses.dataclass(frozen=True)
class Evaluate(LocalizeFlags):
    """Print the localization errors of ILSVRC's devkit; write their numbers and pictures.

    The error with the true class given is measured in any case; the other errors require a classifier.
    """

    split: str | None = option(None, "Split to evaluate on; by default that of training.", "data")
    data_dir: str | None = option(None, "Folder of prepared tensorflow-datasets.", "data", path="file")
    pictures: int = option(8, "Number of the worst and of the best images to draw.", minimum=0)
    out: str | None = option(None, "Folder to create; by default evaluation_SPLIT in the run's folder.", path="file")

    def run(self, invocation: Invocation) -> None:
        """Evaluate, print the table and write the report."""
        files.check_new(self.out)
        run, localizer = self.open()

        from keras_resnet.localization import evaluate, report  # imports TensorFlow
        from keras_resnet.localization.classifiers import Ensemble
        from keras_resnet.localization.data import pipeline

        split, class_names = self.split or run.config.eval_split, run.dataset_info.class_names
        examples, transform = run.dataset(self.data_dir).examples(split), run.transform()
        classes = None
        if self.has_classifier:
            ensemble = Ensemble(self.open_classifiers(), class_names)
            classes, _ = ensemble.top(pixels for _, pixels in pipeline.evaluate(examples, transform))
        evaluation = evaluate.evaluate(localizer, examples, transform, classes, progress=True)
        out = pathlib.Path(self.out or run.path / re.sub(r"\W+", "_", f"evaluation_{split}").rstrip("_"))
        if not self.out and out.exists():
            shutil.rmtree(out)  # of an earlier evaluation
        details = {
            "workdir": str(run.path),
            "stage": run.config.stage,
            "dataset": run.config.dataset,
            "split": split,
            "seed": run.config.seed,
            "steps": run.config.steps,
            **dataclasses.asdict(localizer.views),
            "vote_thresh": localizer.vote_thresh,
            "proposals": localizer.count,
            "multiply_scores": localizer.multiply_scores,
            "command": invocation.command,
        }
        report.write(out, evaluation, examples, class_names, transform, details, pictures=self.pictures)
        print(
            f"stage {run.config.stage} on {run.config.backbone}, {run.config.dataset} {split}, "
            f"{counted(len(examples), 'image')}, {localizer.views.protocol}:"
        )
        print(report.table(evaluation))
        print(f"wrote {out}")


@dataclasses.dataclass(frozen=True)
class Predict(LocalizeFlags):
    """Print the box of each of the most probable classes of image files, and write the images with these boxes.

    Without a classifier, all classes are localized and those with the highest scores are printed.
    """

    FILES = "PHOTO..."

    top: int = option(5, "Number of classes.", minimum=1)
    out: str | None = option(None, "Folder for the images; by default the current one.", path="file")

    def run(self, invocation: Invocation) -> None:
        """Localize in each file."""
        self.check()
        names.check_photos(invocation.files)
        run, localizer = self.open()

        import numpy as np
        import tensorflow as tf

        from keras_resnet.data import folders
        from keras_resnet.localization import pictures
        from keras_resnet.localization.classifiers import Ensemble
        from keras_resnet.ops import codecs

        class_names, transform = run.dataset_info.class_names, run.transform()
        ensemble = Ensemble(self.open_classifiers(), class_names) if self.has_classifier else None
        photos, out = folders.expand(invocation.files), pathlib.Path(self.out or ".")
        targets = [out / f"{stem}_boxes.png" for stem in files.unique_stems(photos)]
        files.check_absent(out, [target.name for target in targets])
        for index, pixels in codecs.read_each(photos, transform.decode):
            photo, target = photos[index], targets[index]
            if ensemble:
                classes, scores = (part[0] for part in ensemble.top([pixels], self.top))
                boxes, _ = localizer(pixels, tf.constant(classes, tf.int32))
            else:
                boxes, scores = localizer(pixels, tf.range(len(class_names)))
                classes = np.argsort(-scores.numpy(), kind="stable")[: self.top]
                boxes, scores = boxes.numpy()[classes], scores.numpy()[classes]
            boxes = np.asarray(boxes, "float64")
            captions = [f"{class_names[label]} {score:.3f}" for label, score in zip(classes, scores, strict=True)]
            files.make_parent(target)
            pictures.draw(pixels.numpy(), np.zeros((0, 4)), boxes, captions).save(target)
            print(f"{photo}: wrote {target}")
            for caption, (top, left, bottom, right) in zip(captions, boxes, strict=True):
                print(f"  {caption}: left {left:.0f}, top {top:.0f}, right {right:.0f}, bottom {bottom:.0f}")


@dataclasses.dataclass(frozen=True)
class Export(LocalizeFlags):
    """Publish a localizer and the classifier that selects its classes as a SavedModel, or write stage 1 as TFLite."""

    format: str = option("saved_model", "saved_model or tflite.", choices=("saved_model", "tflite"))
    out: str | None = option(None, "saved_model: folder of all versions; tflite: file to create.", path="file")
    version: int | None = option(None, "Number of the version; by default the next one.", "saved_model", minimum=1)
    top: int | None = option(
        None, "Number of classes that the classifier selects; by default 5.", "saved_model", minimum=1
    )
    max_pixels: int | None = option(None, "Refuse images with more pixels than this.", "saved_model", minimum=1)
    size: tuple[int, ...] = option((), "Height and width of the input; by default crop_size of the run.", "tflite")

    def run(self, invocation: Invocation) -> None:
        """Export."""
        options = self.of_format(self.format, invocation)
        out = tasks.required(self.out, "out")
        if self.format == "tflite" and self.has_classifier:
            raise InputError("TFLite files of localizers contain no classifier: leave out the flags of classifiers.")
        if len(self.classifier_workdir) + len(self.classifier_weights) > 1:
            raise InputError("an export must have one classifier; got several.")
        # Half precision is for training: SavedModels run in float32.
        run, localizer = self.open("float32")

        from keras_resnet.localization import export  # imports TensorFlow

        class_names = run.dataset_info.class_names
        if self.format == "tflite":
            size = self.size or (run.config.crop_size,) * 2
            export.export_tflite(localizer, out, len(class_names), size)
            print(f"wrote {out}")
            return
        classifier = self.open_classifiers()[0] if self.has_classifier else None
        path = export.export(localizer, out, class_names, classifier=classifier, **options)
        print(f"wrote {path}")
        print(tasks.next_commands(["docker", "compose", f"--file={out}/compose.yaml", "up"]))


TASK = tasks.register(
    Task(
        name="localization",
        config=LocalizerConfig,
        presets=PRESETS,
        train="keras_resnet.localization.train:train",
        verbs={"evaluate": Evaluate, "predict": Predict, "export": Export},
        inspection="keras_resnet.localization.inspection",
    )
)
