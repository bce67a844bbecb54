"""The configuration of a run: one frozen dataclass, one preset for each experiment, to and from JSON."""

from __future__ import annotations

import dataclasses
import json
import os

from keras_resnet.errors import InputError, check_choice


def option(default, help: str):
    """A field with the sentence that `--help` shows."""
    return dataclasses.field(default=default, metadata={"help": help})


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that decides the result of a run. Each field is a command-line flag of the same name."""

    dataset: str = option("cifar10", "digits, or an image classification set of tensorflow-datasets such as cifar10.")
    data_dir: str | None = option(None, "Folder of prepared tensorflow-datasets; by default theirs.")
    download: bool = option(False, "Download and prepare the data set where it is missing.")
    model: str = option("resnet20", "Network: resnet20, resnet50, plainnet20, ...")
    batch_size: int = option(128, "Images in a training step.")
    steps: int = option(64_000, "Training steps.")
    learning_rate: float = option(0.1, "Initial learning rate.")
    decay_steps: tuple[int, ...] = option((32_000, 48_000), "Steps at which the learning rate is divided by 10.")
    momentum: float = option(0.9, "Momentum of SGD.")
    weight_decay: float = option(1e-4, "Coupled L2 decay, in the gradient and under the momentum.")
    pad: int = option(4, "Pixels of zero padding a side before the random crop; 0 for none.")
    mirror: bool = option(True, "Mirror half of the training images.")
    precision: str = option("float32", "Dtype policy: float32, mixed_bfloat16 or mixed_float16.")
    seed: int = option(0, "Seed of initialisation, shuffling and augmentation.")
    eval_steps: int = option(1_000, "Steps between evaluations on the test split.")

    def __post_init__(self) -> None:
        for name in ("batch_size", "steps", "eval_steps"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1; got {getattr(self, name)}.")
        for name in ("learning_rate", "momentum", "weight_decay", "pad", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must not be negative; got {getattr(self, name)}.")
        if list(self.decay_steps) != sorted(set(self.decay_steps)):
            raise InputError(f"decay_steps must increase; got {list(self.decay_steps)}.")
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


PRESETS = {
    "cifar10_resnet20": Config(),
    "digits_resnet20": Config(dataset="digits", steps=300, decay_steps=(200, 260), mirror=False, pad=3, eval_steps=50),
}
"""Name -> configuration, `dataset_model`."""
