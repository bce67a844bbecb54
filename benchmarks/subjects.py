"""The comparisons: tables of contenders, each compared with the first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from benchmarks.alternating import Contender


@dataclasses.dataclass(frozen=True)
class Subject:
    """One table.

    Attributes:
        kind: name for `--only`.
        title: heading.
        unit: "images/s" (higher is better), "ms", "s", "MiB" or "difference", which is not compared.
        contenders: the first one is this package's.
        rounds: number of rounds, if it differs from the command's.
        prepare: a contender that runs once, before the others are set up.
        together: whether the contenders take turns; if not, each is measured after the one before has exited, because
            a GPU's memory does not hold all of them.
        expected: ratio of the first row to others as measured on an idle machine; half of it, by processor time, fails.
    """

    kind: str
    title: str
    unit: str
    contenders: Sequence[Contender]
    rounds: int | None = None
    prepare: Contender | None = None
    together: bool = True
    expected: Mapping[str, float] = dataclasses.field(default_factory=dict)


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

ENVIRONMENTS = {
    ("JAX", "cpu"): {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
    # The first platform is the default; the second one is for comparisons.
    ("JAX", "gpu"): {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cuda,cpu",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    },
    ("PyTorch", "cpu"): {"KERAS_BACKEND": "torch", "KERAS_TORCH_DEVICE": "cpu"},
    ("PyTorch", "gpu"): {"KERAS_BACKEND": "torch", "KERAS_TORCH_DEVICE": "cuda"},
    ("TensorFlow", "cpu"): {"KERAS_BACKEND": "tensorflow"},
    ("TensorFlow", "gpu"): {"KERAS_BACKEND": "tensorflow", "TF_FORCE_GPU_ALLOW_GROWTH": "true"},
}
"""Keras' backend and device -> environment variables; names without a backend have none of them."""

EXACT = {"JAX_DEFAULT_MATMUL_PRECISION": "highest", "NVIDIA_TF32_OVERRIDE": "0"}
"""Environment variables for float32 products without TF32 on a GPU."""

SUFFIXES = {
    " folded": {"fold": True},
    " optimized": {"optimized": True},
    " with Keras' SGD": {"keras_sgd": True},
    " v1.5": {"stride_in_1x1": False},
}
"""End of a library's name in a table -> options of its contender."""


def operations(model: str, size: int, work: str = "inference", **options) -> float:
    """Return floating-point operations per image: two per multiply-add, and three times as many in a training step."""
    from keras_resnet import ARCHITECTURES

    passes = {"inference": 1, "training": 3}[work]
    return 2.0 * passes * ARCHITECTURES[model].multiply_adds(input_size=size, **options)


