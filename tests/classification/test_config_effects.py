"""Each field of a configuration does something: flipping it changes what a run reads, builds, learns or writes."""

import dataclasses
import functools
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet.classification import train
from keras_resnet.classification.config import ClassifierConfig
from keras_resnet.classification.run import ClassifierRun
from keras_resnet.data import pipeline, sources
from keras_resnet.experiment.curves import read_metrics
from keras_resnet.models import resnet, weights
from keras_resnet.training import loop
from tests.networks import one_block

BASE = ClassifierConfig(
    dataset="synthetic:8x8x4",
    train_split="train[:64]",
    eval_split="test[:16]",
    batch_size=8,
    steps=4,
    eval_steps=2,
    checkpoint_steps=2,
    decay_steps=(3,),
    pad=1,
)
PHOTOS = {"dataset": "FOLDER", "train_split": "train", "eval_split": "train", "image_size": 16, "crop": "center"}
MIXED = {"mixup": 0.5, "loss": "binary_cross_entropy"}
TUNED = {"init_weights": "WEIGHTS"}
TAUGHT = {"teacher": "TEACHER"}

pytestmark = pytest.mark.usefixtures("without_curves")

one_bottleneck = functools.partial(one_block, block="bottleneck")
"""In the place of ResNet-20: the one block on which every option has an effect."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight photos of two classes, 40 x 24 pixels, one of them turned by its EXIF data."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for number in range(8):
        path = folder / f"class{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 6 if number == 0 else 1
        noise = random.integers(0, 256, (24, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path, exif=exif)
    return folder


@pytest.fixture(scope="module")
def broken(folder, tmp_path_factory):
    """The same photos, one of them cut short."""
    other = tmp_path_factory.mktemp("broken")
    for path in folder.rglob("*.jpg"):
        copy = other / path.relative_to(folder)
        copy.parent.mkdir(exist_ok=True)
        contents = path.read_bytes()
        copy.write_bytes(contents[:100] if path.name == "3.jpg" else contents)
    return other


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """Weights of the one-block network."""
    path = tmp_path_factory.mktemp("weights") / "start.weights.h5"
    keras.utils.set_random_seed(5)
    weights.save(one_bottleneck(input_shape=(8, 8, 3), classes=4), path)
    return path


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The folder of a run of the one-block network, without training."""
    run = run_of(BASE, tmp_path_factory.mktemp("teacher"))
    run.create()
    keras.utils.set_random_seed(6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.CONSTRUCTORS, "resnet20", one_bottleneck)
        weights.save(run.build(), run.weights)
    return run.path


def run_of(config, path="unused"):
    facts = dataclasses.replace(sources.load(config.dataset).info, mean=(120.0,) * 3, std=(60.0,) * 3)
    return ClassifierRun(path, config, facts)


def batches(config, tmp_path):
    """The first batches that a run trains on."""
    view = run_of(config).train_transform()
    options = {name: getattr(config, name) for name in ("seed", "max_broken", "max_pixels", "cache")}
    dataset = sources.load(config.dataset)
    made = pipeline.train(dataset, config.batch_size, view, split=config.train_split, **options)
    # Two batches are more than the photos: a cache is whole then.
    taken = [(images.numpy(), labels.numpy()) for images, labels in made.take(2)]
    return taken, sorted(path.name for path in tmp_path.iterdir())


def evaluation(config, tmp_path):
    """The first batch that a run is evaluated on."""
    dataset = sources.load(config.dataset)
    images, labels = next(iter(pipeline.evaluate(dataset, 8, run_of(config).eval_transform(), split=config.eval_split)))
    return images.numpy(), labels.numpy()


def options(config, tmp_path):
    """The options of the input pipeline."""
    dataset = sources.load(config.dataset)
    made = pipeline.train(
        dataset, 8, run_of(config).train_transform(), threads=config.threads, deterministic=config.deterministic
    )
    graph = tf.compat.v1.GraphDef.FromString(made._as_serialized_graph().numpy())
    ordered = sorted(node.attr["deterministic"].s for node in graph.node if "deterministic" in node.attr)
    return made.options().threading.private_threadpool_size, ordered


def network(config, tmp_path):
    """The kind of network, its layers, types and first weights."""
    keras.utils.set_random_seed(0)
    model = run_of(config).build()
    settings = ("strides", "synchronized")
    layers = [
        (type(layer).__name__, layer.dtype_policy.name, *(getattr(layer, name, None) for name in settings))
        for layer in model.layers
    ]
    shapes = type(model).__name__, model.output_shape, model.input_shape
    return layers, shapes, [weight.sum() for weight in model.get_weights()]


