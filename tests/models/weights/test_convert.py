"""Networks built from weights files, and files converted to other formats."""

import numpy as np
import pytest

from keras_resnet.models import weights
from keras_resnet.models.weights import convert
from tests.models.weights.nets import call, cifar

torch = pytest.importorskip("torch")
from tests.models import torch_nets  # noqa: E402


def test_convert_there_and_back(small, images, tmp_path):
    torch.save(small.state_dict(), tmp_path / "a.pth")
    convert.convert(tmp_path / "a.pth", tmp_path / "b.weights.h5")
    convert.convert(tmp_path / "b.weights.h5", tmp_path / "c.safetensors")
    from safetensors.torch import load_file

    state = load_file(tmp_path / "c.safetensors")
    for name, value in small.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(state[name], value)
    info = convert.info(tmp_path / "c.safetensors")
    assert (info.mode, info.image_size, info.resize, len(info.class_names)) == ("torch", 224, 256, 5)
    model = convert.network(tmp_path / "c.safetensors", classifier_activation=None)
    np.testing.assert_allclose(call(model, images), torch_nets.logits(small, images), atol=1e-4)
    for out, message in (
        ("b.weights.h5", "not exist yet"),
        ("d.h5", "end in"),
        ("a.pth/d.weights.h5", "writable"),
    ):
        with pytest.raises(ValueError, match=f"out must .*{message}"):
            convert.convert(tmp_path / "a.pth", tmp_path / out)
    convert.convert(tmp_path / "a.pth", tmp_path / "new/d.weights.h5")
    assert (tmp_path / "new/d.weights.h5").is_file()


def test_files_without_an_architecture_require_the_name_of_the_model(tmp_path):
    model = cifar()
    model.save_weights(tmp_path / "a.weights.h5")
    for net in (cifar(), cifar(shortcut=None)):
        weights.load(net, tmp_path / "a.weights.h5")
        np.testing.assert_array_equal(net.get_weights()[0], model.get_weights()[0])
    with pytest.raises(
        ValueError, match="it does not state whether its network has shortcuts; pass the name of the model"
    ):
        convert.network(tmp_path / "a.weights.h5")
