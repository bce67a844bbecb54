"""`keras-resnet publish`."""

from __future__ import annotations

import dataclasses
import os
import tempfile

from keras_resnet import files
from keras_resnet.errors import InputError
from keras_resnet.experiment import names
from keras_resnet.experiment.config import option
from keras_resnet.experiment.tasks import Invocation, Verb


@dataclasses.dataclass(frozen=True)
class Publish(Verb):
    """Publish a run's weights, with a card of their origin and error, in a folder or on the Hugging Face Hub."""

    FILES = "RUN FOLDER|hf://USER/NAME"

    name: str | None = option(None, "Name of the weights, such as cifar10.", "network")
    last: bool = option(False, "The newest checkpoint's weights, not the best evaluated ones.", "network")
    dataset: str | None = option(
        None, "Data set to measure the error on; by default the run's.", "data", path="dataset"
    )
    data_dir: str | None = option(
        None, "Folder of prepared tensorflow-datasets; by default the run's.", "data", path="file"
    )
    split: str | None = option(None, "Split to measure the error on; by default the run's eval_split.", "data")
    commit: str = option("", "Version of the sources that trained the run, for the card.")
    device: str = option("", "Hardware that trained the run, for the card.")
    license: str = option("Apache-2.0", "License of the weights, for the card.")
    private: bool = option(False, "Create a private repository on the Hugging Face Hub.")

    def run(self, invocation: Invocation) -> None:
        """Publish."""
        if len(invocation.files) != 2:
            raise InputError(f"publish requires two arguments, {self.FILES}; got {len(invocation.files)}.")
        workdir, target = invocation.files
        names.check_run(workdir, "RUN")
        if not files.is_address(target):
            files.check_new(target, "folder", "FOLDER")
        if self.dataset:
            names.check_dataset(self.dataset, self.data_dir)

        from keras_resnet.models.weights import hub

        if target.startswith("hf:"):
            hub.parse(target, "the repository")  # reports a wrong address before the network is evaluated
        if not hub.is_address(target):
            print(f"{self._write(workdir, target)}, wrote {target}")
            return
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "published")
            summary = self._write(workdir, out, target)
            print(f"{summary}, uploaded to {hub.upload(out, target, private=self.private)}")

    def _write(self, workdir: str, out: str, address: str | None = None) -> str:
        """Write the folder; return a summary."""
        from keras_resnet.classification import release  # imports TensorFlow

        info = release.write(
            workdir,
            out,
            name=self.name,
            last=self.last,
            dataset=self.dataset,
            data_dir=self.data_dir,
            split=self.split,
            commit=self.commit,
            device=self.device,
            licence=self.license,
            address=address,
        )
        return f"{info.model}: {info.top1_error:.2f} % top-1 error on {info.dataset} {info.split}"
