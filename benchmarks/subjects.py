"""What is compared with what: tables of contenders, of which the others are measured against the first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from benchmarks.alternating import Contender


@dataclasses.dataclass(frozen=True)
class Subject:
    """One table.

    Attributes:
        kind: what `--only` names.
        title: heading.
        unit: "images/s", where more is better, or "ms", "s" or "MiB".
        contenders: the first one is ours.
        rounds: rounds where they differ from the command's.
        prepare: what is run once, before the others are set up.
    """

    kind: str
    title: str
    unit: str
    contenders: Sequence[Contender]
    rounds: int | None = None
    prepare: Contender | None = None


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """What the command's flags say.

    Attributes:
        device: "cpu" or "gpu".
        quick: tiny images and batches: whether everything runs, not how fast.
        dataset: of the whole run.
        data_dir: folder of prepared tensorflow-datasets.
        folder: an empty folder for exports.
    """

    device: str = "cpu"
    quick: bool = False
    dataset: str = "synthetic:32x32x10"
    data_dir: str | None = None
    folder: str = ""

    def size(self, side: int) -> int:
        """The side of the images."""
        return min(side, 32) if self.quick else side

    def count(self, number: int) -> int:
        """A batch size or a number of steps."""
        return 2 if self.quick else number


DTYPES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
"""What is computed in -> dtype policy."""

JAX = {"KERAS_BACKEND": "jax", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
GPU = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}


def operations(model: str, size: int, work: str = "inference", **options) -> float:
    """Floating-point operations for one image: two a multiply-add, and three times as many in a training step."""
    from keras_resnet import ARCHITECTURES

    passes = {"inference": 1, "training": 3}[work]
    return 2.0 * passes * ARCHITECTURES[model].multiply_adds(input_size=size, **options)


def limits(plan: EvalConfig, dtype: str) -> list[Contender]:
    """The largest matrix products of both libraries."""
    device = "cuda" if plan.device == "gpu" else "cpu"
    side = 64 if plan.quick else 4096 if device == "cpu" else 8192
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
    plan: EvalConfig, work: str, model: str, batch_size: int, size: int, dtype: str, libraries: Sequence[str]
) -> list[Contender]:
    """The same network in several libraries, training or predicting.

    Args:
        plan: the flags.
        work: "training" or "inference".
        model: constructor.
        batch_size: images in a batch.
        size: side of the images in pixels.
        dtype: "float32" or "bfloat16".
        libraries: "keras_resnet", "keras_resnet folded", "keras_resnet on JAX", "keras.applications",
            "keras batch norm", "torch", "torch.compile", "timm" or "timm compiled".
    """
    common = {
        "model": model,
        "batch_size": plan.count(batch_size),
        "size": plan.size(size),
        "dtype": DTYPES[dtype],
    }
    device = "cuda" if plan.device == "gpu" else "cpu"
    gpu = GPU if device == "cuda" else {}
    made = []
    for library in libraries:
        if library.startswith(("torch", "timm")):
            source = "timm" if library.startswith("timm") else "own"
            options = {"compile": "compile" in library, "source": source, "device": device}
            made.append((library, f"torch_{work}", options, {}))
        else:
            options = {"library": library.removesuffix(" on JAX").removesuffix(" folded")}
            options |= {"fold": True} if library.endswith("folded") else {}
            made.append((library, f"keras_{work}", options, JAX if library.endswith("JAX") else gpu))
    return [
        Contender(
            f"{library} {dtype}",
            make,
            {**common, **options},
            environment,
            # timm's network strides in the 3x3, as torchvision's does.
            operations=operations(model, common["size"], work, stride_in_1x1=options.get("source") != "timm"),
            dtype=dtype,
        )
        for library, make, options, environment in made
    ]


def training(plan: EvalConfig) -> list[Subject]:
    """Training steps: the ImageNet network beside keras.applications, the CIFAR one beside Keras' own batch norm."""
    gpu = plan.device == "gpu"
    big, small = ("keras_resnet", "keras.applications"), ("keras_resnet", "keras batch norm")
    others = ("torch", "torch.compile")
    others += ("keras_resnet on JAX", "timm", "timm compiled") if gpu else ()
    cases = [("ResNet50", 64 if gpu else 16, 224, (*big, *others)), ("ResNet20", 128, 32, (*small, *others[:2]))]
    return [
        Subject(
            "training",
            f"Training step of {model}, batch {plan.count(batch_size)}, {plan.size(size)} pixels, {dtype}",
            "images/s",
            [*networks(plan, "training", model, batch_size, size, dtype, libraries), *limits(plan, dtype)],
        )
        for model, batch_size, size, libraries in cases
        for dtype in DTYPES
    ]


