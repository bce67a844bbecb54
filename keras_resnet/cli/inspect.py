"""`keras-resnet inspect`, for every task."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import shlex
from collections.abc import Iterable

from keras_resnet import files
from keras_resnet.cli.out import plot_path
from keras_resnet.errors import InputError
from keras_resnet.experiment import names, tasks
from keras_resnet.experiment.config import option
from keras_resnet.experiment.tasks import Invocation, Task, Verb

ANNOTATED = 2
"""How sure a task is of a folder with its annotations; class folders are any folders with images."""


@dataclasses.dataclass(frozen=True)
class Inspect(Verb):
    """Print what is understood of a folder of data and what is wrong with it, and draw some of its images."""

    data: str | None = option(None, "Folder of the data set.", "data", path="file")
    task: str | None = option(None, "The task; by default that of the layout.", "data")
    exif: bool = option(False, "Rotate JPEGs by their EXIF orientation.", "data")
    seed: int = option(0, "Seed of the splits that are made of data without any, as in training.", "data", minimum=0)
    pictures: int = option(12, "Number of images to draw.", minimum=1)
    out: str = option("contact_sheet.png", "Picture to write.", path="file")

    def run(self, invocation: Invocation) -> None:
        """Inspect."""
        root = tasks.required(self.data, "data")
        if (kind := files.path_kind(root)[0]) and kind != "folder":
            raise InputError(
                f"data must be a folder of images; got {root!r}, a data set whose splits and classes are printed by "
                f"keras-resnet train --dataset={root}."
            )
        names.check_dataset(f"folder:{root}", argument="data")
        out = plot_path(self.out)
        if self.task:
            tasks.get(self.task)
        root = os.path.abspath(root)

        from keras_resnet.evaluation import inspection  # imports TensorFlow

        sure = _recognized(root, [tasks.get(self.task)] if self.task else tasks.all_tasks().values())
        if not sure:
            raise InputError(
                "data must be a folder of images with boxes, with masks or in class folders; the layout of "
                f"{root!r} is none that is known: see docs/data.md{_shards(root)}."
            )
        task, *others = (tasks.get(name) for name in sure)
        result = importlib.import_module(task.inspection).inspect(root, self.pictures, self.seed, self.exif)
        flags = [f"--task={other.name}" for other in others if sure[other.name] >= ANNOTATED]
        print(f"{root}\ntask: {task.name}" + (f" (also readable with {' or '.join(flags)})" if flags else ""))
        print(result.text())
        if result.pictures:
            files.make_parent(out)
            inspection.contact_sheet(result.pictures, out)
            print(f"wrote {out}")
        command = f"keras-resnet train --task={task.name} --data={shlex.quote(root)} --weights=imagenet"
        print(tasks.next_commands(f"{command} --workdir=runs/{shlex.quote(os.path.basename(root))}"))


def _recognized(root: str, candidates: Iterable[Task]) -> dict[str, int]:
    """Name of each task whose data a folder may hold, the most likely first -> how surely."""
    sure = {
        task.name: importlib.import_module(task.inspection).recognizes(root) for task in candidates if task.inspection
    }
    return dict(sorted(((name, value) for name, value in sure.items() if value), key=lambda item: -item[1]))


def _shards(root: str) -> str:
    """How to name the shards in a folder, to end a message; "" if it has none."""
    endings = {r"\.tar|\.tgz|\.tar\.gz": "tar", r"\.parquet": "parquet", r"\.tfrecords?|-of-\d+": "tfrecord"}
    for name in sorted(os.listdir(root)):
        for ending, kind in endings.items():
            if re.search(rf"({ending})$", name):
                return f"; its shards, such as {name}, train with --dataset={kind}:{root}"
    return ""
