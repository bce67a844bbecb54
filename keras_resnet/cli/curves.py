"""`keras-resnet curves`."""

from __future__ import annotations

import dataclasses

from keras_resnet import files
from keras_resnet.cli.out import plot_path
from keras_resnet.errors import InputError
from keras_resnet.experiment import names
from keras_resnet.experiment.config import option
from keras_resnet.experiment.tasks import Invocation, Verb


@dataclasses.dataclass(frozen=True)
class Curves(Verb):
    """Plot the training and test errors of runs (Figures 1, 4 and 6)."""

    workdir: tuple[str, ...] = option(
        (), "Folders of one or several runs, separated by commas.", "network", path="file"
    )
    highest: float | None = option(None, "Upper end of the error axis in percent.")
    out: str = option("curves.png", "Plot to write.", path="file")

    def run(self, invocation: Invocation) -> None:
        """Plot."""
        path = plot_path(self.out)
        if not self.workdir:
            raise InputError("workdir must be given: --workdir=...")
        for workdir in self.workdir:
            names.check_run(workdir)

        from keras_resnet.classification.run import ClassifierRun, unique_names  # imports Keras
        from keras_resnet.experiment import curves

        runs = [ClassifierRun.open(workdir) for workdir in self.workdir]
        records = {}
        for name, run in zip(unique_names(runs), runs, strict=True):
            if not run.metrics.is_file():
                raise InputError(f"workdir {str(run.path)!r} has no metrics.jsonl: it was not evaluated in training.")
            if run.early_stop.exists():
                name += ", stopped early"
            records[name] = curves.read_metrics(run.metrics)
        files.make_parent(path)
        curves.plot(records, path, highest=self.highest)
        print(f"wrote {path}")
