"""Published weights and weights files with their preprocessing, in the API and on the command line."""

import dataclasses
import os
import pathlib
import re

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resnet
from keras_resnet.classification.config import ClassifierConfig
from keras_resnet.classification.pretrained import Pretrained, run_info
from keras_resnet.classification.run import ClassifierRun
from keras_resnet.cli import main as cli
from keras_resnet.data.dataset import DatasetInfo
from keras_resnet.models import weights
from keras_resnet.models.weights import convert, published
from keras_resnet.models.weights.published import ModelInfo

AUTHORS = "resnet50_weights_tf_dim_ordering_tf_kernels.h5"


def net(**options):
    options = {"input_shape": (32, 32, 3), "classes": 4, **options}
    return keras_resnet.ResNet([(8, 1, 1), (8, 1, 2)], **options)


@pytest.fixture(scope="module")
def caffe(tmp_path_factory):
    """A complete file, and the network that it was saved from."""
    path = tmp_path_factory.mktemp("caffe") / "a.weights.h5"
    keras.utils.set_random_seed(1)
    model = net()
    kernel = model.get_layer("predictions").kernel
    kernel.assign(kernel * 0.01)
    weights.save(model, path, ModelInfo("resnet", "caffe", 32, 36, ("cat", "dog", "horse", "ship")))
    return path, model


def test_a_complete_file(caffe, random):
    path, model = caffe
    source = Pretrained.open(path)
    assert source.dataset_info.class_names == ("cat", "dog", "horse", "ship")
    assert source.mean == pytest.approx((123.68, 116.779, 103.939))
    assert (source.image_size, source.config.model, source.config.resize) == ((32, 32), "resnet", 36)
    pixels = random.uniform(0, 255, (3, 32, 32, 3)).astype("float32")
    expected = model.predict_on_batch(keras_resnet.preprocess_input(pixels))
    assert 1e-3 < expected.min() < expected.max() < 0.99
    view = source.eval_transform()
    assert view.resize == 36
    np.testing.assert_allclose(source.load().predict_on_batch(view.batch(pixels)), expected, atol=1e-5)
    logits = source.load(classifier_activation=None).predict_on_batch(view.batch(pixels))
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), expected, atol=1e-5)
    # A network built by hand takes the preprocessing that the weights were trained with.
    by_hand = net(weights=path).predict_on_batch(keras_resnet.preprocess_input(pixels))
    np.testing.assert_allclose(by_hand, expected, atol=1e-6)


def test_it_has_the_members_of_a_run(caffe):
    for member in ("load", "eval_transform", "photo_transform", "mean", "std", "image_size", "dataset_info", "config"):
        assert hasattr(Pretrained.open(caffe[0]), member)
        assert hasattr(ClassifierRun, member) or member in ClassifierRun.__dataclass_fields__


def test_photos_of_any_size_for_weights_of_one_size(tmp_path):
    weights.save(keras_resnet.ResNet20(), tmp_path / "a.weights.h5")
    source = Pretrained.open(tmp_path / "a.weights.h5", mode="torch")
    assert (source.eval_transform().resize, source.photo_transform().resize) == (0, 32)
    assert (source.config.model, source.dataset_info.image_size) == ("resnet20", (32, 32))
    assert source.dataset_info.class_names == tuple("0123456789")


def test_what_a_file_does_not_define_is_required(tmp_path):
    path = tmp_path / "a.weights.h5"
    weights.save(keras_resnet.ResNet20(), path)
    with pytest.raises(ValueError, match="it does not state its preprocessing; pass one of caffe, torch, tf"):
        Pretrained.open(path)
    with pytest.raises(ValueError, match="preprocessing must be one of 'caffe', 'torch', 'tf'; got 'inception'"):
        Pretrained.open(path, mode="inception")
    model = net()
    model.save_weights(path)
    path.with_name(f"{path.name}.sha256").unlink()
    with pytest.raises(ValueError, match="does not state where its bottlenecks have their stride; pass stride_in_1x1"):
        Pretrained.open(path)
    with pytest.raises(ValueError, match=r"model must be one of 'resnet18', .*; got 'resnet51'"):
        Pretrained.open(path, "resnet51")
    with pytest.raises(ValueError, match="it has 1-1 bottleneck blocks, the network 3-4-6-3 bottleneck blocks"):
        Pretrained.open(path, "resnet50")
    weights.save(keras_resnet.PlainNet20(), path)
    assert Pretrained.open(path, mode="torch").config.model == "plainnet20"
    with pytest.raises(ValueError, match="it has shortcut None, the network 'A'"):
        Pretrained.open(path, "resnet20", mode="torch")
    weights.save(net(include_top=False), path)
    with pytest.raises(ValueError, match="it has no classifier"):
        Pretrained.open(path, mode="torch")


