"""The task of classification: its commands and their flags."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from keras_resnet import files
from keras_resnet.classification.config import PRESETS, ClassifierConfig
from keras_resnet.classification.eval_config import EvalConfig
from keras_resnet.errors import InputError
from keras_resnet.experiment import names, tasks
from keras_resnet.experiment.config import option
from keras_resnet.experiment.tasks import Invocation, StrategyFlags, Task, Verb
from keras_resnet.models.architectures import find

if TYPE_CHECKING:
    from keras_resnet.classification.run import TrainedClassifier


VARIANTS = ("float32", "float16", "dynamic", "int8", "post_training_int8")
"""The TFLite files that `serving.tflite` writes."""


@dataclasses.dataclass(frozen=True)
class SourceFlags(Verb):
    """The flags that name a trained network: a run's folder, or weights."""

    workdir: str | None = option(None, "Folder of the run.", "network", path="file")
    weights: str | None = option(
        None,
        "Instead of --workdir: a weights file, a name such as cifar10 or imagenet, or hf://USER/NAME.",
        "network",
        path="name",
    )
    model: str | None = option(
        None, "Network of the weights: resnet50, ...; not needed for files that name it.", "network"
    )
    preprocessing: str | None = option(
        None, "Preprocessing of the weights: caffe, torch or tf; not needed for files that name it.", "network"
    )

    def check_names(self) -> None:
        """Check what can be checked without TensorFlow.

        Raises:
            ValueError: neither or both of workdir and weights are given, or they do not exist.
        """
        if bool(self.workdir) == bool(self.weights):
            given = "both" if self.workdir else "neither"
            raise InputError(f"one of --workdir=FOLDER and --weights=NAME|FILE must be given; got {given}.")
        if self.workdir and (self.model or self.preprocessing):
            raise InputError("model and preprocessing are flags of --weights; a workdir has its own.")
        if self.weights:
            names.check_weights(self.weights)
            if self.model:
                find(self.model)
        else:
            names.check_run(tasks.one_folder(self.workdir))

    def open(self) -> TrainedClassifier:
        """Open the trained network.

        Raises:
            ValueError: as for `check_names`, or the network cannot be used.
        """
        self.check_names()

        from keras_resnet.classification.pretrained import Pretrained  # imports TensorFlow
        from keras_resnet.classification.run import ClassifierRun

        if self.weights:
            return Pretrained.open(self.weights, self.model, mode=self.preprocessing)
        return ClassifierRun.open(tasks.required(self.workdir, "workdir"))


@dataclasses.dataclass(frozen=True)
class SourcesFlags(Verb):
    """The flags that name several trained networks: runs' folders and weights."""

    workdir: tuple[str, ...] = option(
        (), "Folders of one or several runs, separated by commas.", "network", path="file"
    )
    weights: tuple[str, ...] = option(
        (),
        "In addition to --workdir or instead of it: weights files, names or hf://USER/NAME, separated by commas.",
        "network",
        path="name",
    )
    model: tuple[str, ...] = option(
        (),
        "Networks of the weights, one for each or one for all: resnet50,resnet101; not needed for files that name it.",
        "network",
    )
    preprocessing: tuple[str, ...] = option(
        (), "Preprocessing of the weights, likewise: caffe, torch or tf.", "network"
    )

    def check_names(self) -> None:
        """Check what can be checked without TensorFlow.

        Raises:
            ValueError: a run, weights or a network do not exist.
        """
        for flag in ("model", "preprocessing"):
            self._for_each_weights(flag)
        for path in self.workdir:
            names.check_run(path)
        for weights in self.weights:
            names.check_weights(weights)
        for model in self.model:
            find(model)

    def open(self) -> list[TrainedClassifier]:
        """Open the trained networks: `ClassifierRun`s and `Pretrained`s.

        Raises:
            ValueError: one of them cannot be used.
        """
        models, modes = (self._for_each_weights(name) for name in ("model", "preprocessing"))

        from keras_resnet.classification.pretrained import Pretrained  # imports TensorFlow
        from keras_resnet.classification.run import ClassifierRun

        runs: list[Any] = [ClassifierRun.open(path) for path in self.workdir]
        return runs + [
            Pretrained.open(weights, model, mode=mode)
            for weights, model, mode in zip(self.weights, models, modes, strict=True)
        ]

    def _for_each_weights(self, name: str) -> Sequence[str | None]:
        """The values of a flag that goes with --weights: one for each of them."""
        values, count = getattr(self, name), len(self.weights)
        if values and (not count or len(values) not in (1, count)):
            raise InputError(f"{name} must have one value, or one for each of weights ({count}); got {len(values)}.")
        return values if len(values) > 1 else (*values, None)[:1] * count


