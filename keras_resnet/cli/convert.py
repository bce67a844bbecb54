"""`keras-resnet convert`."""

from __future__ import annotations

import dataclasses
import os
import shlex

from keras_resnet import files
from keras_resnet.errors import InputError
from keras_resnet.experiment import names, tasks
from keras_resnet.experiment.config import option
from keras_resnet.experiment.tasks import Invocation, Verb
from keras_resnet.models.architectures import find


@dataclasses.dataclass(frozen=True)
class Convert(Verb):
    """Convert a weights file, or a run's weights, to .weights.h5 or to .safetensors with torchvision's names."""

    FILES = "IN OUT"

    model: str | None = option(None, "Network, for a file that does not name it.", "network")
    stride_in_1x1: bool | None = option(
        None,
        "Bottlenecks have their stride in the first 1x1 (v1), not in the 3x3 (v1.5); for files that do not say it.",
        "network",
    )
    weights_key: str | None = option(
        None,
        "Which of several networks to convert: part of the names of its tensors, such as state_dict_ema.",
        "network",
    )

    def run(self, invocation: Invocation) -> None:
        """Convert."""
        if len(invocation.files) != 2:
            raise InputError(f"convert requires two arguments, IN and OUT; got {len(invocation.files)}.")
        source, out = invocation.files
        info = None
        names.check_weights(source, "IN")
        files.check_new(out, "file", "OUT")
        if self.model:
            find(self.model)

        from keras_resnet.classification import pretrained  # imports Keras
        from keras_resnet.classification.run import ClassifierRun
        from keras_resnet.models.weights import convert
        from keras_resnet.models.weights.spec import ArchitectureSpec

        if os.path.isdir(source):
            run = ClassifierRun.open(source, "IN")
            source, info = str(run.weights), pretrained.run_info(run)
        model = convert.convert(
            source, out, self.model, stride_in_1x1=self.stride_in_1x1, weights_key=self.weights_key, info=info
        )
        print(f"wrote {out}: {model.name}, {model.count_params():,} numbers")
        mode = []
        try:
            convert.info(out, self.model, stride_in_1x1=self.stride_in_1x1)
        except InputError:  # the file does not say how images are preprocessed
            mode = ["--preprocessing=caffe|torch|tf"]
        print(
            tasks.next_commands(" ".join(["keras-resnet predict", shlex.quote(f"--weights={out}"), *mode, "PHOTO..."]))
        )
        spec = ArchitectureSpec.of_model(model)
        if out.endswith(".safetensors") and spec and spec.block == "bottleneck" and spec.stride_in_1x1:
            print("note: its bottlenecks have their stride in the first 1x1; torchvision's networks in the 3x3")
