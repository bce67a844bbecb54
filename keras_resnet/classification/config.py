"""The configuration of a classifier's run, and its presets: the paper's recipes and today's."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any, ClassVar

from keras_resnet.errors import InputError
from keras_resnet.experiment.config import BaseConfig, option
from keras_resnet.models.architectures import canonical, find


@dataclasses.dataclass(frozen=True)
class ClassifierConfig(BaseConfig):
    """Everything that determines the result of a classifier's run; each field is a flag of the same name."""

    RENAMED: ClassVar[dict[str, str]] = {
        "color": "pca_noise",
        "erase": "random_erase_prob",
        "scales": "scale_range",
        "average": "average_weights",
        "backbone_rate": "backbone_lr_mult",
    }

    dataset: str = option(
        "cifar10",
        "digits, folder:PATH, idx:PATH, parquet:PATH, tar:PATH, tfrecord:PATH, tfds:PATH, synthetic:HxWxCLASSES or a "
        "tensorflow-datasets name.",
        "data",
        path="dataset",
    )
    cache: str = option(
        "", "Cache encoded images in memory ('memory') or in this file; empty for no cache.", "data", path="name"
    )
    sequential: bool = option(
        False,
        "Read TFRecord and tar shards in their order, shuffled in windows, for disks that are slow at random reads.",
        "data",
    )
    threads: int = option(
        0, "Threads of the input pipeline; 0 lets TensorFlow choose.", "hardware", minimum=0, affects_result=False
    )
    deterministic: bool = option(True, "Keep the order of images, so that runs repeat exactly.", "data")
    max_broken: float = option(
        0.001, "Fraction of training files that may fail to decode before the run stops.", "data", minimum=0
    )
    max_pixels: int = option(50_000_000, "Refuse images of more pixels before decoding them.", "data", minimum=1)
    exif: bool = option(False, "Rotate JPEGs by their EXIF orientation.", "data")
    image_size: int = option(0, "Side of the network's input; 0 for that of the data set, or 224.", "data", minimum=0)
    train_size: int = option(0, "Side of the training crops, if it differs; 0 for image_size.", "data", minimum=0)
    resize: int = option(
        0,
        "Shorter side before the center crop of evaluation; 0 for 256/224 of image_size, or for data sets of one image "
        "size the whole image.",
        "data",
        minimum=0,
    )
    pixel_mean: bool = option(False, "Subtract the mean of each pixel instead of each channel.", "data")
    model: str = option("resnet20", "Network: resnet20, resnet50, plainnet20, ...", "network")
    shortcut: str = option(
        "", "Shortcut option A, B or C; empty for the network's default.", "network", choices=("", "A", "B", "C")
    )
    stride_in_1x1: bool = option(
        True, "Bottlenecks have their stride in the first 1x1, as in the paper; off for v1.5.", "network"
    )
    zero_init_residual: bool = option(False, "Start each residual branch at zero (Goyal et al., 2017).", "network")
    drop_path_rate: float = option(
        0.0,
        "Stochastic depth: probability of dropping the last block; earlier blocks are dropped less.",
        "network",
        minimum=0,
        below=1,
    )
    init_weights: str = option(
        "", "Weights to start from: a file, a name such as imagenet, or the folder of a run.", "network", path="name"
    )
    new_head: bool = option(True, "With init_weights, start with a new classifier head.", "network")
    quantize: str = option(
        "",
        "Train for int8 inference: int8, or int4 for weights of 4 bits, which are experimental; empty for float.",
        "network",
        choices=("", "int8", "int4"),
    )
    synchronized_norm: bool = option(False, "Compute batch norm over the whole batch of all replicas.", "network")
    freeze_stages: int = option(
        0,
        "Stages to freeze: 1 for conv1, 2 for conv1 and conv2_x, ..., 5 for all but the head.",
        "network",
        minimum=0,
        maximum=5,
    )
    freeze_norm: bool = option(False, "Freeze all batch norm layers, including their statistics.", "network")
    backbone_lr_mult: float = option(
        1.0, "Learning rate multiplier of all layers but the head.", "optimization", minimum=0
    )
    accumulate: int = option(
        1, "Micro-batches of a step, whose gradients are averaged; saves memory.", "optimization", minimum=1
    )
    loss: str = option(
        "cross_entropy",
        "cross_entropy, or binary_cross_entropy for mixed images.",
        "optimization",
        choices=("cross_entropy", "binary_cross_entropy"),
    )
    target_threshold: float = option(
        0.0,
        "Set mixed labels above this threshold to 1 in binary_cross_entropy; 0 keeps them as they are.",
        "optimization",
        minimum=0,
        below=1,
    )
    teacher: str = option(
        "", "Folder of a run of the same classes whose scores the network learns too.", "optimization", path="name"
    )
    teacher_weight: float = option(
        0.5, "With teacher, its share of the loss; the labels have the rest.", "optimization", minimum=0, maximum=1
    )
    teacher_temperature: float = option(
        4.0, "With teacher, the temperature that softens both scores.", "optimization", minimum=0.1
    )
    schedule: str = option(
        "piecewise",
        "Learning rate schedule: piecewise (divided by 10 at decay_steps), cosine, poly or plateau.",
        "optimization",
        choices=("piecewise", "cosine", "poly", "plateau"),
    )
    warmup_error: float = option(
        0.0,
        "Warm up until the training error in percent is below this; 80 in section 4.2 of the paper.",
        "optimization",
        minimum=0,
        maximum=100,
    )
    warmup_rate: float = option(
        0.01, "Learning rate during warm-up; 0.01 for 110 layers in section 4.2.", "optimization", minimum=0
    )
    patience: int = option(
        5,
        "With schedule=plateau, evaluations without improvement before the learning rate is divided by 10.",
        "optimization",
        minimum=1,
    )
    label_smoothing: float = option(0.0, "Label smoothing.", "optimization", minimum=0, below=1)
    ema: float = option(
        0.0,
        "Decay of an exponential moving average of the weights, which is evaluated and saved; 0 for none.",
        "optimization",
        minimum=0,
        below=1,
    )
    ema_steps: int = option(1, "Steps between updates of the average.", "optimization", minimum=1)
    swa_start: int = option(
        0,
        "Step from which all updates count equally in the average (stochastic weight averaging), instead of ema; 0 for "
        "none.",
        "optimization",
        minimum=0,
    )
    average_weights: str = option(
        "all",
        "What is averaged: all weights with the batch norm statistics, or only the trained ones.",
        "optimization",
        choices=("all", "trained"),
    )
    crop: str = option(
        "pad",
        "Training crop: pad (section 4.2), scale (section 3.4), inception or center.",
        "augmentation",
        choices=("pad", "scale", "inception", "center"),
    )
    pad: int = option(4, "Pixels of zero padding on each side, for crop=pad.", "augmentation", minimum=0)
    scale_range: tuple[int, ...] = option(
        (256, 480), "Range from which the shorter side is drawn, for crop=scale.", "augmentation"
    )
    pca_noise: float = option(
        0.0, "Standard deviation of AlexNet's PCA color noise; 0.1 in the paper.", "augmentation", minimum=0
    )
    rand_augment: float = option(0.0, "Magnitude of RandAugment.", "augmentation", minimum=0, maximum=1)
    rand_augment_ops: int = option(2, "RandAugment operations per image.", "augmentation", minimum=1)
    trivial_augment: bool = option(False, "TrivialAugment: one random operation per image.", "augmentation")
    random_erase_prob: float = option(
        0.0, "Probability of random erasing of each image.", "augmentation", minimum=0, maximum=1
    )
    mixup: float = option(0.0, "Alpha of MixUp.", "augmentation", minimum=0)
    cutmix: float = option(0.0, "Alpha of CutMix.", "augmentation", minimum=0, maximum=1)
    antialias: bool = option(False, "Antialias training crops of files; slower.", "augmentation")
    recompute: bool = option(False, "Recompute activations in the backward pass: less memory, more time.", "hardware")
    jit_compile: bool = option(False, "Compile the step with XLA; slower on CPUs, always on for TPUs.", "hardware")
    steps_per_execution: int = option(
        1, "Steps in one call of TensorFlow; more is faster if steps are short.", "hardware", minimum=1
    )
    op_determinism: bool = option(
        False, "Use TensorFlow's deterministic kernels: runs repeat bit by bit, but slower.", "hardware"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "model", canonical(self.model))
        if len(self.scale_range) != 2:
            raise InputError(
                f"scale_range must be two numbers, the smallest and the largest; got {list(self.scale_range)}."
            )
        if self.warmup_error and not self.learning_rate:
            raise InputError("learning_rate must be above 0 with warmup_error; got 0.")
        if self.warmup_error and (self.warmup_steps or self.schedule in ("cosine", "poly")):
            raise InputError("warmup_error excludes warmup_steps and schedule=cosine or poly; set only one of them.")
        if self.ema and self.swa_start:
            raise InputError("ema excludes swa_start; set only one of them.")
        if self.quantize:
            self._check_quantize()
        if self.recompute and self.teacher:
            raise InputError("recompute must be off with teacher.")
        if self.batch_size % self.accumulate:
            raise InputError(f"batch_size must be a multiple of accumulate, {self.accumulate}; got {self.batch_size}.")
        if self.steps_per_execution > 1:
            for name in ("steps", "eval_steps", "checkpoint_steps", "ema_steps", "swa_start"):
                unused = name == "ema_steps" and not (self.ema or self.swa_start)
                if not unused and getattr(self, name) * self.accumulate % self.steps_per_execution:
                    raise InputError(
                        f"{name} must be a multiple of steps_per_execution, {self.steps_per_execution}; "
                        f"got {getattr(self, name)}."
                    )

    def _check_quantize(self) -> None:
        """Raise `InputError` for options that quantization-aware training excludes."""
        if self.precision != "float32":
            raise InputError(f"precision must be float32 with quantize; got {self.precision}.")
        for name in ("pixel_mean", "recompute", "drop_path_rate"):
            if getattr(self, name):
                raise InputError(f"{name} must be off with quantize.")

    @property
    def weight_bits(self) -> int:
        """Bits of the weights of a network that is trained for an int8 file."""
        return 4 if self.quantize == "int4" else 8

    def check_names(self) -> None:
        super().check_names()
        find(self.model)
        self.check_weights("init_weights")