def limits(settings: Settings, dtype: str, libraries: Sequence[str] = ("tensorflow", "torch")) -> list[Contender]:
    """Return the matrix products of libraries, the limit of the machine."""
    device = "cuda" if settings.device == "gpu" else "cpu"
    side = 64 if settings.quick else 4096 if device == "cpu" else 8192
    return [
        Contender(
            f"{library} matrix product {dtype}",
            "matrix_product",
            {
                "library": library,
                "dtype": dtype,
                "size": side,
                "device": device,
                "steps": 1 if device == "cpu" else 20,
            },
            environment=ENVIRONMENTS["JAX", settings.device] if library == "jax" else {},
            operations=2.0 * side**3,
            dtype=dtype,
            is_limit=True,
            planned=10.0,
        )
        for library in libraries
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
        libraries: "keras_resnet", "keras.applications", "keras batch norm", "torch", "torch.compile", "timm",
            "timm compiled", "torchvision" or "torchvision compiled"; the first three also with an end of `SUFFIXES`,
            and then " on JAX", " on PyTorch" or " on TensorFlow".
    """
    gpu = settings.device == "gpu"
    common = {
        "model": model,
        "batch_size": settings.count(batch_size),
        "size": settings.size(size),
        "dtype": DTYPES[dtype],
        "steps": max(1, 2048 // batch_size) if gpu else 1,
    }
    made = []
    for library in libraries:
        if library.startswith(("torch", "timm")):
            source = next((name for name in ("timm", "torchvision") if library.startswith(name)), "own")
            options = {"compile": "compile" in library, "source": source, "device": "cuda" if gpu else "cpu"}
            made.append((library, f"torch_{work}", options, {}))
        else:
            name, _, backend = library.partition(" on ")
            known = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")
            options = {"library": name.removesuffix(known), **SUFFIXES.get(known, {})}
            made.append((library, f"keras_{work}", options, ENVIRONMENTS.get((backend, settings.device), {})))
    return [
        Contender(
            f"{library} {dtype}",
            make,
            {**common, **options},
            environment,
            operations=operations(
                model,
                common["size"],
                work,
                stride_in_1x1=options.get("stride_in_1x1", options.get("source", "own") == "own"),
            ),
            dtype=dtype,
            planned=60.0 if "compile" in library or " on JAX" in library else 20.0,
        )
        for library, make, options, environment in made
    ]


def training(settings: Settings) -> list[Subject]:
    """Training steps of the ImageNet and CIFAR networks, compared with keras.applications and Keras' batch norm."""
    big = ("keras_resnet", "keras_resnet with Keras' SGD", "keras.applications")
    small = ("keras_resnet", "keras_resnet with Keras' SGD", "keras batch norm")
    others = ("torch", "torch.compile")
    cases = [("ResNet50", 16, 224, (*big, *others)), ("ResNet20", 128, 32, (*small, *others[:2]))]
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
    libraries = ("keras_resnet", "keras_resnet folded", "keras_resnet optimized", "keras.applications")
    libraries += ("torch", "torch.compile")
    case = (settings, "inference", "ResNet50", 32, 224)
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


def products(settings: Settings) -> list[Subject]:
    """The largest matrix products, the limit of the tables that follow."""
    rows = [product for dtype in DTYPES for product in limits(settings, dtype, ("jax", "torch"))]
    return [Subject("products", "Matrix products", "images/s", rows, together=False)]


def outputs(settings: Settings) -> list[Subject]:
    """Outputs and updates on the device compared with those of float32 on the CPU, before speed is measured."""
    gpu = settings.device == "gpu"
    common = {
        "model": "ResNet50",
        "batch_size": settings.count(8),
        "size": settings.size(224),
        "device": "cuda" if gpu else "cpu",
    }
    exact, tf32, half = (("float32", EXACT), ("TF32", {}), ("bfloat16", {}))
    cases = [
        ("keras_resnet on JAX", "inference", exact),
        ("keras_resnet on JAX", "inference", tf32),
        ("keras_resnet on JAX", "inference", half),
        ("timm", "inference", exact),
        ("timm", "inference", tf32),
        ("timm", "inference", half),
        ("keras_resnet on JAX", "training", exact),
    ]
    rows = []
    for name, work, (dtype, environment) in cases:
        if dtype == "TF32" and not gpu:
            continue
        library = name.removesuffix(" on JAX")
        backend = ENVIRONMENTS["JAX", settings.device] if library != name else {}
        options = {"library": library, "dtype": DTYPES.get(dtype, "float32"), "work": work, **common}
        if dtype == "float32":
            options["limit"] = 1e-3
        what = "logits" if work == "inference" else "change of weights by a step"
        environment = {**backend, **(environment if gpu else {})}
        priority = 0 if library != name and dtype == "float32" else 2
        row = (f"{name} {dtype}: {what}", "outputs", options, environment)
        rows.append(Contender(*row, fresh=True, planned=60.0, priority=priority))
    title = f"Largest difference of ResNet50 from float32 on the CPU, batch {common['batch_size']}"
    return [Subject("outputs", title, "difference", rows, 1, together=False)]


WITHOUT_TENSORFLOW = {
    "keras_resnet on JAX": 0,
    "keras_resnet v1.5 on JAX": 2,
    "keras_resnet on PyTorch": 2,
    "keras_resnet on TensorFlow": 2,
    "keras.applications on JAX": 1,
    "timm": 0,
    "timm compiled": 0,
    "torchvision": 1,
    "torchvision compiled": 2,
}
"""Library of the tables of a GPU -> its priority, if time is limited; timm and torchvision have the network v1.5."""


def without_tensorflow(settings: Settings, work: str) -> list[Subject]:
    """Return tables of training or inference with Keras on JAX and PyTorch, for the smaller and larger batch."""
    dtypes = {"bfloat16": "bfloat16", "float32": "TF32" if settings.device == "gpu" else "float32"}
    return [
        Subject(
            f"gpu_{work}",
            f"{'Training step' if work == 'training' else 'Inference'} of ResNet50 without TensorFlow, "
            f"batch {settings.count(batch_size)}, {settings.size(224)} pixels, {name}",
            "images/s",
            [
                dataclasses.replace(contender, priority=priority)
                for library, priority in WITHOUT_TENSORFLOW.items()
                for contender in networks(settings, work, "ResNet50", batch_size, 224, dtype, [library])
            ],
            together=False,
        )
        for batch_size in ((256,) if settings.quick else (256, 64))
        for dtype, name in dtypes.items()
    ]


def gpu_training(settings: Settings) -> list[Subject]:
    """Training steps of the ImageNet network with Keras on JAX, timm and torchvision."""
    return without_tensorflow(settings, "training")


def gpu_inference(settings: Settings) -> list[Subject]:
    """Inference of the ImageNet network with Keras on JAX, timm and torchvision."""
    return without_tensorflow(settings, "inference")


def detection(settings: Settings) -> list[Subject]:
    """Faster R-CNN on conv4_x of ResNet-50, compared with the same network of torchvision's parts and with its FPN."""
    height, width = (64, 64) if settings.quick else (480, 640)
    size = {"height": height, "width": width}
    subjects = []
    for dtype, policy in DTYPES.items():
        ours = {"backbone": "resnet50", "dtype": policy, **size}
        theirs = {"dtype": policy, **size}
        for work in ("training", "inference"):
            fast = [("keras_resnet optimized", f"detector_{work}", {**ours, "optimized": True})]
            rows = [
                ("keras_resnet", f"detector_{work}", ours),
                *(fast if work == "inference" else ()),
                ("torchvision C4", f"torchvision_{work}", {**theirs, "network": "C4"}),
                ("torchvision FPN", f"torchvision_{work}", {**theirs, "network": "FPN"}),
            ]
            title = f"Faster R-CNN on ResNet-50, {work}, one image of {height}x{width} pixels, {dtype}"
            contenders = [Contender(f"{name} {dtype}", make, options) for name, make, options in rows]
            subjects.append(Subject("detection", title, "images/s", contenders))
    return subjects


def segmentation(settings: Settings) -> list[Subject]:
    """DeepLabv3 on ResNet-50 with output stride 8, compared with torchvision's."""
    subjects = []
    for dtype, policy in DTYPES.items():
        for work, batch_size, height, width in (("training", 4, 256, 256), ("inference", 1, 360, 480)):
            batch_size, height, width = settings.count(batch_size), settings.size(height), settings.size(width)
            options = {"head": "deeplabv3", "batch_size": batch_size, "height": height, "width": width, "dtype": policy}
            fast = [("keras_resnet optimized", f"segmenter_{work}", {**options, "optimized": True})]
            rows = [
                ("keras_resnet", f"segmenter_{work}", options),
                *(fast if work == "inference" else ()),
                ("torchvision", "torchvision_segmenter", {**options, "training": work == "training"}),
            ]
            title = f"DeepLabv3 on ResNet-50, {work}, batch {batch_size} of {height}x{width} pixels, {dtype}"
            contenders = [Contender(f"{name} {dtype}", make, options) for name, make, options in rows]
            subjects.append(Subject("segmentation", title, "images/s", contenders))
    return subjects


def guard(settings: Settings) -> list[Subject]:
    """A comparison of half a minute whose ratio must not fall to half of what it was; see `Subject`."""
    libraries = ("keras_resnet", "keras batch norm")
    return [
        Subject(
            "guard",
            "Training step of ResNet20, batch 32, 32 pixels, float32",
            "images/s",
            networks(settings, "training", "ResNet20", 32, 32, "float32", libraries),
            expected={"keras batch norm float32": 1.2},
        )
    ]


KINDS: dict[str, Callable[[Settings], list[Subject]]] = {
    "training": training,
    "inference": inference,
    "backends": backends,
    "whole_run": whole_run,
    "export": export,
    "detection": detection,
    "segmentation": segmentation,
    "start_up": start_up,
    "memory": memory,
    "guard": guard,
    "products": products,
    "outputs": outputs,
    "gpu_training": gpu_training,
    "gpu_inference": gpu_inference,
}
"""Name for `--only` -> function that returns its tables."""

ON_GPU = ("products", "outputs", "gpu_training", "gpu_inference")
"""Kinds that `--device=gpu` measures, without TensorFlow; `--device=cpu` measures them only if they are named."""
