"""Shared by the tests of detection: a tiny backbone, a data set, and a trained run."""

import pathlib

import pytest

from tests.conftest import KERAS_2
from tests.detection.runs import config, write_scenes


@pytest.fixture
def tiny_backbone(monkeypatch):
    """Make `scenes.TINY` a backbone that configurations can name."""
    from keras_resnet.detection.config import BACKBONES
    from tests.detection.scenes import TINY

    monkeypatch.setitem(BACKBONES, "tiny", TINY)


@pytest.fixture
def data(tmp_path, tiny_backbone) -> pathlib.Path:
    """A data set of six images that the test may change."""
    return write_scenes(tmp_path / "voc")


@pytest.fixture(scope="session")
def session_run(once, tmp_path_factory) -> pathlib.Path:
    """The folder of a run of four steps, trained by the command; its data set is next to it in `voc`."""
    from keras_resnet.cli import main as cli
    from keras_resnet.detection.config import BACKBONES
    from tests.detection.scenes import TINY

    def train():
        root = tmp_path_factory.mktemp("detection")
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(BACKBONES, "tiny", TINY)
            (root / "config.json").write_text(config(write_scenes(root / "voc")).to_json())
            assert cli.main(["train", f"--config={root / 'config.json'}", f"--workdir={root / 'run'}"]) == 0
        return root / "run"

    return once("detection_run", train)


@pytest.fixture
def trained_run(session_run, tiny_backbone) -> pathlib.Path:
    """The folder of a trained run, which tests share and must not change."""
    return session_run


@pytest.fixture(scope="session")
def trained_detector(once):
    """A small detector after 200 steps on 16 synthetic images; after 100 on Keras 2, which only exports it."""
    import keras
    import tensorflow as tf

    from tests.detection.scenes import scenes, tiny

    def train():
        keras.utils.set_random_seed(0)
        model = tiny()
        model.compile(keras.optimizers.Adam(2e-3), jit_compile=False)
        model.optimizer.build(model.trainable_variables)  # otherwise Keras traces the step twice
        batches = tf.data.Dataset.from_tensor_slices(scenes(16, 0)).repeat().batch(4)
        model.fit(batches, steps_per_epoch=100 if KERAS_2 else 200, verbose=0, shuffle=False)
        return model.get_weights()

    weights = once("detector", train)
    model = tiny()
    model.set_weights(weights)
    return model


def train_mask_detector(steps):
    """Return a small detector with masks after training on 16 synthetic images, and these."""
    import keras
    import tensorflow as tf

    from keras_resnet.detection import masks
    from tests.detection.scenes import shapes, tiny

    keras.utils.set_random_seed(0)
    inputs = shapes(16, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "FILTERS", 64)
        model = tiny(masks=True, nms_thresh=0.5)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    model.compile(keras.optimizers.Adam(rate), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    model.fit(tf.data.Dataset.from_tensor_slices(inputs).repeat().batch(4), steps_per_epoch=steps, verbose=0)
    return model, inputs


@pytest.fixture(scope="session")
def trained_mask_detector():
    """A small detector with masks that finds most of 16 synthetic images' objects, and these images."""
    return train_mask_detector(120)
