"""The comparisons: tables of contenders, each compared with the first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from benchmarks.alternating import Contender


@dataclasses.dataclass(frozen=True)
class Subject:
    """One table.

    Attributes:
        kind: name for `--only`.
        title: heading.
        unit: "images/s" (higher is better), "ms", "s" or "MiB".
        contenders: the first one is this package's.
        rounds: number of rounds, if it differs from the command's.
        prepare: a contender that runs once, before the others are set up.
    """

    kind: str
    title: str
    unit: str
    contenders: Sequence[Contender]
    rounds: int | None = None
    prepare: Contender | None = None


@dataclasses.dataclass(frozen=True)
class Settings:
    """The flags of the command.

    Attributes:
        device: "cpu" or "gpu".
        quick: tiny images and batches, for a smoke run.
        dataset: data set of the whole run.
        data_dir: folder of prepared tensorflow-datasets.
        folder: an empty folder for exports.
    """

    device: str = "cpu"
    quick: bool = False
    dataset: str = "synthetic:32x32x10"
    data_dir: str | None = None
    folder: str = ""

    def size(self, side: int) -> int:
        """Return the side of the images in pixels."""
        return min(side, 32) if self.quick else side

    def count(self, number: int) -> int:
        """Return a batch size or a number of steps."""
        return 2 if self.quick else number


DTYPES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
"""Dtype -> dtype policy."""

TORCH = {"KERAS_BACKEND": "torch"}
JAX = {"KERAS_BACKEND": "jax", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
GPU = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}


SUFFIXES = {" folded": {"fold": True}, " optimized": {"optimized": True}, " with Keras' SGD": {"keras_sgd": True}}
"""End of a library's name in a table -> options of its contender."""


def operations(model: str, size: int, work: str = "inference", **options) -> float:
    """Return floating-point operations per image: two per multiply-add, and three times as many in a training step."""
    from keras_resnet import ARCHITECTURES

    passes = {"inference": 1, "training": 3}[work]
    return 2.0 * passes * ARCHITECTURES[model].multiply_adds(input_size=size, **options)


def limits(settings: Settings, dtype: str) -> list[Contender]:
    """Return the matrix products of both libraries, the limit of the machine."""
    device = "cuda" if settings.device == "gpu" else "cpu"
    side = 64 if settings.quick else 4096 if device == "cpu" else 8192
    return [
        Contender(
            f"{library} matrix product {dtype}",
            "matrix_product",
            {"library": library, "dtype": dtype, "size": side, "device": device},
            environment=GPU if device == "cuda" else {},
            operations=2.0 * side**3,
            dtype=dtype,
            is_limit=True,
        )
        for library in ("tensorflow", "torch")
    ]


def networks(
    settings: Settings, work: str, model: str, batch_size: int, size: int, dtype: str, libraries: Sequence[str]
) -> list[Contender]:
    """Return contenders for the same network in several libraries, in training or inference.

    Args:
        settings: the flags.
        work: "training" or "inference".
        model: name of the constructor.
        batch_size: images in a batch.
        size: side of the images in pixels.
        dtype: "float32" or "bfloat16".
        libraries: "keras_resnet", "keras.applications", "keras batch norm", "torch", "torch.compile", "timm" or
            "timm compiled"; the first three also with an end of `SUFFIXES`, or " on JAX" or " on PyTorch".
    """
    common = {
        "model": model,
        "batch_size": settings.count(batch_size),
        "size": settings.size(size),
        "dtype": DTYPES[dtype],
    }
    device = "cuda" if settings.device == "gpu" else "cpu"
    gpu = GPU if device == "cuda" else {}
    made = []
    for library in libraries:
        if library.startswith(("torch", "timm")):
            source = "timm" if library.startswith("timm") else "own"
            options = {"compile": "compile" in library, "source": source, "device": device}
            made.append((library, f"torch_{work}", options, {}))
        else:
            name, _, backend = library.partition(" on ")
            known = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")
            options = {"library": name.removesuffix(known), **SUFFIXES.get(known, {})}
            made.append((library, f"keras_{work}", options, {"JAX": JAX, "PyTorch": TORCH}.get(backend, gpu)))
    return [
        Contender(
            f"{library} {dtype}",
            make,
            {**common, **options},
            environment,
            # timm's network has its strides in the 3x3, as torchvision's.
            operations=operations(model, common["size"], work, stride_in_1x1=options.get("source") != "timm"),
            dtype=dtype,
        )
        for library, make, options, environment in made
    ]


