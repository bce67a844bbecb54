"""`keras-resnet responses`."""

from __future__ import annotations

import dataclasses

from keras_resnet import files
from keras_resnet.classification.task import SourcesFlags
from keras_resnet.cli.out import plot_path
from keras_resnet.errors import InputError
from keras_resnet.experiment import names
from keras_resnet.experiment.config import option
from keras_resnet.experiment.tasks import Invocation


@dataclasses.dataclass(frozen=True)
class Responses(SourcesFlags):
    """Plot the standard deviations of the layer responses of networks (Figure 7), and write them as CSV."""

    dataset: str | None = option(None, "Data set; by default that of the first run.", "data", path="dataset")
    data_dir: str | None = option(None, "Folder of prepared tensorflow-datasets.", "data", path="file")
    split: str | None = option(None, "Split to show; by default that of evaluation.", "data")
    batch_size: int = option(256, "Images in a batch.", "hardware", minimum=1)
    out: str = option("responses.png", "Plot to write; the CSV has the same name.", path="file")

    def run(self, invocation: Invocation) -> None:
        """Measure and plot."""
        path = plot_path(self.out)
        files.check_new(path.with_suffix(".csv"), "file")
        if not (self.workdir or self.weights):
            raise InputError("workdir or weights must be given: --workdir=...")
        self.check_names()
        if self.dataset:
            names.check_dataset(self.dataset, self.data_dir)

        from keras_resnet.paper import responses  # imports TensorFlow

        measured = responses.of_networks(self.open(), self.dataset, self.data_dir, self.split, self.batch_size)
        files.make_parent(path)
        responses.plot(measured, path)
        responses.write_csv(measured, path.with_suffix(".csv"))
        for network in measured:
            deviation = network.deviations.mean()
            print(f"{network.name}: {len(network.layers)} 3x3 layers, mean standard deviation {deviation:.3f}")
        print(f"wrote {path} and {path.with_suffix('.csv')}")
