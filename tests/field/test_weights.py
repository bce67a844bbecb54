"""Weights files as people have them: nested, prefixed, with averaged weights, other heads and old names."""

import argparse
import datetime
import json
import logging
import pathlib
import pickle
import shutil
import types
import zipfile

import h5py
import keras
import numpy as np
import pytest
import safetensors.numpy

from keras_resnet.models import weights
from keras_resnet.models.weights import convert, published
from tests.conftest import KERAS_2 as KERAS_2_STACK
from tests.models.weights.nets import call, tiny

torch = pytest.importorskip("torch")
from tests.models import torch_nets  # noqa: E402

CLASSES, FEATURES = 5, 64


@pytest.fixture(scope="module")
def net():
    """The network `nets.tiny` in PyTorch."""
    return torch_nets.randomized(torch_nets.TorchvisionNet("bottleneck", (1, 2), (8, 16), CLASSES))


@pytest.fixture(scope="module")
def state(net):
    return dict(net.state_dict())


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")


@pytest.fixture(scope="module")
def model():
    return tiny(stride_in_1x1=False)


@pytest.fixture(scope="module")
def expected(net, state, model, images, tmp_path_factory):
    """The weights that every file here must give, compared with PyTorch."""
    path = tmp_path_factory.mktemp("plain") / "plain.pth"
    torch.save(state, path)
    weights.load(model, path)
    np.testing.assert_allclose(call(model, images), torch_nets.logits(net, images), atol=1e-4)
    return model.get_weights()


def loaded(model, stored, tmp_path, **options):
    """Load an object that was saved by PyTorch into the model, and return its weights."""
    torch.save(stored, tmp_path / "a.pth")
    model.set_weights([np.zeros_like(value) for value in model.get_weights()])
    weights.load(model, tmp_path / "a.pth", **options)
    return model.get_weights()


