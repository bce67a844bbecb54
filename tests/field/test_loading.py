"""Loading, types and names: what people who come from keras.applications, timm and torchvision try first."""

import ast
import dataclasses
import hashlib
import importlib
import inspect
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import compat
from keras_resnet.classification import train as classification
from keras_resnet.classification.config import PRESETS, ClassifierConfig
from keras_resnet.classification.eval_config import EvalConfig
from keras_resnet.classification.evaluate import evaluate
from keras_resnet.cli import main as cli
from keras_resnet.data import sources
from keras_resnet.data.transforms import DenseTransform, EvalTransform, TenCropTransform, TrainTransform
from keras_resnet.detection.config import DetectorConfig
from keras_resnet.detection.faster_rcnn import faster_rcnn
from keras_resnet.models import registration
from keras_resnet.training import losses, optimizers, schedules
from tests.conftest import KERAS_2
from tests.detection.scenes import TINY

PACKAGE = pathlib.Path(keras_resnet.__file__).parent


def small(**options):
    """A network of two blocks with a shortcut of option A."""
    options = {"shortcut": "A", "input_shape": (8, 8, 3), "classes": 4, **options}
    return keras_resnet.ResNet([(16, 1, 1), (32, 1, 2)], block="basic", stem="cifar", **options)


# Saved models


def compiled(make, **options):
    """A network that its file contains with loss, metric, optimizer and the optimizer's state."""
    model = small(classifier_activation=None, **options)
    optimizer = make(model)
    model.compile(optimizer, losses.CrossEntropy(0.1), weighted_metrics=[losses.Top1Error()])
    compat.built_variables(optimizer, model.trainable_variables)
    return model


def wrapped(**options):
    """A network inside another model, after layers of Keras, as in transfer learning."""
    backbone = small(include_top=False, pooling="avg", **options)
    layers = [keras.Input((8, 8, 3)), keras.layers.RandomFlip(), keras.layers.Rescaling(1 / 255), backbone]
    return keras.Sequential([*layers, keras.layers.Dense(2)])


def scaled_cosine(model):
    return optimizers.make("sgd", schedules.Scaled(schedules.Cosine(0.1, 9)), weight_decay=1e-4, decay_norm=False)


def accumulate(model):
    return optimizers.make("adamw", schedules.Cosine(0.1, 9, 2), weight_decay=1e-4, accumulate=2)


def loss_scale(model):
    return optimizers.make("sgd", 0.1, loss_scale=True)


def slow_backbone(model):
    return optimizers.make("sgd", 0.1, slow=model.trainable_variables[:2], slow_multiplier=0.1)


def kernels_decay(model):
    options = {"weight_decay": 0.5, "decay_norm": False, "slow": model.trainable_variables[:2], "slow_multiplier": 0.1}
    return optimizers.make("adamw", 0.1, **options)


def detector():
    """A detector on two blocks."""
    model = faster_rcnn(TINY, classes=3, pre_nms_topk_test=50, post_nms_topk_test=10)
    model.compile("sgd")
    return model


SAVED = {
    "option_a": small,
    "float16": lambda: small(dtype="float16"),
    "synchronized": lambda: small(synchronized=True),
    "wrapped": wrapped,
    "scaled_cosine": lambda: compiled(scaled_cosine),
}
if not KERAS_2:
    SAVED |= {
        "drop_path": lambda: small(drop_path_rate=0.1),
        "recompute": lambda: small(recompute=True),
        "wrapped_recompute": lambda: wrapped(recompute=True),
        "accumulate": lambda: compiled(accumulate),
        "loss_scale": lambda: compiled(loss_scale, dtype="mixed_float16"),
        "slow_backbone": lambda: compiled(slow_backbone),
        "kernels_decay": lambda: compiled(kernels_decay),
        "detector": detector,
    }
COMPILED = ("detector", "scaled_cosine", "accumulate", "loss_scale", "slow_backbone", "kernels_decay")

