"""The configuration of a run: one frozen dataclass, one preset for each experiment, to and from JSON."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os

from keras_resnet.errors import InputError, check_choice


def option(default, help: str):
    """A field with the sentence that `--help` shows."""
    return dataclasses.field(default=default, metadata={"help": help})


_JSON_TYPES = {
    bool: bool,
    int: int,
    float: (int, float),
    str: str,
    type(None): (str, type(None)),
    tuple: (list, tuple),
}
"""Type of a field's default -> types of its values in JSON."""


class Values:
    """To and from JSON, for frozen dataclasses of options."""

    def to_json(self) -> str:
        """Return the configuration as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_dict(cls, values: dict) -> Values:
        """Make a configuration from JSON's types; missing fields have their defaults, unknown ones are an error."""
        known = {field.name: field.default for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - set(known)):
            raise InputError(f"config has unknown fields {unknown}; allowed are {sorted(known)}.")
        for name, value in values.items():
            if not isinstance(value, _JSON_TYPES[type(known[name])]):
                raise InputError(f"{name} must be of the kind of {known[name]!r} in a config; got {value!r}.")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> Values:
        """Read a configuration from a JSON file such as `workdir/config.json`."""
        try:
            with open(path, encoding="utf-8") as file:
                values = json.load(file)
            return cls.from_dict(values.get("config", values))
        except (OSError, json.JSONDecodeError, AttributeError) as error:
            raise InputError(f"config file {os.fspath(path)!r} cannot be read: {error}.") from error


_RANGES = (
    (
        "batch_size steps eval_steps checkpoint_steps max_pixels accumulate steps_per_execution ema_steps patience "
        "rand_augment_ops",
        "at least 1",
        lambda value: value >= 1,
    ),
    (
        "warmup_steps warmup_rate learning_rate clip_norm weight_decay pad threads max_broken image_size "
        "train_size resize backbone_rate swa_start",
        "0 or more",
        lambda value: value >= 0,
    ),
    ("seed", "from 0 to 4294967295", lambda value: 0 <= value < 2**32),
    ("label_smoothing target_threshold ema drop_path_rate momentum", "in [0, 1)", lambda value: 0 <= value < 1),
    ("warmup_error", "from 0 to 100", lambda value: 0 <= value <= 100),
    ("freeze_stages", "from 0 to 5", lambda value: 0 <= value <= 5),
)
_CHOICES = {
    "schedule": ("piecewise", "cosine", "plateau"),
    "loss": ("cross_entropy", "binary_cross_entropy"),
    "average": ("all", "trained"),
    "crop": ("pad", "scale", "inception", "center"),
    "shortcut": ("", "A", "B", "C"),
    "precision": ("float32", "mixed_bfloat16", "mixed_float16"),
}


OPTIMIZERS = ("sgd", "sgdw", "adamw", "lamb", "novograd")
"""Optimizers by name; the last one, `lookahead_NAME` and `tfa:CLASS` are tensorflow-addons'."""


def check_optimizer(name: str) -> None:
    """Raise `InputError` unless `name` is that of an optimizer, whether or not it is installed."""
    if not name.startswith("tfa:") and name.removeprefix("lookahead_") not in OPTIMIZERS:
        allowed = ", ".join(map(repr, OPTIMIZERS))
        raise InputError(
            f"optimizer must be one of {allowed}, one of them after 'lookahead_', or 'tfa:CLASS'; got {name!r}."
        )