@dataclasses.dataclass(frozen=True)
class Evaluate(StrategyFlags, EvalConfig, SourcesFlags):
    """Print the errors of runs, of their ensemble and of exported networks; --out writes tables and plots."""

    saved_model: str | None = option(None, "Folder of a SavedModel to evaluate.", "network", path="file")
    tflite: str | None = option(None, "TFLite file to evaluate.", "network", path="file")
    onnx: str | None = option(None, "ONNX file to evaluate.", "network", path="file")
    openvino: str | None = option(None, "OpenVINO file (.xml) to evaluate.", "network", path="file")
    dataset: str | None = option(None, "Data set; by default that of the first run.", "data", path="dataset")
    data_dir: str | None = option(
        None, "Folder of prepared tensorflow-datasets; by default the run's.", "data", path="file"
    )
    split: str | None = option(
        None, "Split to evaluate on; by default test, validation, val or the run's eval_split.", "data"
    )
    out: str | None = option(None, "Folder to create with results.json, results.md and plots.", path="file")

    def run(self, invocation: Invocation) -> None:
        """Evaluate, print the table and write the report."""
        if not (self.workdir or self.weights or self.saved_model or self.tflite or self.onnx or self.openvino):
            raise InputError("workdir, weights, saved_model, tflite, onnx or openvino must be given: --workdir=...")
        self.check_names()
        if self.dataset:
            names.check_dataset(self.dataset, self.data_dir)
        files.check_new(self.out)
        strategy = self.make_strategy()

        from keras_resnet.classification import evaluate  # imports TensorFlow
        from keras_resnet.distribute import collectives
        from keras_resnet.evaluation import report

        with collectives.together(strategy):
            collectives.check_same(strategy, {"arguments": invocation.command}, "the command")
            result = evaluate.evaluate(
                self.open(),
                EvalConfig(**{name: getattr(self, name) for name in EvalConfig.field_names()}),
                saved_model=self.saved_model,
                tflite=self.tflite,
                onnx=self.onnx,
                openvino=self.openvino,
                dataset=self.dataset,
                data_dir=self.data_dir,
                split=self.split,
                strategy=strategy,
            )
        if not collectives.is_chief(strategy):
            return
        print(f"{result.dataset.info.name}, {result.split}:")
        print(report.table(result.rows))
        if self.out:
            result.write(self.out, invocation.command)
            print(f"wrote {self.out}")