LOAD = """
import json, pathlib, sys
import keras, keras_resnet
import numpy as np
def inputs_of(path):
    images = np.load(path.parent / "x.npy")
    is_detector = path.stem == "detector"
    large = {"images": images.repeat(8, 1).repeat(8, 2), "image_size": np.float32([[64, 60]] * 2)}
    return large if is_detector else images
before = [name for name in sys.modules if name.startswith("keras_resnet.")]
results = {"imported": before}
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.*")):
    if path.suffix in (".keras", ".h5"):
        try:
            model = keras.saving.load_model(path)
            found = model(inputs_of(path), training=False)
            found = np.asarray(found["boxes"] if isinstance(found, dict) else found).astype("float32")
            error = float(np.abs(found - np.load(path.with_suffix(".npy"))).max())
            optimizer = getattr(model, "optimizer", None)
            results[path.name] = [error, type(model).__name__, optimizer and type(optimizer).__name__]
        except Exception as failure:
            results[path.name] = f"{type(failure).__name__}: {failure}"
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """File name -> (largest difference, class, optimizer's class) of models loaded in a process that builds none."""
    folder = tmp_path_factory.mktemp("saved")
    images = np.random.default_rng(0).random((2, 8, 8, 3)).astype("float32")
    np.save(folder / "x.npy", images)
    for name, make in SAVED.items():
        model = make()
        if name == "detector":  # as in LOAD
            large = {"images": images.repeat(8, 1).repeat(8, 2), "image_size": np.float32([[64, 60]] * 2)}
            result = model(large)["boxes"]
        else:
            result = model(images, training=False)
        np.save(folder / f"{name}.npy", np.asarray(result).astype("float32"))
        for suffix in ("keras", "h5"):
            model.save(folder / f"{name}.{suffix}")
    result = subprocess.run([sys.executable, "-c", LOAD, folder], capture_output=True, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("name", SAVED)
def test_a_saved_model_loads_in_a_process_that_only_imports_the_package(name, suffix, loaded):
    result = loaded[f"{name}.{suffix}"]
    assert isinstance(result, list), result
    error, kind, optimizer = result
    assert error < 1e-5
    kinds = {"recompute": "RecomputingModel", "detector": "FasterRCNN"}
    assert kind == ("Sequential" if "wrapped" in name else kinds.get(name, "Functional"))
    assert (optimizer is not None) == (name in COMPILED)


@pytest.mark.slow
def test_the_import_that_registers_loads_no_network(loaded):
    assert not [
        name for name in loaded["imported"] if name.startswith(("keras_resnet.models.resnet", "keras_resnet.tr"))
    ]


@pytest.mark.parametrize("name", ["sgd", "sgdw", "adamw", "lamb"])
def test_a_loaded_optimizer_trains_as_the_saved_one(name, tmp_path, random):
    """With some variables at a tenth of the rate, and without decay of batch norm."""
    model = small(classifier_activation=None)
    slow = [variable for variable in model.trainable_variables if "predictions" not in compat.path(variable)]
    options = {"weight_decay": 0.5, "decay_norm": False, "slow": slow, "slow_multiplier": 0.1}
    model.compile(optimizers.make(name, 0.1, **options), keras.losses.SparseCategoricalCrossentropy(True))
    images, labels = random.random((4, 8, 8, 3)).astype("float32"), np.arange(4)
    model.save(tmp_path / "a.keras")
    again = keras.saving.load_model(tmp_path / "a.keras")
    for each in (model, again):
        each.fit(images, labels, shuffle=False, verbose=0)
    for before, after in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-6)


KERAS = """
import types
known = {}
saving = types.SimpleNamespace(get_custom_objects=lambda: known)
"""


@pytest.mark.parametrize(
    "imports",
    [
        "import keras, keras_resnet",
        "import keras_resnet, keras",
        "import keras_resnet, importlib.util; importlib.util.find_spec('keras'); import keras",
        "import keras_resnet, uses_keras, keras",
    ],
)
def test_classes_are_registered_in_any_order_of_imports(imports, tmp_path):
    (tmp_path / "keras.py").write_text(KERAS)
    (tmp_path / "uses_keras.py").write_text("from keras import saving")
    code = f"import sys; before = len(sys.meta_path); {imports}; print(*keras.known, before, len(sys.meta_path))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(PACKAGE.parent)])}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    *names, before, after = result.stdout.split()
    assert set(names) == {f"keras_resnet>{name}" for name in registration.CLASSES} | set(registration.BARE_NAMES)
    assert after == before  # the finder is gone once Keras is there


def test_every_registered_class_has_a_placeholder():
    found = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any("register_keras" in ast.dump(d) for d in node.decorator_list):
                found[node.name] = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    assert found == registration.CLASSES


def test_a_placeholder_is_replaced_by_the_class():
    placeholder = registration.Placeholder("IdentityShortcut", "keras_resnet.models.layers")
    layer = placeholder(8, 2, name="shortcut")
    assert type(placeholder.from_config(layer.get_config())) is type(layer)
    assert keras.saving.get_registered_object("keras_resnet>IdentityShortcut") is type(layer)


# Types


def refused(call, message, error=ValueError):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.int16, lambda number: np.array(number)])
def test_any_integral_type_is_an_integer(kind):
    model = keras_resnet.ResNet20(classes=kind(5), input_shape=(kind(16), kind(24), kind(3)), output_stride=kind(2))
    assert model.output_shape == (None, 5)
    assert model.input_shape == (None, 16, 24, 3)
    stages = [(kind(16), kind(1), kind(1))]
    assert keras_resnet.ResNet(stages, block="basic", stem="cifar", classes=2).count_params() > 0
    assert len(keras_resnet.decode_predictions(np.zeros((1, 3)), top=kind(2), labels="abc")[0]) == 2
    config = ClassifierConfig(steps=kind(20), batch_size=kind(8), decay_steps=(kind(5),))
    assert json.loads(config.to_json())["steps"] == 20


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: keras_resnet.ResNet20(classes=5.0), "classes must be an integer of at least 1; got 5.0."),
        (lambda: keras_resnet.ResNet20(classes="5"), "classes must be an integer of at least 1; got '5'."),
        (lambda: keras_resnet.ResNet20(classes=True), "classes must be an integer of at least 1; got True."),
        (lambda: keras_resnet.ResNet20(input_shape=(32.0, 32, 3)), "input_shape must be (height, width, channels)"),
        (lambda: keras_resnet.ResNet20(input_shape=(3, 32, 32)), "Images are channels-last here."),
        (lambda: keras_resnet.ResNet20(output_stride=2.0), "output_stride must be an integer; got 2.0."),
        (
            lambda: keras_resnet.ResNet([(16.0, 1, 1)]),
            "stages must be a list of (filters, blocks, stride), all integers",
        ),
        (lambda: keras_resnet.ResNet20(batch_norm_momentum="0.9"), "batch_norm_momentum must be in [0, 1); got '0.9'."),
        (lambda: keras_resnet.ResNet20(drop_path_rate=None), "drop_path_rate must be in [0, 1)"),
        (lambda: keras_resnet.ResNet20(10), "include_top must be True or False; got 10. Pass classes=10 by name."),
        (lambda: keras_resnet.ResNet20("imagenet"), "Pass weights='imagenet' by name."),
        (lambda: keras_resnet.ResNet20((32, 32, 3)), "Pass input_shape=(32, 32, 3) by name."),
        (lambda: keras_resnet.decode_predictions(np.zeros((1, 3)), top=2.5, labels="abc"), "top must be an integer"),
        (lambda: ClassifierConfig(steps="20"), "steps must be"),
        (lambda: ClassifierConfig(steps=20.5), "steps must be"),
        (lambda: ClassifierConfig(mirror="yes"), "mirror must be true or false; got 'yes'."),
        (lambda: ClassifierConfig(learning_rate="0.1"), "learning_rate must be a number; got '0.1'."),
        (lambda: ClassifierConfig(decay_steps=5), "decay_steps must be a list of integers; got 5."),
        (lambda: ClassifierConfig(decay_steps="5"), "decay_steps must be a list of integers; got '5'."),
        (lambda: DetectorConfig(anchor_ratios=["a"]), "anchor_ratios must be a list of numbers; got ['a']."),
        (lambda: EvalConfig(views="single"), "views must be a list of strings; got 'single'."),
        (lambda: EvalTransform(224, None, None), "size must be (height, width) in pixels; got 224."),
        (lambda: EvalTransform((224, 0), None, None), "size must be an integer of at least 1; got 0."),
        (lambda: EvalTransform((8, 8), (0, 0, 0), (1, 0, 1)), "std must be positive numbers, one for each channel"),
        (lambda: TenCropTransform((8, 8.5), (0,) * 3, (1,) * 3), "size must be an integer"),
        (lambda: TrainTransform((8, 8), (0,) * 3, "imagenet"), "std must be positive numbers"),
        (lambda: TrainTransform((8, 8), (np.nan,) * 3, (1,) * 3), "mean must be numbers"),
        (lambda: DenseTransform((8, 8), (0,) * 3, (-1,) * 3, 64), "std must be positive numbers"),
    ],
)
def test_other_types_are_refused_in_one_sentence(call, message):
    refused(call, message)


