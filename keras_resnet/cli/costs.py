"""`keras-resnet costs`."""

from __future__ import annotations

import dataclasses

from keras_resnet.experiment.config import option
from keras_resnet.experiment.tasks import Invocation, Verb


@dataclasses.dataclass(frozen=True)
class Costs(Verb):
    """Print layers, parameters and multiply-adds of networks, all or those named (Tables 1 and 6)."""

    FILES = "[NETWORK...]"

    stages: bool = option(False, "Print a row for each stage, as in Table 1.", "network")
    input_size: int | None = option(None, "Side of the input.", "network", minimum=1)
    classes: int | None = option(None, "Number of classes.", "network", minimum=1)
    shortcut: str | None = option(None, "Shortcut option A, B or C.", "network", choices=("A", "B", "C"))
    stride_in_1x1: bool = option(True, "Stride in the first 1x1; off for v1.5.", "network")

    def run(self, invocation: Invocation) -> None:
        """Print the table."""
        from keras_resnet.models import costs

        options = {name: getattr(self, name) for name in ("input_size", "classes", "stride_in_1x1")}
        if self.shortcut is not None:
            options["shortcut"] = self.shortcut
        table = costs.stage_table if self.stages else costs.size_table
        print(table(costs.networks(invocation.files), **options))
