"""Shared by the tests of segmentation: a tiny backbone, a data set, a trained run, and a trained network."""

import pathlib

import keras
import pytest

from tests.segmentation import sets
from tests.segmentation.runs import AUXILIARY, config


@pytest.fixture(scope="session")
def trained_segmenter(once):
    """A small DeepLabv3 with an auxiliary head after 60 steps on striped images, which it labels well."""
    from keras_resnet.segmentation import heads, losses, models
    from tests.segmentation.nets import BASIC, normalized, striped

    keras.utils.set_random_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heads, "ASPP_FILTERS", 16)
        model = models.deeplabv3(BASIC, 3, output_stride=16, dropout=0.0, auxiliary=True)

    def train():
        model.compile(keras.optimizers.Adam(5e-3), **losses.compile_options(auxiliary=True), jit_compile=False)
        images, labels = striped(16, seed=1)
        batch = {"logits": labels, "auxiliary": labels}
        model.fit(normalized(images), batch, batch_size=8, epochs=30, verbose=0, shuffle=False)
        return model.get_weights()

    model.set_weights(once("segmenter", train))
    return model


@pytest.fixture
def tiny_backbone(monkeypatch):
    """Make `nets.BASIC` a backbone that configurations can name."""
    from keras_resnet.segmentation.choices import BACKBONES
    from tests.segmentation.nets import BASIC

    monkeypatch.setitem(BACKBONES, "tiny", BASIC)


@pytest.fixture
def data(tmp_path, tiny_backbone) -> pathlib.Path:
    """A data set of three and two images that the test may change."""
    return sets.two_folders(tmp_path / "set")


@pytest.fixture(scope="session")
def session_run(once, tmp_path_factory) -> pathlib.Path:
    """The folder of a run of four steps, trained by the command; its data set is next to it in `set`."""
    from keras_resnet.cli import main as cli
    from keras_resnet.segmentation.choices import BACKBONES
    from tests.segmentation.nets import BASIC

    def train():
        root = tmp_path_factory.mktemp("segmentation")
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(BACKBONES, "tiny", BASIC)
            (root / "config.json").write_text(config(sets.two_folders(root / "set"), auxiliary=AUXILIARY).to_json())
            arguments = [f"--config={root / 'config.json'}", "--task=segmentation", f"--workdir={root}/run"]
            assert cli.main(["train", *arguments]) == 0
        return root / "run"

    return once("segmentation_run", train)


@pytest.fixture
def trained_run(session_run, tiny_backbone) -> pathlib.Path:
    """The folder of a trained run, which tests share and must not change."""
    return session_run