def test_a_config_takes_the_types_of_numpy_and_pathlib():
    config = ClassifierConfig(
        learning_rate=np.float32(0.5),
        mirror=np.bool_(False),
        data_dir=pathlib.Path("/data"),
        decay_steps=np.array([3, 5]),
    )
    assert ClassifierConfig.from_dict(json.loads(config.to_json())) == config
    assert (config.learning_rate, config.mirror, config.decay_steps) == (0.5, False, (3, 5))


def test_a_softmax_of_one_class_is_warned_of(caplog):
    for activation in ("softmax", keras.activations.softmax):
        small(classes=1, classifier_activation=activation)
    assert [record.message.split(" and ")[0] for record in caplog.records] == ["with classes=1"] * 2
    caplog.clear()
    for options in ({"classifier_activation": "sigmoid"}, {"classifier_activation": None}, {"include_top": False}):
        small(classes=1, **options)
    assert not caplog.records


# Precision


@pytest.mark.parametrize("policy", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize(
    "options",
    [{"shortcut": "B"}, {}] if KERAS_2 else [{"shortcut": "B", "recompute": True}, {"drop_path_rate": 0.1}],
    ids=str,
)
def test_pure_policies_predict_and_train(policy, options, random):
    model, images = small(dtype=policy, **options), random.random((8, 8, 8, 3)).astype("float32")
    exact = small(dtype="float64", **{**options, "recompute": False} if not KERAS_2 else options)
    exact.set_weights(model.get_weights())
    np.testing.assert_allclose(model.predict(images, verbose=0), exact.predict(images, verbose=0), atol=0.03)
    model.compile(optimizers.make("sgd", 0.01), "sparse_categorical_crossentropy")
    before = [np.asarray(weight) for weight in model.get_weights()]
    losses = model.fit(images, np.arange(8) % 4, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert all(np.isfinite(np.asarray(weight, "float64")).all() for weight in model.get_weights())
    statistics = [i for i, weight in enumerate(model.weights) if "moving" in weight.path] if not KERAS_2 else []
    assert all((before[i] != np.asarray(model.get_weights()[i])).any() for i in statistics)


@pytest.mark.skipif(KERAS_2, reason="keras.config is of Keras 3")
def test_the_global_float_type_is_that_of_keras_applications(random):
    images = random.random((1, 32, 32, 3)).astype("float32")
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_floatx("bfloat16")
        keras.config.set_dtype_policy("bfloat16")
        ours = small(input_shape=(32, 32, 3))
        theirs = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(32, 32, 3))
        assert ours.get_layer("conv1_conv").kernel.dtype == theirs.get_layer("conv1_conv").kernel.dtype == "bfloat16"
        assert np.isfinite(ours.predict(images, verbose=0)).all()
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy(policy)


# keras.applications


@pytest.mark.parametrize("mode", ["caffe", "torch", "tf"])
@pytest.mark.parametrize("data_format", ["channels_first", "channels_last", None])
def test_preprocess_input_has_the_signature_of_keras_applications(mode, data_format, random):
    shape = (2, 3, 5, 7) if data_format == "channels_first" else (2, 5, 7, 3)
    images = random.integers(0, 256, shape).astype("float32")
    expected = keras.applications.imagenet_utils.preprocess_input(images.copy(), data_format, mode)
    np.testing.assert_allclose(keras_resnet.preprocess_input(images, data_format, mode), expected, atol=1e-4)
    tensor = keras_resnet.preprocess_input(compat.cast(images, "float32"), data_format, mode)
    np.testing.assert_allclose(tensor, expected, atol=1e-4)
    np.testing.assert_allclose(keras_resnet.preprocess_input(images[0], data_format, mode), expected[0], atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((4, 4, 3)), "torch"), "pass mode='torch' by name"),
        ((np.zeros((4, 4, 3)), "channels"), "data_format must be one of 'channels_last', 'channels_first'"),
        ((np.zeros((1, 4, 4, 1)),), "x must be RGB images with 3 channels, channels_last; got shape [1, 4, 4, 1]."),
        ((np.zeros((1, 4, 4, 3)), "channels_first"), "x must be RGB images with 3 channels, channels_first"),
    ],
)
def test_preprocess_input_refuses_what_it_would_get_wrong(arguments, message):
    refused(lambda: keras_resnet.preprocess_input(*arguments), message)