def training(settings: Settings) -> list[Subject]:
    """Training steps of the ImageNet and CIFAR networks, compared with keras.applications and Keras' batch norm."""
    gpu = settings.device == "gpu"
    big = ("keras_resnet", "keras_resnet with Keras' SGD", "keras.applications")
    small = ("keras_resnet", "keras_resnet with Keras' SGD", "keras batch norm")
    others = ("torch", "torch.compile")
    others += ("keras_resnet on JAX", "timm", "timm compiled") if gpu else ()
    cases = [("ResNet50", 64 if gpu else 16, 224, (*big, *others)), ("ResNet20", 128, 32, (*small, *others[:2]))]
    return [
        Subject(
            "training",
            f"Training step of {model}, batch {settings.count(batch_size)}, {settings.size(size)} pixels, {dtype}",
            "images/s",
            [*networks(settings, "training", model, batch_size, size, dtype, libraries), *limits(settings, dtype)],
        )
        for model, batch_size, size, libraries in cases
        for dtype in DTYPES
    ]


def inference(settings: Settings) -> list[Subject]:
    """Inference of the ImageNet network; bfloat16 is also compared with float32."""
    gpu = settings.device == "gpu"
    libraries = ("keras_resnet", "keras_resnet folded", "keras_resnet optimized", "keras.applications")
    libraries += ("torch", "torch.compile")
    libraries += ("keras_resnet on JAX", "timm", "timm compiled") if gpu else ()
    case = (settings, "inference", "ResNet50", 256 if gpu else 32, 224)
    return [
        Subject(
            "inference",
            f"Inference of ResNet50, batch {settings.count(case[3])}, {settings.size(224)} pixels, {dtype}",
            "images/s",
            [
                *networks(*case, dtype, libraries),
                *(networks(*case, "float32", libraries[:1]) if dtype == "bfloat16" else ()),
                *limits(settings, dtype),
            ],
        )
        for dtype in DTYPES
    ]


def backends(settings: Settings) -> list[Subject]:
    """The same network on each backend of Keras; on PyTorch also with Keras' batch norm."""
    libraries = ("keras_resnet", "keras_resnet on JAX", "keras_resnet on PyTorch", "keras batch norm on PyTorch")
    return [
        Subject(
            "backends",
            f"{work.capitalize()} of {model}, batch {settings.count(batch_size)}, {settings.size(size)} pixels",
            "images/s",
            networks(settings, work, model, batch_size, size, "float32", libraries),
        )
        for model, batch_size, size in (("ResNet20", 128, 32), ("ResNet50", 16, 224))
        for work in ("inference", "training")
    ]


def export(settings: Settings) -> list[Subject]:
    """One image at a time: the exported formats compared with calling the model."""
    size = settings.size(224)
    cost = operations("ResNet50", size)
    made = {"folder": settings.folder, "size": size}
    called = {"model": "ResNet50", "size": size}
    once = {"model": "ResNet50", "batch_size": 1, "size": size}
    fast = {"library": "keras_resnet", "optimized": True, **once}
    return [
        Subject(
            "export",
            f"ResNet50, one image of {size} pixels",
            "ms",
            [
                Contender("LiteRT int8", "lite", {**made, "variant": "int8"}),
                Contender("LiteRT float32", "lite", {**made, "variant": "float32"}, operations=cost),
                Contender("SavedModel in TensorFlow's C API", "saved_model", made, operations=cost),
                *(
                    Contender(f"keras_resnet optimized {dtype}", "keras_inference", {**fast, "dtype": policy})
                    for dtype, policy in DTYPES.items()
                ),
                Contender("keras_resnet predict_on_batch", "keras_inference", {"library": "keras_resnet", **once}),
                Contender("keras_resnet model(x)", "keras_call", {"library": "keras_resnet", **called}),
                Contender("keras.applications model(x)", "keras_call", {"library": "keras.applications", **called}),
                Contender("OpenVINO float32", "openvino", {**made, "dtype": "f32"}, operations=cost),
                Contender("OpenVINO bfloat16", "openvino", {**made, "dtype": "bf16"}),
                Contender("torch", "torch_inference", once, operations=cost),
                Contender("torch.compile", "torch_inference", {**once, "compile": True}, operations=cost),
                Contender("torch.compile bfloat16", "torch_inference", {**once, "compile": True, "dtype": "bfloat16"}),
                *limits(settings, "float32"),
            ],
            prepare=Contender("exports", "write_exports", {"model": "ResNet50", **made}, fresh=True),
        )
    ]


