"""Turn a finished run into files for others: its weights, a card with their origin and measured error, and a README.

    release.write("runs/r20", "published/resnet20", name="cifar10")

The folder holds `model.safetensors`, `config.json`, `README.md` and `curves.png`. The weights that are part of this
package are such folders in `keras_resnet/models/weights/zoo`.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import pathlib
import re

import keras

from keras_resnet import files
from keras_resnet.classification import evaluate, pretrained
from keras_resnet.classification.config import PRESETS, ClassifierConfig
from keras_resnet.classification.eval_config import EvalConfig
from keras_resnet.classification.pretrained import Pretrained
from keras_resnet.classification.run import ClassifierRun
from keras_resnet.errors import InputError
from keras_resnet.evaluation import report
from keras_resnet.experiment import curves
from keras_resnet.models import weights
from keras_resnet.models.architectures import EXPANSION, find
from keras_resnet.models.weights.info import CARD, WEIGHTS, ModelInfo
from keras_resnet.training import checkpoints

NAME = re.compile(r"[a-z][a-z0-9_]*")
"""Names of weights."""

MANY_CLASSES = 100
"""Number of classes from which a card states the top-5 error."""


def write(
    workdir: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    name: str | None = None,
    last: bool = False,
    dataset: str | None = None,
    data_dir: str | None = None,
    split: str | None = None,
    commit: str = "",
    device: str = "",
    licence: str = "Apache-2.0",
    address: str | None = None,
) -> ModelInfo:
    """Write a run's weights, as float32, with a card and a README to a new folder.

    The errors of the card are those of the written file, measured as `keras-resnet evaluate --weights` does.

    Args:
        workdir: folder of the run.
        out: folder to create; it appears when it is complete.
        name: name of the weights; by default the name of the data set.
        last: write the weights of the newest checkpoint rather than the best ones, which were selected on the images
            that the error is measured on.
        dataset: data set to measure the error on; by default that of the run.
        data_dir: folder of prepared tensorflow-datasets; by default that of the run.
        split: split to measure the error on; by default that of the run's evaluations.
        commit: version of this package's sources that trained the run.
        device: hardware that trained the run.
        licence: license of the weights.
        address: address of the repository to which the folder will be uploaded, for the README.

    Returns:
        The card.

    Raises:
        ValueError: the run is not finished or its preprocessing not portable, an argument is invalid, or `out` exists.
    """
    run = ClassifierRun.open(workdir)
    if name is None and not NAME.fullmatch(run.dataset_info.name):
        raise InputError(
            f"name must be given for weights that were trained on {run.dataset_info.name!r}, such as photos."
        )
    name = run.dataset_info.name if name is None else name
    if not NAME.fullmatch(name):
        raise InputError(f"name must consist of lower-case letters, digits and _; got {name!r}.")
    files.check_new(out)
    origin, model = _trained(run, last)
    stride_in_1x1 = run.config.stride_in_1x1 if EXPANSION[find(run.config.model).block] > 1 else None
    info = dataclasses.replace(
        pretrained.run_info(run),
        weights=name,
        stride_in_1x1=stride_in_1x1,
        source="keras_resnet",
        licence=licence,
        dataset=files.without_folders(run.config.dataset),
        split=split or run.config.eval_split,
        command=command_of(run.config),
        commit=commit,
        seed=run.config.seed,
        steps=run.config.steps,
        device=device,
        date=datetime.datetime.fromtimestamp(origin.stat().st_mtime, datetime.timezone.utc).date().isoformat(),
    )
    with files.new_folder(out) as folder:
        path = folder / WEIGHTS
        weights.save_safetensors(model, path, info)
        files.manifest_path(path).unlink()  # the card has the digest
        measured = evaluate.evaluate(
            [Pretrained(path, info)],
            EvalConfig(),
            dataset=dataset or run.config.dataset,
            data_dir=data_dir or run.config.data_dir,
            split=info.split,
        )
        result = measured.rows[0].result
        top5_error = result.top5_error if len(info.class_names) >= MANY_CLASSES else None
        info = dataclasses.replace(
            info,
            top1_error=round(result.top1_error, 4),
            top5_error=None if top5_error is None else round(top5_error, 4),
            url=WEIGHTS,
            digest=f"sha256:{files.digest(path)}",
            verified=True,
        )
        files.write(folder / CARD, info.to_card())
        has_curves = run.metrics.is_file()
        if has_curves:
            curves.plot({run.config.model: curves.read_metrics(run.metrics)}, folder / "curves.png")
        selected = "the last checkpoint" if last else f"the checkpoint with the lowest error on {run.config.eval_split}"
        text = readme(info, report.table(measured.rows), selected, has_curves, address or WEIGHTS)
        files.write(folder / "README.md", text)
    return info


def _trained(run: ClassifierRun, last: bool) -> tuple[pathlib.Path, keras.Model]:
    """Return the file of a finished run's weights and the network with them, which computes in float32."""
    newest = checkpoints.newest(run.checkpoints)
    step = int(newest.rsplit("-", 1)[1]) if newest else 0
    if step < run.config.steps and not run.early_stop.exists():
        raise InputError(
            f"workdir must be of a finished run; {str(run.path)!r} is at step {step} of {run.config.steps}."
        )
    if last and (run.config.ema or run.config.swa_start):
        raise InputError("last must be off for runs with ema or swa_start, whose checkpoints hold other weights.")
    path = pathlib.Path(f"{newest}.index") if last else run.weights
    network = dataclasses.replace(run, config=dataclasses.replace(run.config, precision="float32")).build()
    weights.load(network, path)
    return path, network