def test_names_of_classes_are_those_of_keras():
    """keras.applications downloads its names and verifies them by this MD5 (imagenet_utils.py)."""
    ((*rows,),) = keras_resnet.decode_predictions(-np.arange(1000.0)[None], top=2000)
    index = json.dumps({str(number): [wnid, name] for number, (wnid, name, _) in enumerate(rows)})
    assert hashlib.md5(index.encode()).hexdigest() == "c2c37ea517e94d9795004a39431a14cb"


def test_decode_predictions_takes_tensors_of_pytorch():
    torch = pytest.importorskip("torch")
    scores = torch.tensor([[0.1, 0.9]], requires_grad=True)
    assert keras_resnet.decode_predictions(scores, top=5, labels=["a", "b"])[0][0][1] == "b"


@pytest.mark.parametrize("name", ["resnet", "resnet50"])
def test_modules_of_keras_applications(name):
    ours = importlib.import_module(f"keras_resnet.{name}")
    theirs = getattr(keras.applications, name)
    assert {public for public in dir(theirs) if not public.startswith("_")} <= set(dir(ours))
    assert ours.ResNet50 is keras_resnet.ResNet50
    assert ours.preprocess_input is keras_resnet.preprocess_input
    assert getattr(keras_resnet, name) is ours
    refused(lambda: ours(weights=None), "call keras_resnet.ResNet50(...) instead", TypeError)
    refused(lambda: ours.ResNet50V2, "has no attribute 'ResNet50V2'; it has ", AttributeError)