def same(one, two):
    return all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def prefixed(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


def scaled(state, factor=2.0):
    return {name: value * factor if value.is_floating_point() else value for name, value in state.items()}


def optimizer(state):
    """The state of SGD with momentum after some steps."""
    moments = {number: {"momentum_buffer": value.clone()} for number, value in enumerate(state.values())}
    return {"state": moments, "param_groups": [{"lr": 0.1, "params": list(moments)}]}


KEYS = ["state_dict", "model_state_dict", "model", "net", "module", "network", "params", "weights", "best_model", "x y"]
PREFIXES = [
    "module.",
    "model.",
    "backbone.",
    "encoder.",
    "_orig_mod.",
    "module._orig_mod.",
    "net.resnet.0.",
    "trunk.f.",
]


@pytest.mark.parametrize("key", KEYS)
def test_any_enclosing_dictionary(key, model, state, expected, tmp_path):
    stored = {"epoch": 5, key: state, "optimizer": optimizer(state), "best_acc": torch.tensor(0.5), "args": {"lr": 0.1}}
    assert same(loaded(model, stored, tmp_path), expected)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("key", ["", "state_dict"])
def test_any_common_prefix(prefix, key, model, state, expected, tmp_path):
    stored = prefixed(prefix, state)
    assert same(loaded(model, {key: stored} if key else stored, tmp_path), expected)


INSERTED = {
    "FSDP": ("_fsdp_wrapped_module.", ("layer1.0.", "layer2."), "_fsdp_wrapped_module."),
    "checkpointed blocks": ("", ("layer1.0.", "layer2.0."), "_checkpoint_wrapped_module."),
    "compiled stages": ("module.", ("layer1.", "layer2."), "_orig_mod."),
}


@pytest.mark.parametrize(("prefix", "modules", "inserted"), INSERTED.values(), ids=INSERTED)
def test_wrappers_of_single_modules(prefix, modules, inserted, model, state, expected, tmp_path):
    def wrapped(name):
        module = next((module for module in modules if name.startswith(module)), "")
        return f"{prefix}{module}{inserted if module else ''}{name[len(module) :]}"

    stored = {wrapped(name): value for name, value in state.items()}
    assert any(f".{inserted}" in name for name in stored)
    assert same(loaded(model, stored, tmp_path), expected)


def head_of(state, name, rest="backbone."):
    """The state with the classifier named otherwise, next to the backbone."""
    return {(f"{name}{key[2:]}" if key.startswith("fc.") else f"{rest}{key}"): value for key, value in state.items()}


CONTAINERS = {
    "Lightning": lambda state: {
        "epoch": 1,
        "pytorch-lightning_version": "2.0.0",
        "state_dict": {**prefixed("model.", state), "val_acc.tp": torch.zeros(5, dtype=torch.int64)},
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
        "callbacks": {"ModelCheckpoint{'mode': 'min'}": {"best_model_score": torch.tensor(0.5), "dirpath": "/x"}},
        "optimizer_states": [optimizer(state)],
        "lr_schedulers": [{"base_lrs": [0.1]}],
        "hyper_parameters": {"lr": 0.1, "class_weights": torch.ones(5)},
    },
    "mmpretrain": lambda state: {"meta": {"CLASSES": ["a"]}, "state_dict": head_of(state, "head.fc")},
    "VISSL": lambda state: {
        "classy_state_dict": {"base_model": {"model": {"trunk": prefixed("_feature_blocks.", state), "heads": {}}}}
    },
    "two dictionaries": lambda state: {
        "model": {
            "backbone": {name: value for name, value in state.items() if not name.startswith("fc.")},
            "head": {"weight": state["fc.weight"], "bias": state["fc.bias"]},
        }
    },
    "a list of models": lambda state: {"models": [state]},
    "the same dictionary twice": lambda state: {"net": state, "state_dict": state},
    "a loss with weights": lambda state: {"net": state, "criterion": {"weight": torch.ones(5)}},
    "nothing but parameters": lambda state: {name: torch.nn.Parameter(value, False) for name, value in state.items()},
    "without step counters": lambda state: {name: v for name, v in state.items() if not name.endswith("tracked")},
    "float64": lambda state: {name: value.double() for name, value in state.items()},
}


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS)
def test_containers(make, model, state, expected, tmp_path, caplog):
    result = loaded(model, make(state), tmp_path)
    assert all(np.allclose(a, b, rtol=1e-6) for a, b in zip(result, expected, strict=True))
    assert not caplog.records


def test_prefixes_in_safetensors(model, state, expected, tmp_path):
    from safetensors.torch import save_file

    save_file(head_of(state, "classifier.1", "model.encoder."), tmp_path / "a.safetensors")
    weights.load(model, tmp_path / "a.safetensors")
    assert same(model.get_weights(), expected)


def sharded(state, folder, save, suffix):
    """Write a state as Hugging Face writes one in two parts; return the index."""
    names = sorted(state)
    parts = {f"model-0000{number + 1}-of-00002{suffix}": names[number::2] for number in range(2)}
    for part, own in parts.items():
        save({name: state[name] for name in own}, folder / part)
    index = folder / f"model{suffix}.index.json"
    weight_map = {name: part for part, own in parts.items() for name in own}
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}, indent=2))
    return index


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_a_model_in_several_files(suffix, model, state, expected, tmp_path):
    from safetensors.torch import save_file

    index = sharded(state, tmp_path, save_file if suffix == ".safetensors" else torch.save, suffix)
    model.set_weights([np.zeros_like(value) for value in model.get_weights()])
    weights.load(model, index)
    assert same(model.get_weights(), expected)
    (tmp_path / f"model-00002-of-00002{suffix}").unlink()
    with pytest.raises(ValueError, match=r"its part 'model-00002-of-00002.* is missing"):
        weights.load(model, index)


@pytest.mark.parametrize("part", ["../x.safetensors", "/etc/passwd", "a/b.bin", "loop.index.json"])
def test_parts_of_a_model_are_in_its_folder(part, model, tmp_path):
    path = tmp_path / "loop.index.json"
    path.write_text(json.dumps({"weight_map": {"conv1.weight": part}}))
    with pytest.raises(ValueError, match="is not a file in the same folder"):
        weights.load(model, path)