def rates(config, tmp_path):
    """The learning rate of each step."""
    rate = loop.learning_rate(config)
    return [float(rate(step)) if callable(rate) else rate for step in range(6)]


def learning(config, tmp_path):
    """The weights after four steps of the compiled network, without a run around it."""
    keras.utils.set_random_seed(0)
    model = one_bottleneck(input_shape=(8, 8, 3), classes=4, classifier_activation=None)
    train._compile(model, config)
    model.run_eagerly = True
    random = np.random.default_rng(0)
    for _ in range(4):
        images = random.normal(size=(8, 8, 8, 3)).astype("float32")
        labels = random.dirichlet(np.ones(4), 8) if config.mixup else random.integers(0, 4, 8)
        model.train_on_batch(images, labels)
    return model.get_weights()


def training(config, tmp_path):
    """What a run leaves behind, and how Keras and the data were called; eagerly, as tracing takes longer than steps."""
    called = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.CONSTRUCTORS, "resnet20", one_bottleneck)
        patch.setattr(tf.config.experimental, "enable_op_determinism", lambda: called.append("deterministic"))
        original, load = keras.Model.compile, sources.load

        def compile(self, *args, **kwargs):
            called.append((kwargs["jit_compile"], kwargs["steps_per_execution"]))
            original(self, *args, **{**kwargs, "jit_compile": False, "run_eagerly": True})

        patch.setattr(keras.Model, "compile", compile)
        patch.setattr(sources, "load", lambda *args: called.append(args[1:]) or load(args[0]))
        run = train.train(config, tmp_path / "run")
    reader = tf.train.load_checkpoint(str(run.checkpoints))
    names = [name for name in reader.get_variable_to_shape_map() if "CHECKPOINTABLE" not in name]
    files = sorted(str(path.relative_to(run.path)) for path in run.path.rglob("*") if "tfevents" not in path.name)
    return {name: reader.get_tensor(name) for name in names}, read_metrics(run.metrics), files, called


FLIPS = {
    "dataset": (evaluation, {"dataset": "synthetic:8x8x5"}),
    "data_dir": (training, {"data_dir": "elsewhere"}),
    "download": (training, {"download": True}),
    "train_split": (batches, {"train_split": "train[64:128]"}),
    "eval_split": (evaluation, {"eval_split": "test[16:32]"}),
    "cache": (batches, {"cache": "TMP/cache"}, PHOTOS),
    "sequential": (training, {"sequential": True}),
    "threads": (options, {"threads": 1}),
    "deterministic": (options, {"deterministic": False}),
    "max_broken": (batches, {"max_broken": 0.5}, {**PHOTOS, "dataset": "BROKEN"}),
    "max_pixels": (batches, {"max_pixels": 100}, PHOTOS),
    "exif": (batches, {"exif": True}, PHOTOS),
    "image_size": (network, {"image_size": 16}),
    "train_size": (batches, {"train_size": 12}, PHOTOS),
    "resize": (evaluation, {"resize": 24}, PHOTOS),
    "pixel_mean": (training, {"pixel_mean": True}),
    "model": (network, {"model": "resnet32"}),
    "shortcut": (network, {"shortcut": "B"}),
    "stride_in_1x1": (network, {"stride_in_1x1": False}, {"model": "resnet50", "image_size": 32}),
    "zero_init_residual": (network, {"zero_init_residual": True}),
    "synchronized_norm": (network, {"synchronized_norm": True}),
    "drop_path_rate": (network, {"drop_path_rate": 0.5}),
    "init_weights": (training, TUNED),
    "new_head": (training, {"new_head": False}, TUNED),
    "quantize": (training, {"quantize": "int8"}, TUNED),
    "teacher": (training, {"teacher": "TEACHER"}),
    "teacher_weight": (training, {"teacher_weight": 1.0}, TAUGHT),
    "teacher_temperature": (training, {"teacher_temperature": 1.0}, TAUGHT),
    "freeze_stages": (training, {"freeze_stages": 1}, TUNED),
    "freeze_norm": (training, {"freeze_norm": True}, TUNED),
    "backbone_lr_mult": (learning, {"backbone_lr_mult": 0.1}),
    "batch_size": (batches, {"batch_size": 4}),
    "steps": (training, {"steps": 3}),
    "accumulate": (learning, {"accumulate": 2}),
    "loss": (learning, {"loss": "binary_cross_entropy"}),
    "target_threshold": (learning, {"target_threshold": 0.2}, MIXED),
    "optimizer": (learning, {"optimizer": "adamw"}),
    "schedule": (rates, {"schedule": "cosine"}),
    "learning_rate": (rates, {"learning_rate": 0.2}),
    "warmup_steps": (rates, {"warmup_steps": 2}),
    "warmup_rate": (rates, {"warmup_rate": 0.02}, {"warmup_steps": 2}),
    "warmup_error": (training, {"warmup_error": 50.0}),
    "patience": (training, {"patience": 1}, {"schedule": "plateau", "steps": 6}),
    "label_smoothing": (learning, {"label_smoothing": 0.1}),
    "decay_steps": (rates, {"decay_steps": (2,)}),
    "momentum": (learning, {"momentum": 0.5}),
    "nesterov": (learning, {"nesterov": True}),
    "weight_decay": (learning, {"weight_decay": 0.01}),
    "decay_norm": (learning, {"decay_norm": False}, {"weight_decay": 0.01}),
    "clip_norm": (learning, {"clip_norm": 0.1}),
    "ema": (training, {"ema": 0.9}),
    "ema_steps": (training, {"ema_steps": 2}, {"ema": 0.9}),
    "swa_start": (training, {"swa_start": 2}),
    "average_weights": (training, {"average_weights": "trained"}, {"ema": 0.9}),
    "crop": (batches, {"crop": "inception"}),
    "pad": (batches, {"pad": 2}),
    "scale_range": (batches, {"scale_range": (8, 9)}, {"crop": "scale", "scale_range": (16, 20)}),
    "pca_noise": (batches, {"pca_noise": 0.1}),
    "rand_augment": (batches, {"rand_augment": 0.5}),
    "rand_augment_ops": (batches, {"rand_augment_ops": 1}, {"rand_augment": 0.5}),
    "trivial_augment": (batches, {"trivial_augment": True}),
    "random_erase_prob": (batches, {"random_erase_prob": 1.0}),
    "mixup": (batches, {"mixup": 0.2}),
    "cutmix": (batches, {"cutmix": 1.0}),
    "antialias": (batches, {"antialias": True}, {**PHOTOS, "crop": "inception"}),
    "mirror": (batches, {"mirror": False}),
    "precision": (network, {"precision": "mixed_bfloat16"}),
    "recompute": (network, {"recompute": True}),
    "jit_compile": (training, {"jit_compile": True}),
    "steps_per_execution": (training, {"steps_per_execution": 2}),
    "op_determinism": (training, {"op_determinism": True}),
    "seed": (batches, {"seed": 1}),
    "eval_steps": (training, {"eval_steps": 4}),
    "checkpoint_steps": (training, {"checkpoint_steps": 1}),
    "early_stopping": (training, {"early_stopping": 1}),
    "log": (training, {"log": ("csv",)}),
}
"""Field -> (what to observe, the flip, what else must be set for the field to matter)."""