def inference(plan: EvalConfig) -> list[Subject]:
    """Inference of the ImageNet network; bfloat16 beside float32 too."""
    gpu = plan.device == "gpu"
    libraries = ("keras_resnet", "keras_resnet folded", "keras.applications", "torch", "torch.compile")
    libraries += ("keras_resnet on JAX", "timm", "timm compiled") if gpu else ()
    case = (plan, "inference", "ResNet50", 256 if gpu else 32, 224)
    return [
        Subject(
            "inference",
            f"Inference of ResNet50, batch {plan.count(case[3])}, {plan.size(224)} pixels, {dtype}",
            "images/s",
            [
                *networks(*case, dtype, libraries),
                *(networks(*case, "float32", libraries[:1]) if dtype == "bfloat16" else ()),
                *limits(plan, dtype),
            ],
        )
        for dtype in DTYPES
    ]


def export(plan: EvalConfig) -> list[Subject]:
    """One image at a time: the exported formats beside a call of the model."""
    size = plan.size(224)
    cost = operations("ResNet50", size)
    made = {"folder": plan.folder, "size": size}
    called = {"model": "ResNet50", "size": size}
    once = {"model": "ResNet50", "batch_size": 1, "size": size}
    return [
        Subject(
            "export",
            f"ResNet50, one image of {size} pixels",
            "ms",
            [
                Contender("LiteRT int8", "lite", {**made, "variant": "int8"}),
                Contender("LiteRT float32", "lite", {**made, "variant": "float32"}, operations=cost),
                Contender("SavedModel in TensorFlow's C API", "saved_model", made, operations=cost),
                Contender("keras_resnet predict_on_batch", "keras_inference", {"library": "keras_resnet", **once}),
                Contender("keras_resnet model(x)", "keras_call", {"library": "keras_resnet", **called}),
                Contender("keras.applications model(x)", "keras_call", {"library": "keras.applications", **called}),
                Contender("torch", "torch_inference", once, operations=cost),
                *limits(plan, "float32"),
            ],
            prepare=Contender("exports", "write_exports", {"model": "ResNet50", **made}, fresh=True),
        )
    ]


def start_up(plan: EvalConfig) -> list[Subject]:
    """Imports, and the time until deep networks are built and take their first step."""
    deep = "ResNet20" if plan.quick else "ResNet1202"
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
    step = {"library": "keras_resnet", "model": deep, "step_batch": plan.count(32)}
    first = [Contender("keras_resnet", "building", step, fresh=True)]
    return [
        Subject("start_up", "Imports", "s", imports),
        Subject("start_up", "ResNet152 is built", "s", builds),
        Subject("start_up", f"{deep} is built and takes its first step, batch {plan.count(32)}", "s", first, 1),
    ]


def memory(plan: EvalConfig) -> list[Subject]:
    """The largest memory of a process that trains, with all maps kept and with blocks computed again."""
    cases = [("ResNet110", 128, 32), ("ResNet50", 32, 224)]
    subjects = []
    for model, batch_size, size in cases:
        options = {"library": "keras_resnet", "model": model, "size": plan.size(size)}
        whole = {**options, "batch_size": plan.count(batch_size)}
        contenders = [
            Contender(name, "training_memory", {**values, "recompute": recompute}, fresh=True)
            for name, values, recompute in (
                ("recompute", whole, True),
                ("all maps kept", whole, False),
                ("recompute batch 1", {**options, "batch_size": 1}, True),
                ("all maps kept batch 1", {**options, "batch_size": 1}, False),
            )
        ]
        built = Contender("built only", "building", {"library": "keras_resnet", "model": model}, fresh=True)
        title = f"Memory of training {model}, batch {plan.count(batch_size)}, float32"
        subjects.append(Subject("memory", title, "MiB", [*contenders, built], 1))
    return subjects


def whole_run(plan: EvalConfig) -> list[Subject]:
    """A run of the command beside its training step alone and its input pipeline alone."""
    batch_size, steps, size = plan.count(128), 4 if plan.quick else 250, 32
    # As the preset's 10,000 images each 1,000 steps; random images are fewer.
    eval_images = min(10 * steps, 256) if plan.dataset.startswith("synthetic") else 10 * steps
    data = {"dataset": plan.dataset, "data_dir": plan.data_dir, "batch_size": batch_size}
    subjects = []
    for dtype, policy in DTYPES.items():
        run = {"preset": "cifar10_resnet20", "steps": steps, "eval_images": eval_images, "dtype": policy, **data}
        step = {"library": "keras_resnet", "model": "ResNet20", "size": size, "dtype": policy, "recipe": True}
        subjects.append(
            Subject(
                "whole_run",
                f"ResNet20 on {plan.dataset}, batch {batch_size}, {dtype}",
                "images/s",
                [
                    Contender("keras-resnet train", "whole_run", run, fresh=True),
                    Contender("training step alone", "keras_training", {**step, "batch_size": batch_size}),
                    Contender("input pipeline alone", "pipeline", data),
                ],
                1 if plan.quick else 3,
            )
        )
    return subjects


KINDS: dict[str, Callable[[EvalConfig], list[Subject]]] = {
    "training": training,
    "inference": inference,
    "whole_run": whole_run,
    "export": export,
    "start_up": start_up,
    "memory": memory,
}
"""What `--only` names -> its tables."""

ON_GPU = ("training", "inference")
"""What `--device=gpu` measures."""
