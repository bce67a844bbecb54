"""The folder of a run: its configuration, what is known of its data set, and the paths of its files."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import Any, ClassVar, TypeVar

from keras_resnet import files
from keras_resnet.data.dataset import DatasetInfo
from keras_resnet.errors import InputError
from keras_resnet.experiment import names, tasks
from keras_resnet.experiment.backbone import BackboneConfig
from keras_resnet.experiment.config import BaseConfig, read_json

RunT = TypeVar("RunT", bound="Run")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's folder; each task derives its own class, which builds and loads the model.

    Attributes:
        path: the folder.
        config: how the model is trained; a folder of images has its absolute path here.
        dataset_info: the data set it is trained on: classes, splits, image size, mean and standard deviation.
    """

    TASK: ClassVar[str] = ""
    CONFIG: ClassVar[type[BaseConfig]] = BaseConfig
    INFO: ClassVar[type[DatasetInfo]] = DatasetInfo

    path: pathlib.Path
    config: Any
    dataset_info: DatasetInfo

    def __post_init__(self) -> None:
        name = files.absolute_dataset(self.config.dataset)
        if name != self.config.dataset:
            object.__setattr__(self, "config", dataclasses.replace(self.config, dataset=name))

    @property
    def weights(self) -> pathlib.Path:
        """The weights with the lowest error so far."""
        return self.path / "best.weights.h5"

    @property
    def checkpoints(self) -> pathlib.Path:
        """Folder of the checkpoints from which an interrupted run resumes."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> pathlib.Path:
        """A JSON Lines file with one record for each evaluation."""
        return self.path / "metrics.jsonl"

    @property
    def csv(self) -> pathlib.Path:
        """The same records as a table, if `log` has csv."""
        return self.path / "metrics.csv"

    @property
    def trackers(self) -> pathlib.Path:
        """A JSON file with the identifiers of this run at wandb and mlflow."""
        return self.path / "trackers.json"

    @property
    def early_stop(self) -> pathlib.Path:
        """A JSON file that says when and why the run ended before its last step; missing if it did not."""
        return self.path / "early_stop.json"

    @property
    def tensorboard(self) -> pathlib.Path:
        """Folder of TensorBoard event files."""
        return self.path / "tensorboard"

    @property
    def curves(self) -> pathlib.Path:
        """The plot of the learning curves."""
        return self.path / "curves.png"

    def create(self) -> None:
        """Make the folder and write `config.json`.

        Raises:
            ValueError: it cannot be written.
        """
        values = {
            "task": self.TASK,
            "config": dataclasses.asdict(self.config),
            "dataset": dataclasses.asdict(self.dataset_info),
        }
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            files.write(self.path / "config.json", json.dumps(values, indent=2) + "\n")
        except OSError as error:
            reason = error.strerror
            raise InputError(f"workdir must be a writable folder; {str(self.path)!r} is not: {reason}.") from error

    @classmethod
    def open(cls: type[RunT], path: str | os.PathLike, argument: str = "workdir") -> RunT:
        """Read the folder of an earlier run.

        Args:
            path: the folder.
            argument: name of the caller's argument, for error messages.

        Raises:
            ValueError: it has no readable `config.json`, or the run is another task's.
        """
        path = pathlib.Path(path)
        names.check_run(path, argument)
        content = read_json(path / "config.json")
        task = tasks.name_of(content)
        if task != cls.TASK:
            raise InputError(f"{argument} must be the folder of a {cls.TASK} run; {str(path)!r} holds a {task} run.")
        config = cls.CONFIG.from_dict(content.get("config", content))
        try:
            return cls(path, config, cls.INFO.from_dict(content["dataset"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f'{argument} must be the folder of a run; {str(path)!r} has a config.json without a valid "dataset".'
            ) from error


@dataclasses.dataclass(frozen=True)
class BackboneRun(Run):
    """A run whose images are normalized as the weights of its backbone require."""

    config: BackboneConfig

    @classmethod
    def new(
        cls: type[RunT],
        path: str | os.PathLike,
        config: BackboneConfig,
        info: DatasetInfo,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> RunT:
        """Return the run of a folder that is not created yet.

        Args:
            path: the folder.
            config: the configuration.
            info: the data set.
            mean: mean of each channel, if neither the configuration nor the data set has one.
            std: standard deviation of each channel, likewise.
        """
        if info.mean is None:
            info = dataclasses.replace(info, mean=mean, std=std)
        return cls(pathlib.Path(path), config, info)

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel, from the configuration or the weights that the run started from."""
        return self._statistic("mean")

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel, likewise."""
        return self._statistic("std")

    @property
    def starts_from_random_weights(self) -> bool:
        """Whether training would start from random weights: none are given, and there is no checkpoint to resume."""
        return not (self.config.backbone_weights or self.config.init_weights or self.checkpoints.exists())

    def _statistic(self, name: str) -> tuple[float, ...]:
        value = getattr(self.config, name) or getattr(self.dataset_info, name)
        if value is None:
            raise InputError(f"config of the run {str(self.path)!r} must have {name}; it has none.")
        return value
