"""Networks that are small enough for tests, on every backend."""

import dataclasses
import pathlib
from typing import Any

import keras

from keras_resnet import files
from keras_resnet.models import resnet, weights
from keras_resnet.models.weights.info import CARD, WEIGHTS, ModelInfo


def one_block(**options: Any) -> keras.Model:
    """Build a CIFAR network of one basic block; `options` are those of `ResNet`, and may name another block."""
    return resnet.ResNet([(8, 1, 1)], **{"block": "basic", "stem": "cifar", **options})


def weights_folder(folder: pathlib.Path, model: keras.Model, **values: Any) -> pathlib.Path:
    """Write the weights of a network with a card, as `keras-resnet publish` does; `values` are fields of the card."""
    folder.mkdir(parents=True)
    classes = tuple(f"class{number}" for number in range(model.output_shape[-1]))
    info = ModelInfo(model.name, "", 32, 0, classes, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    weights.save_safetensors(model, folder / WEIGHTS, info)
    files.manifest_path(folder / WEIGHTS).unlink()
    digest = f"sha256:{files.digest(folder / WEIGHTS)}"
    info = dataclasses.replace(info, **{"url": WEIGHTS, "digest": digest, "dataset": "tiny", **values})
    (folder / CARD).write_text(info.to_card())
    (folder / "README.md").write_text("---\nlibrary_name: keras_resnet\n---\n# Tiny\n")
    return folder
