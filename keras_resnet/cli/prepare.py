"""`keras-resnet prepare`."""

from __future__ import annotations

import dataclasses
import os

from keras_resnet.errors import counted
from keras_resnet.experiment import names, tasks
from keras_resnet.experiment.config import option
from keras_resnet.experiment.tasks import Invocation, Verb


@dataclasses.dataclass(frozen=True)
class Prepare(Verb):
    """Copy a data set for classification into a few large ArrayRecord files, which train from any disk.

    Repeat the command to resume an interrupted copy.
    """

    dataset: str | None = option(None, "Data set to copy, such as folder:PATH.", "data", path="dataset")
    data_dir: str | None = option(None, "Folder of prepared tensorflow-datasets.", "data", path="file")
    download: bool = option(False, "Download a data set of tensorflow-datasets if it is missing.", "data")
    out: str | None = option(None, "Folder for the files.", path="file")
    shard_megabytes: int = option(256, "Approximate size of a file in 10^6 bytes.", minimum=1)
    jobs: int = option(0, "Files that are written at a time; 0 for one per processor.", "hardware", minimum=0)

    def run(self, invocation: Invocation) -> None:
        """Copy the data set."""
        dataset, out = tasks.required(self.dataset, "dataset"), tasks.required(self.out, "out")
        names.check_dataset(dataset, self.data_dir)

        from keras_resnet.data import prepare  # imports TensorFlow

        made = prepare.prepare(
            dataset,
            out,
            data_dir=self.data_dir,
            download=self.download,
            shard_megabytes=self.shard_megabytes,
            jobs=self.jobs,
        )
        splits = ", ".join(f"{split} {counted(count, 'image')}" for split, count in made.splits.items())
        print(f"{splits} in {counted(made.shards, 'file')} of {made.size / 1e6:,.1f} MB together")
        if made.broken:
            print(f"left out {counted(len(made.broken), 'image')} that cannot be decoded: {made.path / 'broken.txt'}")
        print(f"wrote {made.path}; train on it with --dataset=tfds:{os.path.relpath(made.path)}")