def test_load_weights_loads_what_keras_own_method_does_not(tmp_path):
    theirs = keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3), classes=3)
    theirs.save_weights(tmp_path / ("a.weights.h5" if not KERAS_2 else "a.h5"))
    ours = keras_resnet.ResNet50(input_shape=(32, 32, 3), classes=3)
    keras_resnet.load_weights(ours, next(tmp_path.iterdir()))
    images = np.random.default_rng(0).random((1, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(ours.predict(images, verbose=0), theirs.predict(images, verbose=0), atol=1e-5)


# Names


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("num_classes", "use classes"),
        ("n_classes", "use classes"),
        ("pretrained", "use weights='imagenet' for pretrained=True"),
        ("include_head", "use include_top"),
        ("in_chans", "use input_shape=(height, width, channels)"),
        ("img_size", "use input_shape=(height, width, channels)"),
        ("global_pool", "use pooling"),
        ("activation", "use classifier_activation"),
        ("zero_init_last", "use zero_init_residual"),
        ("sync_bn", "use synchronized"),
        ("replace_stride_with_dilation", "use output_stride=16 or 8"),
        ("grad_checkpointing", "use recompute"),
        ("mixed_precision", "use dtype='mixed_bfloat16' or another policy"),
        ("clases", "did you mean 'classes'?"),
        ("depth", "unexpected keyword argument 'depth'"),
    ],
)
def test_arguments_of_other_packages_are_pointed_to_ours(given, advice):
    for constructor in (keras_resnet.ResNet50, lambda **options: keras_resnet.ResNet([(8, 1, 1)], **options)):
        refused(lambda constructor=constructor: constructor(**{given: 1}), advice, TypeError)


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("lr", "use learning_rate"),
        ("epochs", "use steps"),
        ("pretrained", "use init_weights"),
        ("learnign_rate", "did you mean 'learning_rate'?"),
    ],
)
def test_fields_of_other_packages_are_pointed_to_ours(given, advice):
    for config in (ClassifierConfig, DetectorConfig):
        refused(lambda config=config: config(**{given: 1}), advice, TypeError)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("resnet20", "ResNet20"),
        ("Resnet101", "ResNet101"),
        ("resnet_18", "ResNet18"),
        ("plainnet20", "PlainNet20"),
        ("ResNet50V2", "ResNet50"),
        ("load_weight", "load_weights"),
        ("decode_prediction", "decode_predictions"),
        ("dection", "detection"),
    ],
)
def test_misspelled_names_of_the_package(name, meant):
    refused(lambda: getattr(keras_resnet, name), f"no attribute {name!r} (did you mean {meant!r}?)", AttributeError)


