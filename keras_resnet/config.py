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


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that decides the result of a run. Each field is a command-line flag of the same name."""

    dataset: str = option("cifar10", "digits, folder:PATH, synthetic:HxWxCLASSES or a name of tensorflow-datasets.")
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
    resize: int = option(0, "Shorter side before the centre crop of evaluation; 0 for 256/224 of image_size.")
    pixel_mean: bool = option(False, "Subtract the mean of each pixel instead of each channel.")
    model: str = option("resnet20", "Network: resnet20, resnet50, plainnet20, ...")
    shortcut: str = option("", "Shortcuts A, B or C; empty for the network's own.")
    batch_size: int = option(128, "Images in a training step.")
    steps: int = option(64_000, "Training steps.")
    optimizer: str = option("sgd", "sgd (the paper's), sgdw (decoupled decay), adamw or lamb.")
    schedule: str = option("piecewise", "piecewise (divided by 10 at decay_steps) or cosine.")
    learning_rate: float = option(0.1, "Initial learning rate.")
    warmup_steps: int = option(0, "Steps at warmup_rate before learning_rate.")
    warmup_rate: float = option(0.01, "Learning rate of the warm-up; section 4.2 has 0.01 for 110 layers.")
    label_smoothing: float = option(0.0, "Share of each label that is spread over all classes.")
    decay_steps: tuple[int, ...] = option((32_000, 48_000), "Steps at which the learning rate is divided by 10.")
    momentum: float = option(0.9, "Momentum of SGD, first beta of AdamW and LAMB.")
    nesterov: bool = option(False, "Nesterov's momentum, for SGD.")
    weight_decay: float = option(1e-4, "Weight decay; for sgd in the gradient and under the momentum, as in the paper.")
    decay_norm: bool = option(True, "Decay batch norm's variables and biases too, as the original does.")
    clip_norm: float = option(0.0, "Largest norm of all gradients together; 0 for no limit.")
    crop: str = option("pad", "Training view: pad (section 4.2), scale (section 3.4), inception or center.")
    pad: int = option(4, "Pixels of zero padding a side, for crop=pad.")
    scales: tuple[int, ...] = option((256, 480), "Range of the shorter side, for crop=scale.")
    color: float = option(0.0, "Standard deviation of AlexNet's colour noise, 0.1 in the paper.")
    rand_augment: float = option(0.0, "Magnitude of RandAugment, from 0 to 1.")
    erase: float = option(0.0, "Share of images of which a part is erased.")
    mixup: float = option(0.0, "Alpha of MixUp.")
    cutmix: float = option(0.0, "Alpha of CutMix.")
    antialias: bool = option(False, "Antialias training crops of files, slower.")
    mirror: bool = option(True, "Mirror half of the training images.")
    precision: str = option("float32", "Dtype policy: float32, mixed_bfloat16 or mixed_float16.")
    op_determinism: bool = option(False, "Use TensorFlow's deterministic kernels: runs repeat bit by bit, slower.")
    seed: int = option(0, "Seed of initialisation, shuffling and augmentation.")
    eval_steps: int = option(1_000, "Steps between evaluations on eval_split.")
    checkpoint_steps: int = option(500, "Steps between checkpoints; there is one at each evaluation too.")

    def __post_init__(self) -> None:
        for name in ("batch_size", "steps", "eval_steps", "checkpoint_steps", "max_pixels"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1; got {getattr(self, name)}.")
        for name in (
            "warmup_steps",
            "warmup_rate",
            "learning_rate",
            "momentum",
            "clip_norm",
            "weight_decay",
            "pad",
            "seed",
            "threads",
            "max_broken",
            "image_size",
            "resize",
        ):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must not be negative; got {getattr(self, name)}.")
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"label_smoothing must be in [0, 1); got {self.label_smoothing}.")
        if self.schedule == "piecewise" and self.decay_steps and self.warmup_steps >= self.decay_steps[0]:
            raise InputError(f"warmup_steps must be below the first of decay_steps; got {self.warmup_steps}.")
        if list(self.decay_steps) != sorted(set(self.decay_steps)):
            raise InputError(f"decay_steps must increase; got {list(self.decay_steps)}.")
        check_choice("optimizer", self.optimizer, ("sgd", "sgdw", "adamw", "lamb"))
        check_choice("schedule", self.schedule, ("piecewise", "cosine"))
        if self.schedule == "cosine" and self.warmup_steps >= self.steps:
            raise InputError(f"warmup_steps must be below steps, {self.steps}; got {self.warmup_steps}.")
        check_choice("crop", self.crop, ("pad", "scale", "inception", "center"))
        check_choice("shortcut", self.shortcut, ("", "A", "B", "C"))
        check_choice("precision", self.precision, ("float32", "mixed_bfloat16", "mixed_float16"))

    def to_json(self) -> str:
        """Return the configuration as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_dict(cls, values: dict) -> Config:
        """Make a configuration from JSON's types; missing fields have their defaults, unknown ones are an error."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InputError(f"config has unknown fields {unknown}; allowed are {sorted(known)}.")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> Config:
        """Read a configuration from a JSON file such as `workdir/config.json`."""
        try:
            with open(path, encoding="utf-8") as file:
                values = json.load(file)
            return cls.from_dict(values.get("config", values))
        except (OSError, json.JSONDecodeError, AttributeError) as error:
            raise InputError(f"config file {os.fspath(path)!r} cannot be read: {error}.") from error


def _cifar10() -> dict[str, Config]:
    """Section 4.2: all networks by one recipe; 110 layers and more warm up for about 400 steps."""
    names = [f"resnet{depth}" for depth in (20, 32, 44, 56, 110, 1202)] + [
        f"plainnet{depth}" for depth in (20, 32, 44, 56)
    ]
    deep = {"warmup_steps": 400}
    return {
        f"cifar10_{name}": Config(model=name, **(deep if name in ("resnet110", "resnet1202") else {})) for name in names
    }


def _imagenet() -> dict[str, Config]:
    """Section 3.4: batch 256, 60e4 steps; the paper divides the rate when the error plateaus, here every 16e4 steps."""
    recipe = Config(
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
    names = [f"resnet{depth}" for depth in (18, 34, 50, 101, 152)] + ["plainnet18", "plainnet34"]
    presets = {f"imagenet_{name}": dataclasses.replace(recipe, model=name) for name in names}
    for depth, option_name in itertools.product((18, 34), "AC"):
        name = f"imagenet_resnet{depth}_{option_name.lower()}"
        presets[name] = dataclasses.replace(recipe, model=f"resnet{depth}", shortcut=option_name)
    return presets


PRESETS = {
    "digits_resnet20": Config(dataset="digits", steps=300, decay_steps=(200, 260), mirror=False, pad=3, eval_steps=50),
    **_cifar10(),
    **_imagenet(),
}
"""Name -> configuration, `dataset_model`."""
