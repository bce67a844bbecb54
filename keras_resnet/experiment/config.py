"""Run configurations: frozen dataclasses whose fields carry their help, range and choices.

A task derives its configuration from `BaseConfig`. Each field becomes a command-line flag of the same name.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import numbers
import operator
import os
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from keras_resnet import files
from keras_resnet.errors import InputError, check_choice, did_you_mean
from keras_resnet.experiment import names, synonyms
from keras_resnet.models import arguments

GROUPS = ("data", "augmentation", "network", "optimization", "evaluation", "run", "hardware")
"""Topics of the fields, in the order in which `--help` shows them."""

OPTIMIZERS = ("sgd", "sgdw", "adamw", "lamb", "novograd")
"""Optimizers by name; the last one, `lookahead_NAME` and `tfa:CLASS` require tensorflow-addons."""

LOGS = ("tensorboard", "csv", "wandb", "mlflow")
"""Where evaluations can be logged; `training.trackers` writes them."""

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")

ConfigT = TypeVar("ConfigT", bound="Options")


def option(
    default: Any,
    help: str,
    group: str = "run",
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
    choices: Sequence[Any] = (),
    affects_result: bool = True,
    path: str = "",
) -> Any:
    """Define a field of a configuration.

    Args:
        default: the default value; its type is that of the field.
        help: the sentence that `--help` shows.
        group: the topic under which `--help` shows it, one of `GROUPS`.
        minimum: smallest allowed value.
        maximum: largest allowed value.
        below: exclusive upper bound, instead of `maximum`.
        choices: allowed values, for a tuple those of its items.
        affects_result: whether a run with another value is another run; False for fields such as the data folder.
        path: "file" if the value is a path, "name" if it can also be the name of something, "dataset" for names such
            as "folder:PATH". `~` and `$HOME` are expanded, and a run's folder has the absolute path.
    """
    metadata = {
        "help": help,
        "group": group,
        "minimum": minimum,
        "maximum": maximum,
        "below": below,
        "choices": tuple(choices),
        "affects_result": affects_result,
        "path": path,
    }
    return dataclasses.field(default=default, metadata=metadata)


def _range(metadata: Mapping[str, Any]) -> str:
    """The allowed range of a number in words."""
    minimum, maximum, below = metadata["minimum"], metadata["maximum"], metadata["below"]
    if maximum is not None:
        return f"from {minimum} to {maximum}"
    if below is not None:
        return f"in [{minimum}, {below})"
    return "0 or more" if minimum == 0 else f"at least {minimum}"


PLURALS = {bool: "true and false", int: "integers", float: "numbers", str: "strings"}
TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", tuple: "a list"}


@functools.cache
def _types(cls: Any) -> dict[str, tuple[type, type | None, bool]]:
    """Return the type of each field, that of its items for a tuple, and whether it may be None."""
    found = {}
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        options = typing.get_args(hints[field.name])
        optional = type(None) in options
        kind = options[0] if optional else hints[field.name]
        item = typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else None
        found[field.name] = (tuple if item else kind, item, optional)
    return found


def _converted(value: Any, kind: type) -> Any:
    """Return a value of Python, NumPy or `pathlib` as one of the type of a field.

    Raises:
        TypeError: it has another type.
    """
    if kind not in TYPE_NAMES:
        return value
    is_bool = type(value).__name__ in ("bool", "bool_")
    if is_bool != (kind is bool):
        raise TypeError
    if is_bool:
        return bool(value)
    if kind is int:
        return operator.index(value)
    if kind is float:
        if not isinstance(value, numbers.Real):
            raise TypeError
        return value if type(value) in (int, float) else float(value)
    if kind is str and not isinstance(value, str):
        path = os.fspath(value)
        if not isinstance(path, str):
            raise TypeError
        return path
    return value


def _typed(name: str, value: Any, kind: type, item: type | None, optional: bool) -> Any:
    """Return the value of a field in its own type.

    Raises:
        ValueError: it has another type.
    """
    if value is None and optional:
        return value
    try:
        if item is None:
            return _converted(value, kind)
        if isinstance(value, (str, bytes)):
            raise TypeError
        return tuple(_converted(each, item) for each in value)
    except TypeError:
        expected = TYPE_NAMES[kind] if item is None else f"{TYPE_NAMES[kind]} of {PLURALS[item]}"
        raise InputError(f"{name} must be {expected}{' or None' if optional else ''}; got {value!r}.") from None


def _as_meant(value: Any, field: dataclasses.Field) -> Any:
    """A flag's value, or each of its items, with paths expanded and choices in their own case."""
    if isinstance(value, (list, tuple)):
        return [_as_meant(item, field) for item in value]
    if not isinstance(value, str):
        return value
    if field.metadata.get("path"):
        try:
            return files.expand(value)
        except InputError as error:
            raise InputError(f"{field.name}: {error}") from None
    return next((choice for choice in field.metadata["choices"] if choice.lower() == value.lower()), value)