@dataclasses.dataclass(frozen=True)
class Config(Values):
    """Everything that decides the result of a run. Each field is a command-line flag of the same name."""

    dataset: str = option(
        "cifar10", "digits, folder:PATH, idx:PATH, synthetic:HxWxCLASSES or a tensorflow-datasets name."
    )
    data_dir: str | None = option(None, "Folder of prepared tensorflow-datasets; by default theirs.")
    download: bool = option(False, "Download and prepare the data set where it is missing.")
    train_split: str = option("train", "Split to train on, or a part of one: train[:45000].")
    eval_split: str = option("test", "Split to evaluate on during training: test, validation, train[45000:].")
    cache: str = option("", "Keep encoded images in memory ('memory') or in this file; empty for neither.")
    threads: int = option(0, "Threads of the input pipeline; 0 for TensorFlow's own.")
    deterministic: bool = option(True, "Keep the order of images, so that runs repeat exactly.")
    max_broken: float = option(0.001, "Share of training files that may fail to decode before the run stops.")
    max_pixels: int = option(50_000_000, "Images of more pixels are refused before they are decoded.")
    exif: bool = option(False, "Turn JPEGs as their EXIF orientation says.")
    image_size: int = option(0, "Side of the network's input; 0 for that of the data set, or 224.")
    train_size: int = option(0, "Side of the training crops where it is another; 0 for image_size.")
    resize: int = option(
        0,
        "Shorter side before the centre crop of evaluation; 0: 256/224 of image_size, or images of one size whole.",
    )
    pixel_mean: bool = option(False, "Subtract the mean of each pixel instead of each channel.")
    model: str = option("resnet20", "Network: resnet20, resnet50, plainnet20, ...")
    shortcut: str = option("", "Shortcuts A, B or C; empty for the network's own.")
    stride_in_1x1: bool = option(True, "Bottlenecks stride in the first 1x1, as in the paper; off is v1.5.")
    zero_init_residual: bool = option(False, "Start each residual function at zero (Goyal et al., 2017).")
    drop_path_rate: float = option(0.0, "How often the last block is skipped in training; those before it less.")
    init_weights: str = option("", "Weights to start from: a file, a name such as imagenet, or the folder of a run.")
    new_head: bool = option(True, "With init_weights, start the classifier afresh.")
    synchronized_norm: bool = option(False, "Batch norm over the images of all replicas of a batch together.")
    freeze_stages: int = option(
        0, "Keep this many parts fixed: 1 for conv1, 2 with conv2_x, ..., 5 for all but the head."
    )
    freeze_norm: bool = option(False, "Keep all of batch norm fixed, its statistics included.")
    backbone_rate: float = option(1.0, "Factor of the learning rate for everything but the head.")
    batch_size: int = option(128, "Images in a training step.")
    steps: int = option(64_000, "Training steps.")
    accumulate: int = option(1, "Parts that a batch is worked through in, their gradients averaged; saves memory.")
    loss: str = option("cross_entropy", "cross_entropy, or binary_cross_entropy for mixed images.")
    target_threshold: float = option(
        0.0, "Shares of mixed labels above it count whole, in binary_cross_entropy; 0: as is."
    )
    optimizer: str = option(
        "sgd", "sgd (the paper's), sgdw (decoupled decay), adamw or lamb; more with tensorflow-addons: docs/stacks.md."
    )
    schedule: str = option("piecewise", "piecewise (divided by 10 at decay_steps), cosine or plateau.")
    learning_rate: float = option(0.1, "Initial learning rate.")
    warmup_steps: int = option(0, "Steps at warmup_rate before learning_rate.")
    warmup_rate: float = option(0.01, "Learning rate of the warm-up; section 4.2 has 0.01 for 110 layers.")
    warmup_error: float = option(0.0, "Warm up until the training error in percent is below this; section 4.2: 80.")
    patience: int = option(5, "Evaluations without a lower error before schedule=plateau divides the rate by 10.")
    label_smoothing: float = option(0.0, "Share of each label that is spread over all classes.")
    decay_steps: tuple[int, ...] = option((32_000, 48_000), "Steps at which the learning rate is divided by 10.")
    momentum: float = option(0.9, "Momentum of SGD, first beta of AdamW and LAMB.")
    nesterov: bool = option(False, "Nesterov's momentum, for SGD.")
    weight_decay: float = option(1e-4, "Weight decay; for sgd in the gradient and under the momentum, as in the paper.")
    decay_norm: bool = option(True, "Decay batch norm's variables and biases too, as the original does.")
    clip_norm: float = option(0.0, "Largest norm of all gradients together; 0 for no limit.")
    ema: float = option(0.0, "Decay of a moving average of the weights, which is evaluated and kept; 0 for none.")
    ema_steps: int = option(1, "Steps between updates of the average.")
    swa_start: int = option(0, "Step from which all weights count alike in the average, in ema's place; 0 for none.")
    average: str = option("all", "What is averaged: all weights with batch norm's statistics, or those trained.")
    crop: str = option("pad", "Training view: pad (section 4.2), scale (section 3.4), inception or center.")
    pad: int = option(4, "Pixels of zero padding a side, for crop=pad.")
    scales: tuple[int, ...] = option((256, 480), "Range of the shorter side, for crop=scale.")
    color: float = option(0.0, "Standard deviation of AlexNet's colour noise, 0.1 in the paper.")
    rand_augment: float = option(0.0, "Magnitude of RandAugment, from 0 to 1.")
    rand_augment_ops: int = option(2, "Operations of RandAugment on each image.")
    erase: float = option(0.0, "Share of images of which a part is erased.")
    mixup: float = option(0.0, "Alpha of MixUp.")
    cutmix: float = option(0.0, "Alpha of CutMix.")
    antialias: bool = option(False, "Antialias training crops of files, slower.")
    mirror: bool = option(True, "Mirror half of the training images.")
    precision: str = option("float32", "Dtype policy: float32, mixed_bfloat16 or mixed_float16.")
    recompute: bool = option(False, "Compute each block twice and keep only its input: less memory, more time.")
    jit_compile: bool = option(False, "Compile the step with XLA; on CPUs it is slower, on TPUs it always is.")
    steps_per_execution: int = option(1, "Steps in one call of TensorFlow; more saves time where steps are short.")
    op_determinism: bool = option(False, "Use TensorFlow's deterministic kernels: runs repeat bit by bit, slower.")
    seed: int = option(0, "Seed of initialisation, shuffling and augmentation.")
    eval_steps: int = option(1_000, "Steps between evaluations on eval_split.")
    checkpoint_steps: int = option(500, "Steps between checkpoints; there is one at each evaluation too.")

    def __post_init__(self) -> None:
        for names, allowed, holds in _RANGES:
            for name in names.split():
                if not holds(getattr(self, name)):
                    raise InputError(f"{name} must be {allowed}; got {getattr(self, name)}.")
        for name, allowed in _CHOICES.items():
            check_choice(name, getattr(self, name), allowed)
        check_optimizer(self.optimizer)
        if list(self.decay_steps) != sorted(set(self.decay_steps)):
            raise InputError(f"decay_steps must increase; got {list(self.decay_steps)}.")
        if self.schedule == "piecewise" and self.decay_steps and self.warmup_steps >= self.decay_steps[0]:
            raise InputError(f"warmup_steps must be below the first of decay_steps; got {self.warmup_steps}.")
        if self.schedule == "cosine" and self.warmup_steps >= self.steps:
            raise InputError(f"warmup_steps must be below steps, {self.steps}; got {self.warmup_steps}.")
        if len(self.scales) != 2:
            raise InputError(f"scales must be two numbers, the smallest and the largest; got {list(self.scales)}.")
        if self.warmup_error and not self.learning_rate:
            raise InputError("learning_rate must be above 0 with warmup_error; got 0.")
        if self.warmup_error and (self.warmup_steps or self.schedule == "cosine"):
            raise InputError("warmup_error excludes warmup_steps and schedule=cosine; give one of them.")
        if self.ema and self.swa_start:
            raise InputError("ema excludes swa_start; give one of them.")
        if self.batch_size % self.accumulate:
            raise InputError(f"batch_size must be a multiple of accumulate, {self.accumulate}; got {self.batch_size}.")
        if self.steps_per_execution > 1:
            for name in ("steps", "eval_steps", "checkpoint_steps", "ema_steps", "swa_start"):
                unused = name == "ema_steps" and not (self.ema or self.swa_start)
                if not unused and getattr(self, name) * self.accumulate % self.steps_per_execution:
                    raise InputError(
                        f"{name} must be a multiple of steps_per_execution, {self.steps_per_execution}; "
                        f"got {getattr(self, name)}."
                    )