def test_a_name_needs_a_network(monkeypatch):
    with pytest.raises(
        ValueError, match="model must be given with weights 'imagenet_torchvision_v2': one of resnet50, r"
    ):
        Pretrained.open("imagenet_torchvision_v2")
    monkeypatch.setattr(published, "fetch", lambda info: pathlib.Path("fetched"))
    source = Pretrained.open("imagenet_torchvision_v2", "resnet101")
    assert (source.info.resize, source.config.dataset, source.dataset_info.image_size) == (232, "imagenet2012", None)
    assert Pretrained.open("cifar10_akamaster", "resnet32").config.dataset == "cifar10"


def command(verb, *arguments, code=0):
    assert cli.run(verb, [str(argument) for argument in arguments]) == code


def test_predict_and_convert(caffe, tmp_path, capsys):
    path, _ = caffe
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40, 3)).astype("uint8")).save(photo)
    command("predict", f"--weights={path}", "--top=2", photo)
    direct = capsys.readouterr().out
    assert direct.startswith(f"{photo}: ")
    assert direct.count(",") == 1
    command("convert", path, tmp_path / "b.safetensors")
    assert "wrote" in capsys.readouterr().out
    command("predict", f"--weights={tmp_path / 'b.safetensors'}", "--top=2", photo)
    assert capsys.readouterr().out == direct


def test_mistakes(caffe, tmp_path, capsys):
    path, _ = caffe
    for arguments, message in [
        (
            ["predict", "--workdir=a", "--weights=b", "c"],
            "one of --workdir=FOLDER and --weights=NAME.FILE must be given; got both",
        ),
        (
            ["predict", "--workdir=a", "--model=b", "c"],
            "model and preprocessing are flags of --weights; a workdir has its own",
        ),
        (["predict", "--weights=/no/such", "c"], "there is no file '/no/such'"),
        (["predict", "--weights=imagenet", path], "model must be given with weights 'imagenet': one of resnet50"),
        (
            ["predict", "--weights=imagenet", "--model=resnet20", path],
            r"weights must be one of .*'cifar10_akamaster'.* for r",
        ),
        (["convert", "a"], "convert requires two arguments, IN and OUT; got 1"),
        (["convert", "/no/such", tmp_path / "b.weights.h5"], "there is no file '/no/such'"),
        (["convert", path, tmp_path / "b.pth"], "out must end in .weights.h5 or .safetensors"),
    ]:
        command(*arguments, code=1)
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        assert re.search(message, error), error
    assert list(tmp_path.iterdir()) == []


def test_a_converted_run_keeps_its_preprocessing(tmp_path, capsys):
    info = DatasetInfo("own", ("a", "b"), (8, 8), {"train": 1}, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    run = ClassifierRun(tmp_path / "run", ClassifierConfig(), info)
    run.create()
    weights.save(run.build(), run.weights)
    command("convert", run.path, tmp_path / "b.safetensors")
    source = Pretrained.open(tmp_path / "b.safetensors")
    assert (source.mean, source.std, source.dataset_info.class_names) == (info.mean, info.std, info.class_names)
    assert (source.image_size, source.config.model) == ((8, 8), "resnet20")
    assert run_info(ClassifierRun(run.path, ClassifierConfig(exif=True), info)).exif
    wide = dataclasses.replace(info, image_size=(8, 12))
    for other in (
        ClassifierRun(run.path, ClassifierConfig(pixel_mean=True), info),
        ClassifierRun(run.path, ClassifierConfig(), wide),
    ):
        with pytest.raises(ValueError, match="without pixel_mean and with square images"):
            run_info(other)


@pytest.mark.slow
def test_the_authors_network_on_photographs(real_data):
    """Against keras.applications on the same pixels of 100 photographs."""
    folder = os.environ.get("KERAS_RESNET_TEST_WEIGHTS")
    if not folder:
        pytest.skip(f"needs the folder of {AUTHORS} in KERAS_RESNET_TEST_WEIGHTS")
    path = pathlib.Path(folder, AUTHORS)
    from keras_resnet.models.predictions import imagenet_classes
    from keras_resnet.ops import codecs

    source = Pretrained.open(path)
    view = source.eval_transform()
    photos = sorted((real_data / "imagenet_sample").glob("*.JPEG"))
    assert len(photos) == 100
    pixels = np.stack([codecs.read(str(photo), view.decode) for photo in photos])
    theirs = keras.applications.ResNet50(weights=path).predict(
        keras.applications.resnet.preprocess_input(pixels.copy()), batch_size=25, verbose=0
    )
    ids = [wnid for wnid, _ in imagenet_classes()]
    labels = [ids.index(photo.name.split("_")[0]) for photo in photos]
    for ours in (
        keras_resnet.ResNet50(weights=path).predict(keras_resnet.preprocess_input(pixels), batch_size=25, verbose=0),
        source.load().predict(view.batch(pixels), batch_size=25, verbose=0),
    ):
        difference = np.abs(ours - theirs).max()
        best = np.argsort(-ours, 1)[:, :5]
        error = 100 - np.sum(best[:, 0] == labels)
        print(f"largest difference {difference:.1e}, top-1 error {error} %, {len(photos)} photographs")
        assert difference < 1e-4
        np.testing.assert_array_equal(best, np.argsort(-theirs, 1)[:, :5])
        assert error <= 12
    assert convert.info(path).class_names[0] == "tench"
