"""Runs of a one-block network on tiny images; as a command, train one: small_runs.py CONFIG WORKDIR."""

import dataclasses
import pathlib
import sys

import keras

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from keras_resnet.classification import train
from keras_resnet.classification.config import PRESETS, ClassifierConfig
from keras_resnet.models import resnet
from tests.networks import one_block

KERAS_3 = hasattr(keras, "ops")
"""Whether MixUp and accumulation are available; docs/stacks.md."""

CONFIG = ClassifierConfig(
    dataset="synthetic:8x8x4",
    batch_size=16,
    steps=12,
    learning_rate=0.01,
    decay_steps=(9,),
    warmup_steps=2,
    eval_steps=5,
    checkpoint_steps=3,
    eval_split="test[:64]",
    pad=1,
    pca_noise=0.1,
    mixup=0.2 if KERAS_3 else 0.0,
    label_smoothing=0.1,
    ema=0.9,
    ema_steps=2,
    precision="mixed_bfloat16",
    op_determinism=True,
)
"""Everything on that could make a resumed run differ."""


def _code_path(config: ClassifierConfig) -> tuple:
    """Return what decides which code runs: all fields but the names, with numbers reduced to zero or not."""
    names = ("model", "dataset", "shortcut")
    values = dataclasses.asdict(config).items()
    return tuple(value if isinstance(value, str) else bool(value) for name, value in values if name not in names)


KINDS = {_code_path(config): name for name, config in PRESETS.items() if not config.quantize}
"""Code path -> the last preset that takes it."""


def on_small_images(preset: ClassifierConfig, **options) -> ClassifierConfig:
    """Return a preset for small random images, its other options untouched except for those given."""
    return dataclasses.replace(
        preset,
        dataset="synthetic:40x40x4",
        image_size=32,
        train_size=28 if preset.train_size else 0,
        resize=36,
        batch_size=8,
        scale_range=(32, 60) if preset.crop == "scale" else preset.scale_range,
        **options,
    )


if __name__ == "__main__":
    resnet.CONSTRUCTORS["resnet20"] = one_block
    train.train(ClassifierConfig.from_file(sys.argv[1]), sys.argv[2])