def command_of(config: ClassifierConfig) -> str:
    """Return the command that trains a configuration: the nearest preset, and a flag for each other value.

    Paths are without their folders, because the command is published.
    """
    fields = {field.name: field for field in dataclasses.fields(config) if field.metadata["affects_result"]}

    def text(name: str) -> str:
        value = getattr(config, name)
        return files.without_folders(value) if value and fields[name].metadata.get("path") else _text(value)

    def flags(preset: ClassifierConfig) -> list[str]:
        return [f"--{name}={text(name)}" for name in fields if getattr(config, name) != getattr(preset, name)]

    preset = min(PRESETS, key=lambda name: len(flags(PRESETS[name])))
    return " ".join(["keras-resnet", "train", f"--preset={preset}", *flags(PRESETS[preset])])


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def readme(info: ModelInfo, table: str, selected: str, has_curves: bool, where: str = WEIGHTS) -> str:
    """Return the model card in Markdown, with the front matter of the Hugging Face Hub.

    Args:
        info: the card.
        table: Markdown table of the measured errors.
        selected: the checkpoint that the weights come from.
        has_curves: whether the folder has `curves.png`.
        where: the argument `weights` that loads the weights.
    """
    constructor = find(info.model).name
    head = [
        "---",
        "library_name: keras_resnet",
        f"license: {info.licence.lower()}",
        "pipeline_tag: image-classification",
        "tags: [keras, image-classification, resnet]",
        *([f"datasets: [{info.dataset}]"] if NAME.fullmatch(info.dataset) else []),
        "---",
    ]
    size = f"{info.image_size} pixels" + (f", cropped from {info.resize}" if info.resize else "")
    facts = {
        "trained on": info.dataset,
        "classes": ", ".join(info.class_names) if len(info.class_names) <= 20 else str(len(info.class_names)),
        "input": f"RGB, {size}, minus the mean {info.mean}, divided by the standard deviation {info.std}",
        "weights of": selected,
        "command": f"`{info.command}`",
        "commit": info.commit or "not recorded",
        "seed": str(info.seed),
        "steps": f"{info.steps:,}",
        "device": info.device or "not recorded",
        "date": info.date,
        "SHA-256": f"`{info.digest.removeprefix('sha256:')}`",
    }
    code = [
        "```python",
        "import keras_resnet",
        "",
        f'model = keras_resnet.{constructor}(weights="{where}", classes={len(info.class_names)})',
        "```",
    ]
    parts = [
        "\n".join(head),
        f"# {constructor} on {info.dataset}",
        f"Errors of this file on the split {info.split}:",
        table,
        "\n".join(code),
        "\n".join(f"- {name}: {value}" for name, value in facts.items()),
    ]
    if has_curves:
        parts.append("![Training and test error](curves.png)")
    return "\n\n".join(parts) + "\n"