def _cifar10() -> dict[str, ClassifierConfig]:
    """Section 4.2: one recipe; 110 layers and more start at 0.01 until the training error is below 80 %."""
    names = [f"resnet{depth}" for depth in (20, 32, 44, 56)] + [f"plainnet{depth}" for depth in (20, 32, 44, 56)]
    presets = {f"cifar10_{name}": ClassifierConfig(model=name) for name in names}
    for name in ("resnet110", "resnet1202"):
        presets[f"cifar10_{name}"] = ClassifierConfig(model=name, warmup_error=80.0)
    return presets


_IMAGENET = ClassifierConfig(
    dataset="imagenet2012",
    eval_split="validation",
    batch_size=256,
    steps=600_000,
    decay_steps=(160_000, 320_000, 480_000),
    crop="scale",
    pca_noise=0.1,
    eval_steps=5_000,
    checkpoint_steps=1_000,
)


def _imagenet() -> dict[str, ClassifierConfig]:
    """Section 3.4: batch 256, 60e4 steps; the paper divides the rate when the error plateaus, here every 16e4 steps."""
    names = [f"resnet{depth}" for depth in (18, 34, 50, 101, 152)] + ["plainnet18", "plainnet34"]
    presets = {f"imagenet_{name}": dataclasses.replace(_IMAGENET, model=name) for name in names}
    for depth, option_name in itertools.product((18, 34), "AC"):
        name = f"imagenet_resnet{depth}_{option_name.lower()}"
        presets[name] = dataclasses.replace(_IMAGENET, model=f"resnet{depth}", shortcut=option_name)
    return presets