def observed(observe, values, tmp_path):
    """What a configuration does, as bytes; an error is also something done."""
    tmp_path.mkdir()
    try:
        return pickle.dumps(observe(dataclasses.replace(BASE, **values), tmp_path))
    except (ValueError, tf.errors.OpError) as error:
        return pickle.dumps(f"{type(error).__name__}: {error}")


def test_no_field_is_forgotten():
    assert sorted(FLIPS) == sorted(field.name for field in dataclasses.fields(ClassifierConfig))


@pytest.fixture(scope="module")
def same_twice(tmp_path_factory):
    """What the configuration before a flip does; observed once for all flips that share it, and twice in all."""
    known = {}

    def lookup(observe, values):
        key = (observe.__name__, tuple(values.items()))
        if key not in known:
            known[key] = observed(observe, values, tmp_path_factory.mktemp("before") / "run")
        return known[key]

    return lookup


@pytest.mark.parametrize("field", FLIPS)
def test_a_flip_has_an_effect(field, folder, broken, weights_file, teacher, same_twice, tmp_path):
    observe, flip, *others = FLIPS[field]
    places = {"FOLDER": f"folder:{folder}", "BROKEN": f"folder:{broken}", "WEIGHTS": str(weights_file)}
    places["TEACHER"] = str(teacher)

    def filled(values):
        return {
            name: places.get(value, value.replace("TMP", str(tmp_path / "run"))) if isinstance(value, str) else value
            for name, value in values.items()
        }

    before = filled(others[0] if others else {})
    assert set(flip) == {field}
    after = observed(observe, {**before, **filled(flip)}, tmp_path / "run")
    assert after != same_twice(observe, before)


@pytest.mark.parametrize(
    "observe", [batches, evaluation, options, network, rates, learning, training], ids=lambda f: f.__name__
)
def test_without_a_flip_all_stays(observe, same_twice, tmp_path):
    assert observed(observe, {}, tmp_path / "run") == same_twice(observe, {})