def test_dir_lists_the_public_names_only():
    public = {name for name in dir(keras_resnet) if not name.startswith("__")}
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert public == {*keras_resnet.__all__, *parts, "resnet", "resnet50"} - {"__init__"}


@pytest.mark.parametrize("name", ["ResNet50", "PlainNet20"])
def test_help_describes_every_argument(name):
    constructor = getattr(keras_resnet, name)
    text = inspect.getdoc(constructor)
    for argument in inspect.signature(constructor).parameters:
        assert f"\n    {argument}: " in text, argument
    assert "random unless `weights` is given" in text
    assert ("zero_init_residual" in text) == (name == "ResNet50")
    assert "    stages: " not in text
    assert max(map(len, text.splitlines())) <= 120


# Training from Python


@pytest.fixture
def quick_preset(monkeypatch, one_block_resnet20):
    """A preset of two steps."""
    config = ClassifierConfig(dataset="digits", steps=2, batch_size=4, decay_steps=())
    monkeypatch.setitem(PRESETS, "quick", config)


def test_train_takes_the_name_of_a_preset(quick_preset, tmp_path):
    assert classification.train("quick", tmp_path / "run").config == PRESETS["quick"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("digits_resnet21", "did you mean 'digits_resnet20'?"),
        (
            {"steps": 2},
            "config must be a ClassifierConfig or the name of a preset; got {'steps': 2}; ClassifierConfig.fr",
        ),
        (3, "config must be a ClassifierConfig or the name of a preset; got 3."),
        (DetectorConfig(), "config must be a ClassifierConfig or the name of a preset; got DetectorConfig("),
    ],
)
def test_train_names_the_configurations_it_takes(config, message, tmp_path):
    refused(lambda: classification.train(config, tmp_path / "run"), message)
    refused(lambda: classification.fit(small(), None, config, tmp_path / "run"), message)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 10}, "model must have an output for each of the data set's 4 classes; it has (None, 10)."),
        ({"include_top": False}, "model must have an output for each of the data set's 4 classes"),
        ({"classifier_activation": "softmax"}, "model must return logits: build it with classifier_activation=None"),
        ({"input_shape": (16, 16, 3)}, "model must take images of 8x8x3; its input is (None, 16, 16, 3)."),
        ({"input_shape": (8, 8, 1)}, "model must take images of 8x8x3"),
    ],
)
def test_fit_refuses_a_model_that_does_not_fit_the_data(options, message, tmp_path, random):
    images = sources.from_arrays(random.integers(0, 256, (8, 8, 8, 3), "uint8"), np.arange(8) % 4, tuple("abcd"))
    config = ClassifierConfig(steps=1, batch_size=4, decay_steps=(), eval_split="train")
    model = small(**{"classifier_activation": None, **options})
    refused(lambda: classification.fit(model, images, config, tmp_path / "run"), message)
    assert not (tmp_path / "run").exists()