def _imagenet_today() -> dict[str, ClassifierConfig]:
    """Recipes of today for ResNet-50, as far as their parts are here; docs/training.md lists the differences."""
    today = dataclasses.replace(
        _IMAGENET,
        model="resnet50",
        stride_in_1x1=False,
        schedule="cosine",
        decay_steps=(),
        crop="inception",
        pca_noise=0.0,
        decay_norm=False,
        cutmix=1.0,
    )
    return {
        # Wightman, Touvron and Jegou, "ResNet strikes back" (2021), procedure A3, table 2: 100 epochs.
        "imagenet_resnet50_a3": dataclasses.replace(
            today,
            batch_size=2048,
            steps=62_500,
            train_size=160,
            resize=236,
            optimizer="lamb",
            learning_rate=8e-3,
            warmup_steps=3_125,
            warmup_rate=1e-4,
            weight_decay=0.02,
            loss="binary_cross_entropy",
            target_threshold=0.2,
            mixup=0.1,
            rand_augment=0.6,
        ),
        # Vryniotis, "How to train state-of-the-art models using TorchVision's latest primitives" (2021): 600 epochs.
        "imagenet_resnet50_torchvision_v2": dataclasses.replace(
            today,
            batch_size=1024,
            steps=750_600,
            train_size=176,
            resize=232,
            learning_rate=0.5,
            warmup_steps=6_255,
            warmup_rate=5e-3,
            weight_decay=2e-5,
            label_smoothing=0.1,
            mixup=0.2,
            random_erase_prob=0.1,
            rand_augment=1.0,
            rand_augment_ops=1,
            ema=0.9989,
            ema_steps=32,
        ),
    }


def _int8(preset: ClassifierConfig, **options: Any) -> ClassifierConfig:
    """Return the preset that trains the network of another for int8, from `init_weights`: few steps at a low rate."""
    return dataclasses.replace(
        preset, quantize="int8", new_head=False, schedule="cosine", decay_steps=(), warmup_error=0.0, **options
    )


PRESETS = {
    "digits_resnet20": ClassifierConfig(
        dataset="digits", steps=300, decay_steps=(200, 260), mirror=False, pad=3, eval_steps=50
    ),
    **_cifar10(),
    "fashion_mnist_resnet20": ClassifierConfig(dataset="fashion_mnist"),
    **_imagenet(),
    **_imagenet_today(),
    **{
        f"cifar10_{name}_int8": _int8(
            ClassifierConfig(model=name), learning_rate=0.005, steps=800, eval_steps=200, checkpoint_steps=200
        )
        for name in ("resnet20", "resnet56", "plainnet20")
    },
    "imagenet_resnet50_int8": _int8(
        dataclasses.replace(_IMAGENET, model="resnet50"), learning_rate=0.001, steps=5_000, eval_steps=1_000
    ),
}
"""Name -> configuration, `dataset_model`."""