@dataclasses.dataclass(frozen=True)
class Predict(SourceFlags):
    """Print the most probable classes of each image file; of a folder, of all images in it.

    With --explain, the parts of each image that speak for its first classes are drawn by Grad-CAM.
    """

    FILES = "PHOTO..."

    top: int = option(5, "Number of classes to print.", minimum=1)
    explain: str | None = option(None, "Folder for NAME_explained.png of each image.", path="file")

    def run(self, invocation: Invocation) -> None:
        """Predict each file."""
        self.check_names()
        names.check_photos(invocation.files)
        source = self.open()

        from keras_resnet.classification.explain import Explainer  # imports TensorFlow
        from keras_resnet.data import folders
        from keras_resnet.models.predictions import decode_predictions
        from keras_resnet.ops import codecs
        from keras_resnet.serving.optimized import optimized

        photos = folders.expand(invocation.files)
        targets = [f"{stem}_explained.png" for stem in files.unique_stems(photos)]
        if self.explain:
            files.check_absent(pathlib.Path(self.explain), targets, "explain")
        model, transform = source.load(), source.photo_transform()
        class_names = source.dataset_info.class_names
        explainer = Explainer(source.load_float(), transform, class_names) if self.explain else None
        if len(photos) >= MANY:
            dtype = model.layers[-2].compute_dtype  # the last layer is always float32
            model = optimized(model, dtype)
        for index, pixels in codecs.read_each(photos, transform.decode):
            scores = model.predict_on_batch(transform.batch(pixels[None]))
            best = decode_predictions(scores, min(self.top, len(class_names)), class_names)[0]
            print(f"{photos[index]}: " + ", ".join(f"{name} {score:.3f}" for _, name, score in best))
            if explainer:
                target = pathlib.Path(self.explain or "", targets[index])
                files.make_parent(target, "explain")
                explainer.draw(pixels.numpy(), scores[0], target)
                print(f"wrote {target}")


MANY = 100
"""Number of photos from which folding the network takes less time than it saves."""

FORMATS = ("saved_model", "tflite", "onnx", "openvino", "web")

FILE_FORMATS = "tflite/onnx/openvino"
"""Group of the flags that these formats share."""

EXPORTED = (".tflite", ".onnx", ".xml")
"""Endings of the files of these formats."""