@dataclasses.dataclass(frozen=True)
class Options:
    """Base of dataclasses with fields made by `option`: validated values, read from and written to JSON."""

    RENAMED: ClassVar[Mapping[str, str | tuple[str, ...]]] = {}
    """Field in files of version 0.1 -> its name now; a tuple spreads a list over several fields."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        arguments.check_names(cls.__name__, kwargs, cls.field_names(), synonyms.advice)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        cls: Any = type(self)
        types = _types(cls)
        for field in dataclasses.fields(self):
            value = _typed(field.name, getattr(self, field.name), *types[field.name])
            object.__setattr__(self, field.name, value)
            metadata = field.metadata
            if metadata.get("choices") and value is not None:
                for item in value if isinstance(value, tuple) else (value,):
                    check_choice(field.name, item, metadata["choices"])
            low, high, below = (metadata.get(key) for key in ("minimum", "maximum", "below"))
            if value is None or (low is None and high is None and below is None):
                continue
            if (
                not (low is None or value >= low)
                or (high is not None and value > high)
                or (below is not None and value >= below)
            ):
                raise InputError(f"{field.name} must be {_range(metadata)}; got {value}.")

    def to_json(self) -> str:
        """Return the configuration as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        """Return the names of the fields."""
        return tuple(field.name for field in dataclasses.fields(cls))

    def override(self: ConfigT, given: Mapping[str, Any]) -> ConfigT:
        """Return a copy with the fields that have a value other than None in `given`; other names are ignored.

        Args:
            given: values by name, such as parsed flags; lists may hold their items as text.

        Raises:
            ValueError: a value that is not allowed.
        """
        changed = {}
        types = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = given.get(field.name)
            if value is None:
                continue
            value = _as_meant(value, field)
            if typing.get_origin(types[field.name]) is tuple:
                kind = typing.get_args(types[field.name])[0]
                try:
                    value = tuple(kind(item) for item in value if item != "")
                except ValueError:
                    what = "integers" if kind is int else "numbers"
                    raise InputError(
                        f"{field.name} must be a list of {what} such as 224,256; got {','.join(map(str, value))!r}."
                    ) from None
            changed[field.name] = value
        return dataclasses.replace(self, **changed)

    @classmethod
    def upgraded(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a configuration file with the field names of version 0.1 replaced by today's."""
        upgraded: dict[str, Any] = {}
        for name, value in values.items():
            new = cls.RENAMED.get(name, name)
            if isinstance(new, tuple):
                upgraded.update(zip(new, value, strict=True))
            else:
                upgraded[new] = value
        return upgraded

    @classmethod
    def from_dict(cls: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
        """Build a configuration from JSON values; missing fields get their defaults.

        Raises:
            ValueError: an unknown field, or a value of another type or outside its range.
        """
        defaults = {field.name: field.default for field in dataclasses.fields(cls)}
        values = cls.upgraded(values)
        if unknown := sorted(set(values) - set(defaults)):
            raise InputError(
                f"config has unknown fields {unknown}{did_you_mean(unknown[0], defaults)}; "
                f"allowed are {sorted(defaults)}."
            )
        return cls(**values)

    @classmethod
    def from_file(cls: type[ConfigT], path: str | os.PathLike) -> ConfigT:
        """Read a configuration from a JSON file such as a run's `config.json`.

        Raises:
            ValueError: the file cannot be read, or as for `from_dict`.
        """
        content = read_json(path)
        return cls.from_dict(content.get("config", content))


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """Read a configuration file as a dictionary.

    Raises:
        ValueError: the file cannot be read or holds no JSON object.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"config file {os.fspath(path)!r} cannot be read: {reason}.") from error
    if not isinstance(content, dict) or not isinstance(content.get("config", content), dict):
        raise InputError(f"config file {os.fspath(path)!r} cannot be read: it holds no JSON object of fields.")
    return content


def resolved(config: ConfigT | str, kind: type[ConfigT], presets: Mapping[str, ConfigT]) -> ConfigT:
    """Return a configuration, or the preset of this name.

    Args:
        config: the configuration or the name.
        kind: class of the task's configurations.
        presets: name -> configuration.

    Raises:
        ValueError: there is no such preset, or `config` is neither.
    """
    if isinstance(config, str):
        check_choice("config", config, presets)
        return presets[config]
    if not isinstance(config, kind):
        hint = f"; {kind.__name__}.from_dict reads a dictionary" if isinstance(config, Mapping) else ""
        raise InputError(f"config must be a {kind.__name__} or the name of a preset; got {config!r}{hint}.")
    return config


def check_increasing(name: str, values: Iterable[int]) -> None:
    """Raise `InputError` unless `values` strictly increase."""
    values = list(values)
    if values != sorted(set(values)):
        raise InputError(f"{name} must increase; got {values}.")


def check_optimizer(name: str) -> None:
    """Raise `InputError` unless `name` is an optimizer's, whether or not it is installed."""
    if not name.startswith("tfa:") and name.removeprefix("lookahead_") not in OPTIMIZERS:
        allowed = ", ".join(map(repr, OPTIMIZERS))
        raise InputError(
            f"optimizer must be one of {allowed}, one of them after 'lookahead_', or 'tfa:CLASS'; got {name!r}"
            f"{did_you_mean(name, OPTIMIZERS)}."
        )


@dataclasses.dataclass(frozen=True)
class BaseConfig(Options):
    """The fields that the runs of all tasks share; a task adds its own and may change defaults."""

    dataset: str = option("", "Name of the data set.", "data", path="dataset")
    data_dir: str | None = option(
        None,
        "Folder of prepared tensorflow-datasets. [~/tensorflow_datasets]",
        "data",
        affects_result=False,
        path="file",
    )
    download: bool = option(False, "Download and prepare the data set if it is missing.", "data", affects_result=False)
    train_split: str = option("train", "Split to train on, or a part of one: train[:45000].", "data")
    eval_split: str = option("test", "Split to evaluate on during training: test, validation, train[45000:].", "data")
    mirror: bool = option(True, "Mirror half of the training images left to right.", "augmentation")
    batch_size: int = option(128, "Images in a training step.", "optimization", minimum=1)
    steps: int = option(64_000, "Training steps.", "optimization", minimum=1)
    optimizer: str = option(
        "sgd",
        "sgd (the paper's), sgdw (decoupled weight decay), adamw or lamb; tensorflow-addons adds more: docs/stacks.md.",
        "optimization",
    )
    schedule: str = option(
        "piecewise",
        "Learning rate schedule: piecewise (divided by 10 at decay_steps), cosine or poly (DeepLab's, power 0.9).",
        "optimization",
        choices=("piecewise", "cosine", "poly"),
    )
    learning_rate: float = option(0.1, "Initial learning rate.", "optimization", minimum=0)
    warmup_steps: int = option(0, "Steps at warmup_rate before learning_rate.", "optimization", minimum=0)
    warmup_rate: float = option(0.01, "Learning rate during warm-up.", "optimization", minimum=0)
    decay_steps: tuple[int, ...] = option(
        (32_000, 48_000), "Steps at which the learning rate is divided by 10.", "optimization"
    )
    momentum: float = option(0.9, "Momentum of SGD; first beta of AdamW and LAMB.", "optimization", minimum=0, below=1)
    nesterov: bool = option(False, "Use Nesterov momentum, for SGD.", "optimization")
    weight_decay: float = option(
        1e-4, "Weight decay; for sgd an L2 term in the gradient, as in the paper.", "optimization", minimum=0
    )
    decay_norm: bool = option(True, "Apply weight decay to batch norm variables and biases too.", "optimization")
    clip_norm: float = option(
        0.0, "Clip gradients to this global norm; 0 disables clipping.", "optimization", minimum=0
    )
    precision: str = option(
        "float32",
        "Dtype policy of the convolutions: float32, mixed_bfloat16 or mixed_float16.",
        "hardware",
        choices=PRECISIONS,
    )
    seed: int = option(0, "Seed of initialization, shuffling and augmentation.", "run", minimum=0, maximum=2**32 - 1)
    eval_steps: int = option(1_000, "Steps between evaluations on eval_split.", "run", minimum=1)
    checkpoint_steps: int = option(500, "Steps between checkpoints; each evaluation saves one too.", "run", minimum=1)
    early_stopping: int = option(
        0, "End the run after this many evaluations in a row without a lower error; 0 for never.", "run", minimum=0
    )
    log: tuple[str, ...] = option(
        ("tensorboard",),
        "Where each evaluation is logged besides metrics.jsonl: tensorboard, csv, wandb, mlflow; empty for nowhere.",
        "run",
        choices=LOGS,
        affects_result=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in dataclasses.fields(self):
            value, path = getattr(self, field.name), field.metadata.get("path")
            if value and (path == "file" or (path == "name" and files.is_path(value))):
                object.__setattr__(self, field.name, os.path.abspath(files.expand(value)))
        check_optimizer(self.optimizer)
        check_increasing("decay_steps", self.decay_steps)
        if self.schedule == "piecewise" and self.decay_steps and self.warmup_steps >= self.decay_steps[0]:
            raise InputError(
                f"warmup_steps must be below the first of decay_steps, {self.decay_steps[0]}; got {self.warmup_steps}."
            )
        if self.schedule in ("cosine", "poly") and self.warmup_steps >= self.steps:
            raise InputError(f"warmup_steps must be below steps, {self.steps}; got {self.warmup_steps}.")

    def check_names(self) -> None:
        """Check the names of data sets, networks and weights, as far as that is possible without TensorFlow.

        Raises:
            ValueError: one of them does not exist.
        """
        names.check_dataset(self.dataset, self.data_dir)
        names.check_log(self.log)

    def check_weights(self, *fields: str) -> None:
        """Check the fields that name weights; those that are empty pass.

        Raises:
            ValueError: there are no such weights.
        """
        for field in fields:
            if name := getattr(self, field):
                names.check_weights(name, field)


def check_normalization(mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise `InputError` unless mean and standard deviation have three channels each, or both are empty."""
    if len(mean) not in (0, 3) or len(std) != len(mean) or min(std, default=1) <= 0:
        raise InputError(
            "mean and std must be given together, three numbers each, with a positive std; "
            f"got {list(mean)} and {list(std)}."
        )