NO_WEIGHTS = {
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "a web page": b"\n<!DOCTYPE html><html>sign in</html>",
    "XML": b"<?xml version='1.0'?><Error>AccessDenied</Error>",
    "compressed with gzip": b"\x1f\x8b\x08\0",
    "a single NumPy array": b"\x93NUMPY\1\0",
    "JSON text": b'{"architectures": ["ResNetForImageClassification"]}',
    "it is empty": b"",
}


@pytest.mark.parametrize("kind", NO_WEIGHTS)
def test_files_that_are_no_weights_are_named(kind, model, tmp_path):
    (tmp_path / "a.pth").write_bytes(NO_WEIGHTS[kind])
    with pytest.raises(ValueError, match=f"it is not an HDF5, safetensors or PyTorch file; .*{kind}"):
        weights.load(model, tmp_path / "a.pth")


def test_weights_of_one_network_need_no_name_of_it():
    names = [name for _, name in published.list_weights()]
    (once,) = [name for name in dict.fromkeys(names) if names.count(name) == 1]
    assert published.find(once).model == "resnet20"
    with pytest.raises(ValueError, match="model must be given with weights 'imagenet': one of resnet50"):
        published.find("imagenet")


def test_archives_and_pickles_of_arrays_are_named(model, state, tmp_path):
    arrays = {name: value.numpy() for name, value in state.items()}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=r"an archive of NumPy arrays; write them as safetensors: safetensors\.numpy"):
        weights.load(model, tmp_path / "a.npz")
    torch.save(arrays, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"NumPy arrays, not tensors; save them with safetensors\.numpy\.save_file"):
        weights.load(model, tmp_path / "a.pth")
    with open(tmp_path / "R-50.pkl", "wb") as file:
        pickle.dump({"model": arrays, "__author__": "me"}, file, protocol=2)
    with pytest.raises(ValueError, match=r"a pickle that torch\.save did not write; save its tensors with torch\.save"):
        weights.load(model, tmp_path / "R-50.pkl")