def _cifar10() -> dict[str, Config]:
    """Section 4.2: one recipe; 110 layers and more start at 0.01 until the training error is below 80 %."""
    names = [f"resnet{depth}" for depth in (20, 32, 44, 56)] + [f"plainnet{depth}" for depth in (20, 32, 44, 56)]
    presets = {f"cifar10_{name}": Config(model=name) for name in names}
    for name in ("resnet110", "resnet1202"):
        presets[f"cifar10_{name}"] = Config(model=name, warmup_error=80.0)
    return presets


_IMAGENET = Config(
    dataset="imagenet2012",
    eval_split="validation",
    batch_size=256,
    steps=600_000,
    decay_steps=(160_000, 320_000, 480_000),
    crop="scale",
    color=0.1,
    eval_steps=5_000,
    checkpoint_steps=1_000,
)


def _imagenet() -> dict[str, Config]:
    """Section 3.4: batch 256, 60e4 steps; the paper divides the rate when the error plateaus, here every 16e4 steps."""
    names = [f"resnet{depth}" for depth in (18, 34, 50, 101, 152)] + ["plainnet18", "plainnet34"]
    presets = {f"imagenet_{name}": dataclasses.replace(_IMAGENET, model=name) for name in names}
    for depth, option_name in itertools.product((18, 34), "AC"):
        name = f"imagenet_resnet{depth}_{option_name.lower()}"
        presets[name] = dataclasses.replace(_IMAGENET, model=f"resnet{depth}", shortcut=option_name)
    return presets