def start_up(settings: Settings) -> list[Subject]:
    """Imports, building deep networks, and running their first step."""
    deep = "ResNet20" if settings.quick else "ResNet1202"
    imports = [
        Contender("keras_resnet after keras", "importing", {"module": "keras_resnet", "after": ["keras"]}, fresh=True),
        Contender(
            "keras_resnet and its networks after keras",
            "importing",
            {"module": "keras_resnet", "after": ["keras"], "attribute": "ResNet50"},
            fresh=True,
        ),
        Contender("keras", "importing", {"module": "keras"}, fresh=True),
    ]
    builds = [
        Contender("keras_resnet", "building", {"library": "keras_resnet", "model": "ResNet152"}, fresh=True),
        Contender(
            "keras.applications", "building", {"library": "keras.applications", "model": "ResNet152"}, fresh=True
        ),
    ]
    step = {"library": "keras_resnet", "model": deep, "step_batch": settings.count(32)}
    first = [Contender("keras_resnet", "building", step, fresh=True)]
    return [
        Subject("start_up", "Imports", "s", imports),
        Subject("start_up", "Build ResNet152", "s", builds),
        Subject("start_up", f"Build {deep} and run its first step, batch {settings.count(32)}", "s", first, 1),
    ]


def memory(settings: Settings) -> list[Subject]:
    """Peak memory of a process that trains, with all activations stored and with blocks recomputed."""
    cases = [("ResNet110", 128, 32), ("ResNet50", 32, 224)]
    subjects = []
    for model, batch_size, size in cases:
        options = {"library": "keras_resnet", "model": model, "size": settings.size(size)}
        whole = {**options, "batch_size": settings.count(batch_size)}
        contenders = [
            Contender(name, "training_memory", {**values, "recompute": recompute}, fresh=True)
            for name, values, recompute in (
                ("recompute", whole, True),
                ("all activations stored", whole, False),
                ("recompute batch 1", {**options, "batch_size": 1}, True),
                ("all activations stored batch 1", {**options, "batch_size": 1}, False),
            )
        ]
        built = Contender("built only", "building", {"library": "keras_resnet", "model": model}, fresh=True)
        title = f"Memory of training {model}, batch {settings.count(batch_size)}, float32"
        subjects.append(Subject("memory", title, "MiB", [*contenders, built], 1))
    return subjects


def whole_run(settings: Settings) -> list[Subject]:
    """A run of the command compared with its training step alone and its input pipeline alone."""
    batch_size, steps, size = settings.count(128), 4 if settings.quick else 250, 32
    # In proportion to the preset's 10,000 images every 1,000 steps; there are fewer random images.
    eval_images = min(10 * steps, 256) if settings.dataset.startswith("synthetic") else 10 * steps
    data = {"dataset": settings.dataset, "data_dir": settings.data_dir, "batch_size": batch_size}
    subjects = []
    for dtype, policy in DTYPES.items():
        run = {"preset": "cifar10_resnet20", "steps": steps, "eval_images": eval_images, "dtype": policy, **data}
        step = {"library": "keras_resnet", "model": "ResNet20", "size": size, "dtype": policy, "recipe": True}
        subjects.append(
            Subject(
                "whole_run",
                f"ResNet20 on {settings.dataset}, batch {batch_size}, {dtype}",
                "images/s",
                [
                    Contender("keras-resnet train", "whole_run", run, fresh=True),
                    Contender("training step alone", "keras_training", {**step, "batch_size": batch_size}),
                    Contender("input pipeline alone", "pipeline", data),
                ],
                1 if settings.quick else 3,
            )
        )
    return subjects


KINDS: dict[str, Callable[[Settings], list[Subject]]] = {
    "training": training,
    "inference": inference,
    "backends": backends,
    "whole_run": whole_run,
    "export": export,
    "start_up": start_up,
    "memory": memory,
}
"""Name for `--only` -> function that returns its tables."""

ON_GPU = ("training", "inference", "backends")
"""Kinds that `--device=gpu` measures."""