def test_parts_programs_and_incomplete_files_are_named(model, state, tmp_path):
    names = sorted(state)[::2]
    torch.save({name: state[name] for name in names}, tmp_path / "model-00001-of-00002.bin")
    with pytest.raises(ValueError, match=r"; it is a part of a model, whose \.index\.json lists all parts"):
        weights.load(model, tmp_path / "model-00001-of-00002.bin")
    torch.save(state, tmp_path / "a.pth")
    (tmp_path / "half.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:20_000])
    with pytest.raises(ValueError, match="it is incomplete: the end of the archive is missing"):
        weights.load(model, tmp_path / "half.pth")
    with pytest.raises(ValueError, match="weights_key must be left out, as the file has one network; got 'ema'"):
        weights.load(model, tmp_path / "a.pth", weights_key="ema")
    (tmp_path / "ckpt-3.data-00000-of-00001").write_bytes(bytes(20))
    with pytest.raises(ValueError, match=r"; pass ckpt-3\.index"):
        weights.load(model, tmp_path / "ckpt-3.data-00000-of-00001")
    with zipfile.ZipFile(tmp_path / "s.pt", "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"s/{name}", b"")
    with pytest.raises(ValueError, match=r"TorchScript program; save its tensors: torch\.save\(torch\.jit\.load"):
        weights.load(model, tmp_path / "s.pt")


@pytest.mark.parametrize("save", [weights.save, weights.save_safetensors])
def test_a_full_disk_is_one_sentence(save, model, tmp_path, monkeypatch):
    path = tmp_path / ("a.weights.h5" if save is weights.save else "a.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=1000))
        with pytest.raises(ValueError, match=r"cannot be written: they take [\d,]+ bytes, and 1,000 are free\.$"):
            save(model, path)
    with monkeypatch.context() as patch:

        def full(*arguments, **options):
            raise OSError(28, "No space left on device")

        owner, name = (model, "save_weights") if save is weights.save else (safetensors.numpy, "save_file")
        patch.setattr(owner, name, full)
        with pytest.raises(ValueError, match=rf"weights '{path}' cannot be written: .*No space left on device\.$"):
            save(model, path)
    assert not list(tmp_path.iterdir())


def test_a_folder_instead_of_a_file(model, tmp_path):
    with pytest.raises(ValueError, match=r"there is no file 'nowhere'"):
        weights.load(model, "nowhere")
    with pytest.raises(ValueError, match=rf"existing file; '{tmp_path}' is a folder\."):
        weights.load(model, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"is a folder, which has '.*/model\.safetensors'"):
        weights.load(model, tmp_path)
    with pytest.raises(ValueError, match=r"is a folder, which has '.*/model\.safetensors'"):
        published.find(str(tmp_path), "resnet50")


@pytest.mark.skipif(KERAS_2_STACK, reason="Keras 2 writes no bfloat16")
@pytest.mark.parametrize("policy", ["bfloat16", "float16", "float64"])
def test_weights_of_pure_policies(policy, tmp_path):
    """HDF5 has no bfloat16: Keras writes two bytes of an unknown type and an attribute."""
    model, other = (tiny(dtype=each) for each in (policy, "float32"))
    weights.save(model, tmp_path / "a.weights.h5")
    model.save_weights(tmp_path / "b.weights.h5")
    expected = [np.asarray(value).astype("float32") for value in model.get_weights()]
    for name in ("a", "b"):
        other.set_weights([np.zeros_like(value) for value in expected])
        weights.load(other, tmp_path / f"{name}.weights.h5")
        assert same(other.get_weights(), expected)
        weights.load(model, tmp_path / f"{name}.weights.h5")
        assert same([np.asarray(value).astype("float32") for value in model.get_weights()], expected)


DATA = {
    "argparse": argparse.Namespace(lr=0.1, dirs=["a"], nested=argparse.Namespace(x=1)),
    "SimpleNamespace": types.SimpleNamespace(lr=0.1),
    "paths": [pathlib.Path("/data"), pathlib.PurePosixPath("a")],
    "NumPy": {"best": np.float64(93.1), "count": np.int64(3), "mean": np.ones(3, "float32")},
    "dates": datetime.datetime(2021, 1, 1),
    "version": torch.__version__,
}


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_data_of_training_scripts_is_ignored(data, model, state, expected, tmp_path):
    """Such as the arguments that the reference scripts of torchvision store."""
    assert same(loaded(model, {"model": state, "epoch": 3, "args": data}, tmp_path), expected)


class Custom:
    """A class of somebody's project."""


@pytest.mark.parametrize(
    ("data", "named"), [(Custom(), r"tests\.field\.test_weights\.Custom"), (print, "print")], ids=["class", "function"]
)
def test_other_objects_are_refused_with_the_way_out(data, named, model, state, tmp_path):
    message = rf"objects other than tensors, of {named}, which .* torch.save\(model.state_dict\(\), 'weights.pth'\)"
    with pytest.raises(ValueError, match=message):
        loaded(model, {"model": state, "args": data}, tmp_path)


def test_a_whole_model_is_refused_with_the_way_out(net, model, tmp_path):
    with pytest.raises(ValueError, match=r"of tests\.models\.torch_nets\.TorchvisionNet, .*model.state_dict\(\)"):
        loaded(model, net, tmp_path)


AVERAGED = {
    "timm": lambda raw, ema: {"state_dict": raw, "state_dict_ema": ema},
    "torchvision": lambda raw, ema: {"model": raw, "model_ema": prefixed("module.", ema), "args": argparse.Namespace()},
    "one dictionary": lambda raw, ema: {**prefixed("model.", raw), **prefixed("ema_model.module.", ema)},
    "Lightning": lambda raw, ema: {"state_dict": prefixed("net.", raw), "callbacks": {"EMA": {"ema": ema}}},
    "stochastic weight averaging": lambda raw, ema: {"net": raw, "swa": prefixed("module.", ema)},
}


@pytest.mark.parametrize("make", AVERAGED.values(), ids=AVERAGED)
def test_averaged_weights(make, model, state, expected, tmp_path, caplog):
    stored = make(scaled(state), state)
    assert same(loaded(model, stored, tmp_path), expected)
    (line,) = [record.getMessage() for record in caplog.records]
    averaged, raw = line.split("took the averaged weights ")[1].removesuffix("; weights_key chooses").split(", not ")
    caplog.clear()
    assert same(loaded(model, stored, tmp_path, weights_key=averaged.strip("'")), expected)
    assert not same(loaded(model, stored, tmp_path, weights_key=raw.strip("'")), expected)
    assert not caplog.records


SEVERAL = {
    "MoCo": (lambda a, b: {"state_dict": {**prefixed("module.encoder_q.", a), **prefixed("module.encoder_k.", b)}}),
    "DINO": (lambda a, b: {"student": prefixed("module.backbone.", b), "teacher": prefixed("backbone.", a)}),
}
FIRST = {"MoCo": "encoder_q", "DINO": "teacher"}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_networks(name, model, state, expected, tmp_path):
    stored = SEVERAL[name](state, scaled(state))
    with pytest.raises(ValueError, match=r"it has 2 networks, '.*'; choose one with weights_key of"):
        loaded(model, stored, tmp_path)
    assert same(loaded(model, stored, tmp_path, weights_key=FIRST[name]), expected)
    with pytest.raises(ValueError, match=r"weights_key must be one of .*; got 'other', which is none of them"):
        loaded(model, stored, tmp_path, weights_key="other")


HEADS = ["fc.1", "head.fc", "head", "classifier", "classifier.1", "linear", "last_linear", "fc.layer.0"]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("rest", ["", "backbone."])
def test_a_linear_classifier_of_any_name(head, rest, model, state, expected, tmp_path, caplog):
    stored = head_of(state, head, rest)
    assert same(loaded(model, stored, tmp_path), expected)
    other = tiny(stride_in_1x1=False, classes=3)
    weights.load(other, tmp_path / "a.pth", adapt=True)
    assert same(other.get_weights()[:-2], expected[:-2])
    assert [record.getMessage() for record in caplog.records] == [
        "resnet: the file has 5 classes, the network 3 classes; the classifier keeps its initial weights"
    ]


def linear(name, inputs, outputs):
    return {f"{name}.weight": torch.zeros(outputs, inputs), f"{name}.bias": torch.zeros(outputs)}


OWN_HEADS = {
    "two layers": {**linear("fc.0", FEATURES, 16), **linear("fc.3", 16, CLASSES)},
    "with batch norm": {**linear("fc.0", FEATURES, 8), "fc.1.weight": torch.ones(8), **linear("fc.3", 8, CLASSES)},
    "a projection": {**linear("projector.0", FEATURES, 16), "projector.2.weight": torch.zeros(8, 16)},
    "two classifiers": {**linear("age", FEATURES, CLASSES), **linear("kind", FEATURES, CLASSES)},
    "without bias": {"prototypes.weight": torch.zeros(30, FEATURES)},
}


@pytest.mark.parametrize("name", OWN_HEADS)
def test_other_heads_leave_the_backbone_usable(name, state, model, expected, tmp_path, caplog):
    backbone = {key: value for key, value in state.items() if not key.startswith("fc.")}
    stored = {**backbone, **OWN_HEADS[name]}
    with pytest.raises(ValueError, match=r"its head is '.*', not one classifier; adapt=True loads the backbone only"):
        loaded(model, stored, tmp_path)
    result = loaded(model, stored, tmp_path, adapt=True)
    assert same(result[:-2], expected[:-2])
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("resnet: the file has a head of '")
    assert line.endswith("the network 5 classes; the classifier keeps its initial weights")
    with pytest.raises(ValueError, match="it has no classifier, but a head of"):
        convert.info(tmp_path / "a.pth")


OTHERS = {
    "squeeze and excitation": lambda state: state | linear("layer1.0.se.fc1", 32, 2),
    "a deeper stem": lambda state: state | {"conv1.0.weight": torch.zeros(8, 3, 3, 3)},
    "attention next to the layers": lambda state: state | {"cbam.conv.weight": torch.zeros(1, 2, 7, 7)},
    "grouped convolutions": lambda state: {
        name: value[:, :2] if name.endswith("conv2.weight") else value for name, value in state.items()
    },
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_networks_are_refused(name, model, state, tmp_path):
    with pytest.raises(ValueError, match=r"not named as in a residual network|has shape"):
        loaded(model, OTHERS[name](state), tmp_path, adapt=True)


WITHOUT = {
    "no tensors": ({"epoch": 5, "args": {"lr": 0.1}}, "it has no state_dict; it has the keys 'epoch', 'args'"),
    "another network": (
        {"model": {"features.0.weight": torch.zeros(8, 3, 3, 3), "classifier.weight": torch.zeros(5, 8)}, "ema": {}},
        r"its tensor 'model\.features\.0\.weight' is not named .*; its names begin with 'model'",
    ),
    "only the optimizer": (
        {"optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}}},
        "its names begin with 'optimizer'",
    ),
    "a quantized network": (
        {"conv1.weight": torch.zeros(8, 3, 7, 7, dtype=torch.int8), "layer1.0.conv1.weight": torch.zeros(8, 8, 1, 1)},
        r"its tensor 'conv1\.weight' has type torch\.int8",
    ),
    "fewer bytes than values": (
        {"conv1.weight": torch.zeros(1).expand(64, 3, 7, 7)},
        r"its tensor 'conv1\.weight' declares 9,408 values in 4 bytes",
    ),
}


@pytest.mark.parametrize(("stored", "message"), WITHOUT.values(), ids=WITHOUT)
def test_files_without_a_network_say_what_they_hold(stored, message, model, tmp_path):
    with pytest.raises(ValueError, match=message):
        loaded(model, stored, tmp_path)


def test_dictionaries_that_contain_each_other(model, state, expected, tmp_path):
    first, second = {"net": state}, {}
    first["again"], second["again"] = second, first
    many = {}
    for _ in range(10):
        many = {"a": many, "b": many}
    assert same(loaded(model, {"x": first, "many": many}, tmp_path), expected)


# Keras before 2.2


def old_keras(letters=("a", "b")):
    """The tiny network with the names, biases and epsilon of Keras' ResNet-50 of 2016, built from Keras' layers."""
    layers = keras.layers

    def conv(x, filters, kernel, stride, name):
        x = layers.Conv2D(filters, kernel, stride, "same" if kernel < 7 else "valid", name=f"{name}")(x)
        norm = "bn_conv1" if name == "conv1" else name.replace("res", "bn")
        return layers.BatchNormalization(epsilon=1e-3, name=norm)(x)

    inputs = keras.Input((64, 64, 3))
    x = layers.Activation("relu")(conv(layers.ZeroPadding2D(3)(inputs), 64, 7, 2, "conv1"))
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
    for stage, filters, blocks in ((2, 8, letters[:1]), (3, 16, letters)):
        for block in blocks:
            stride = 2 if stage == 3 and block == "a" else 1
            name = f"res{stage}{block}"
            shortcut = conv(x, 4 * filters, 1, stride, f"{name}_branch1") if block == "a" else x
            x = layers.Activation("relu")(conv(x, filters, 1, stride, f"{name}_branch2a"))
            x = layers.Activation("relu")(conv(x, filters, 3, 1, f"{name}_branch2b"))
            x = layers.Activation("relu")(layers.add([conv(x, 4 * filters, 1, 1, f"{name}_branch2c"), shortcut]))
    outputs = layers.Dense(CLASSES, name="fc1000")(layers.GlobalAveragePooling2D()(x))
    return randomized_keras(keras.Model(inputs, outputs))


def randomized_keras(net):
    random = np.random.default_rng(0)
    for layer in net.layers:
        values = layer.get_weights()
        if len(values) == 4:
            gamma = values[0]
            low, high = random.uniform(0.5, 1, gamma.shape), random.uniform(0.001, 0.5, gamma.shape)
            layer.set_weights([low, *random.normal(0, 0.3, (2, *gamma.shape)), high])
        elif values:
            layer.set_weights([values[0], random.normal(0, 0.3, values[1].shape)])
    return net


KERAS_2 = ("kernel:0", "bias:0"), ("gamma:0", "beta:0", "moving_mean:0", "moving_variance:0")
KERAS_1 = ("{}_W:0", "{}_b:0"), ("{}_gamma:0", "{}_beta:0", "{}_running_mean:0", "{}_running_std:0")


def write_old(net, path, parts=KERAS_2, prefix="{name}/{name}/", rename=lambda name: name):
    with h5py.File(path, "w") as file:
        for layer in net.layers:
            values, name = layer.get_weights(), rename(layer.name)
            for part, value in zip(parts[len(values) == 4], values, strict=False):
                file[prefix.format(name=name) + part.format(name)] = value


OLD = {
    "Keras 2.0": {},
    "without scopes": {"prefix": "{name}/"},
    "Keras 1": {"parts": KERAS_1, "prefix": "{name}/"},
    "in another model": {"prefix": "resnet50/{name}/"},
    "another head": {"rename": lambda name: "fc_animals" if name == "fc1000" else name},
    "blocks b1": {"rename": lambda name: name.replace("res3b_", "res3b1_").replace("bn3b_", "bn3b1_")},
}


@pytest.fixture(scope="module")
def old():
    return old_keras()


@pytest.mark.parametrize("options", OLD.values(), ids=OLD)
def test_old_names_of_keras(options, old, images, tmp_path):
    write_old(old, tmp_path / "old.h5", **options)
    model = tiny(weights=tmp_path / "old.h5")
    reference = call(old, images)
    assert np.abs(reference).max() > 1
    np.testing.assert_allclose(call(model, images), reference, atol=1e-4 * np.abs(reference).max())


def test_old_files_imply_the_preprocessing_and_the_stride(old, tmp_path):
    write_old(old, tmp_path / "old.h5")
    assert convert.info(tmp_path / "old.h5").mode == "caffe"
    with pytest.raises(ValueError, match="build the network with stride_in_1x1=True"):
        weights.load(tiny(stride_in_1x1=False), tmp_path / "old.h5")


def test_keras_applications_in_another_model_with_a_new_head(images, tmp_path, caplog):
    """A Sequential of a bare network, pooling and a dense layer, saved by Keras 2."""
    random = np.random.default_rng(0)
    model = tiny()
    variables = {f"{layer.name}": layer.get_weights() for layer in model.layers if layer.get_weights()}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values in variables.items():
            top = "dense/dense" if name == "predictions" else f"resnet50/{name}"
            if name.endswith("_conv"):
                values = [*values, random.normal(0, 0.1, values[0].shape[-1:]).astype("float32")]
            for part, value in zip(KERAS_2[len(values) == 4], values, strict=True):
                file[f"{top}/{part}"] = value
    other = tiny(classes=3)
    with caplog.at_level(logging.WARNING):
        weights.load(other, tmp_path / "a.h5", adapt=True)
    assert np.array_equal(other.get_weights()[0], model.get_weights()[0])
    assert [record.getMessage() for record in caplog.records] == [
        "resnet: the file has 5 classes, the network 3 classes; the classifier keeps its initial weights"
    ]


def test_scales_of_another_port_are_not_taken_for_a_head(old, tmp_path):
    write_old(old, tmp_path / "old.h5")
    with h5py.File(tmp_path / "old.h5", "r+") as file:
        for layer in old.layers:
            if layer.name.startswith("bn"):
                name = layer.name.replace("bn", "scale", 1)
                file[f"{name}/{name}_gamma:0"] = file[f"{name}/{name}_beta:0"] = np.ones(3, "float32")
    with pytest.raises(ValueError, match=r"its tensor 'scale.*' is not named as in a residual network"):
        weights.load(tiny(), tmp_path / "old.h5", adapt=True)