def test_a_run_records_the_data_set_that_it_was_trained_on(tmp_path, random):
    images = sources.from_arrays(random.integers(0, 256, (8, 8, 8, 3), "uint8"), np.arange(8) % 4, tuple("abcd"))
    config = dataclasses.replace(PRESETS["digits_resnet20"], steps=1, batch_size=4, decay_steps=(), eval_split="train")
    run = classification.fit(small(classifier_activation=None), images, config, tmp_path / "run")
    assert run.config.dataset == "arrays"
    refused(lambda: evaluate([run], EvalConfig()), "dataset must")


# The command


@pytest.mark.parametrize(
    ("backend", "verb", "message"),
    [
        ("torch", "train", "KERAS_BACKEND must be 'tensorflow' for train; got 'torch'."),
        ("jax", "evaluate", "KERAS_BACKEND must be 'tensorflow' for evaluate; got 'jax'."),
        ("tensorflw", "predict", "did you mean 'tensorflow'?"),
    ],
)
def test_an_unsuitable_backend_is_one_sentence(backend, verb, message, monkeypatch, capsys):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    assert cli.run(verb, []) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_backend_that_is_not_installed_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setattr("keras_resnet.cli.convert.Convert.run", lambda *_: importlib.import_module("torch"))
    assert cli.run("convert", ["a", "b"]) == 1
    message = "keras-resnet convert: convert requires torch, which is not installed: pip install torch.\n"
    assert capsys.readouterr().err == message


def test_training_from_python_names_the_backend_it_requires(monkeypatch, tmp_path):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    refused(
        lambda: classification.train("digits_resnet20", tmp_path / "run"),
        "KERAS_BACKEND must be 'tensorflow' to train a run; got 'torch'.",
    )


def test_the_backend_of_keras_own_file(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    assert cli.run("train", []) == 1
    assert "keras.json' must be 'tensorflow' for train; got 'jax'." in capsys.readouterr().err


@pytest.mark.parametrize("module", ["keras_resnet.models.architectures", "keras_resnet.models.weights"])
def test_modules_that_print_tables_print_nothing_else(module):
    command = [sys.executable, "-W", "error", "-m", module]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("| network |")
    assert "Warning" not in result.stderr


def test_no_runnable_module_is_imported_by_its_package():
    """`python -m` would warn of a module that is in sys.modules before it runs."""
    for path in PACKAGE.rglob("*.py"):
        if path.stem != "__main__" and '__name__ == "__main__"' in path.read_text(encoding="utf-8"):
            package, init = path.parent, path.parent / "__init__.py"
            assert path.stem not in init.read_text(encoding="utf-8"), f"{package.name} imports {path.stem}"