def _imagenet_today() -> dict[str, Config]:
    """Recipes of today for ResNet-50, as far as their parts are here; docs/training.md lists the differences."""
    today = dataclasses.replace(
        _IMAGENET,
        model="resnet50",
        stride_in_1x1=False,
        schedule="cosine",
        decay_steps=(),
        crop="inception",
        color=0.0,
        decay_norm=False,
        cutmix=1.0,
    )
    return {
        # Wightman, Touvron and Jegou, "ResNet strikes back" (2021), procedure A3, table 2: 100 epochs.
        "imagenet_resnet50_a3": dataclasses.replace(
            today,
            batch_size=2048,
            steps=62_500,
            train_size=160,
            resize=236,
            optimizer="lamb",
            learning_rate=8e-3,
            warmup_steps=3_125,
            warmup_rate=1e-4,
            weight_decay=0.02,
            loss="binary_cross_entropy",
            target_threshold=0.2,
            mixup=0.1,
            rand_augment=0.6,
        ),
        # Vryniotis, "How to train state-of-the-art models using TorchVision's latest primitives" (2021): 600 epochs.
        "imagenet_resnet50_torchvision_v2": dataclasses.replace(
            today,
            batch_size=1024,
            steps=750_600,
            train_size=176,
            resize=232,
            learning_rate=0.5,
            warmup_steps=6_255,
            warmup_rate=5e-3,
            weight_decay=2e-5,
            label_smoothing=0.1,
            mixup=0.2,
            erase=0.1,
            rand_augment=1.0,
            rand_augment_ops=1,
            ema=0.9989,
            ema_steps=32,
        ),
    }


PRESETS = {
    "digits_resnet20": Config(dataset="digits", steps=300, decay_steps=(200, 260), mirror=False, pad=3, eval_steps=50),
    **_cifar10(),
    "fashion_mnist_resnet20": Config(dataset="fashion_mnist"),
    **_imagenet(),
    **_imagenet_today(),
}
"""Name -> configuration, `dataset_model`."""