@dataclasses.dataclass(frozen=True)
class Export(SourceFlags):
    """Publish a SavedModel for TensorFlow Serving, or write TFLite, ONNX or OpenVINO files, or a page for browsers."""

    format: str = option("saved_model", f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}.", choices=FORMATS)
    out: str | None = option(None, "saved_model: folder of all versions; else folder to create.", path="file")
    version: int | None = option(None, "Number of the version; by default the next one.", "saved_model", minimum=1)
    top: int | None = option(None, "Length of the outputs classes and scores; 5 by default.", "saved_model", minimum=1)
    max_pixels: int | None = option(
        None, "Refuse images with more pixels than this; by default the run's limit.", "saved_model", minimum=1
    )
    fold: bool | None = option(None, "Fold batch norm into the convolutions; on by default.", "saved_model")
    dtype: str | None = option(
        None,
        "float32 (default), float16 or bfloat16.",
        "saved_model",
        choices=("float32", "float16", "bfloat16"),
    )
    variants: tuple[str, ...] = option(
        (),
        "Some of float32,float16,dynamic,int8; by default all, and post_training_int8 with quantize. Of a web "
        "page one; by default float32.",
        "tflite/web",
        choices=VARIANTS,
    )
    dataset: str | None = option(
        None, "Images for calibration and report; by default the run's.", f"{FILE_FORMATS}/web", path="dataset"
    )
    data_dir: str | None = option(
        None, "Folder of prepared tensorflow-datasets; by default the run's.", f"{FILE_FORMATS}/web", path="file"
    )
    calibration_split: str | None = option(None, "Images to calibrate int8 on; by default train_split.", "tflite/web")
    calibration_images: int | None = option(
        None, "Number of calibration images; 256 by default, or as many as there are.", "tflite/web", minimum=1
    )
    litert: str | None = option(
        None, "Folder in which npm has installed LiteRT.js; by default, npm downloads it.", "web", path="file"
    )
    report: bool | None = option(None, "Compare the files with the network on images; on by default.", FILE_FORMATS)
    report_split: str | None = option(None, "Images of the report; by default eval_split.", FILE_FORMATS)
    report_images: int | None = option(
        None, "Number of images of the report; by default 0, all.", FILE_FORMATS, minimum=0
    )
    batch_size: int | None = option(None, "Images in a call, 0 for any number; 1 by default.", "tflite", minimum=0)
    threads: int | None = option(None, "Threads in the report; 2 by default.", FILE_FORMATS, minimum=0)

    def run(self, invocation: Invocation) -> None:
        """Export."""
        options = self.of_format(self.format, invocation)
        out = tasks.required(self.out, "out")
        self.check_names()
        if self.dataset:
            names.check_dataset(self.dataset, self.data_dir)
        if self.format != "saved_model":
            files.check_new(out)
        writers = {"saved_model": self._saved_model, "tflite": self._tflite, "web": self._web}
        path = writers.get(self.format, self._interchange)(out, options)
        print(f"wrote {path}")
        source = [f"--workdir={self.workdir}"] if self.workdir else ["--dataset=DATASET"]
        evaluate = ["keras-resnet", "evaluate", *source]
        if self.format == "saved_model":
            commands = [["docker", "compose", f"--file={out}/compose.yaml", "up"], [*evaluate, f"--saved_model={path}"]]
        elif self.format == "web":
            commands = [["python", "-m", "http.server", "--bind=localhost", f"--directory={out}"]]
        else:
            written = [file for file in pathlib.Path(out).iterdir() if file.suffix in EXPORTED]
            # The int8 file rather than float32, and rather than the one for comparison.
            file = min(written, key=lambda file: ("int8" not in file.stem, len(file.stem)))
            commands = [[*evaluate, f"--{self.format}={file}"]]
        print(tasks.next_commands(*commands))

    def _saved_model(self, out: str, options: dict[str, Any]) -> pathlib.Path:
        source = self.open()

        from keras_resnet.serving import saved_model  # imports TensorFlow

        return saved_model.export(source, out, **{"max_pixels": source.config.max_pixels, **options})

    def _tflite(self, out: str, options: dict[str, Any]) -> pathlib.Path:
        source = self.open()

        from keras_resnet.serving import tflite  # imports TensorFlow

        if options.get("batch_size") == 0:
            options["batch_size"] = None
        options.setdefault("calibration_split", source.config.train_split)
        options.setdefault("variants", tflite.ALL_VARIANTS if source.config.quantize else tflite.VARIANTS)
        needed = tflite.needs_calibration(options["variants"], bool(source.config.quantize))
        return self._reported(tflite.export, source, out, options, needed)

    def _interchange(self, out: str, options: dict[str, Any]) -> pathlib.Path:
        source = self.open()

        from keras_resnet.serving import interchange  # imports TensorFlow

        return self._reported(interchange.export, source, out, {**options, "format": self.format})

    def _web(self, out: str, options: dict[str, Any]) -> pathlib.Path:
        variants = options.pop("variants", ("float32",))
        if len(variants) != 1:
            raise InputError(f"variants must be one of {', '.join(VARIANTS)} for a web page; got {','.join(variants)}.")
        source = self.open()

        from keras_resnet.serving import tflite, web  # imports TensorFlow

        options.setdefault("calibration_split", source.config.train_split)
        needed = tflite.needs_calibration(variants, bool(source.config.quantize))
        return self._reported(web.export, source, out, {**options, "variant": variants[0], "report": False}, needed)

    def _reported(
        self, write: Callable[..., pathlib.Path], source: Any, out: str, options: dict[str, Any], needed: bool = False
    ) -> pathlib.Path:
        """Write files and print their report; `needed` if images are, whether or not there is a report."""
        from keras_resnet.data import sources  # imports TensorFlow

        report = options.pop("report", True)
        name = options.pop("dataset", source.config.dataset)
        folder = options.pop("data_dir", source.config.data_dir)
        if report or needed:
            options["dataset"] = sources.load(name, folder)
        if report:
            options.setdefault("report_split", source.config.eval_split)
        path = write(source, out, **options)
        if report:
            print((path / "report.md").read_text(encoding="utf-8"))
        return pathlib.Path(out)


TASK = tasks.register(
    Task(
        name="classification",
        config=ClassifierConfig,
        presets=PRESETS,
        train="keras_resnet.classification.train:train",
        verbs={"evaluate": Evaluate, "predict": Predict, "export": Export},
        inspection="keras_resnet.classification.inspection",
    )
)
