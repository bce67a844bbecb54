"""Runs with random weights, small and quick to load."""

import dataclasses
import functools

import pytest


@pytest.fixture(scope="module")
def two_stages():
    """Replace ResNet-20 and the plain network by networks of two stages of one block."""
    from keras_resnet.models import resnet

    build = functools.partial(resnet.ResNet, [(8, 1, 1), (16, 1, 2)], block="basic", stem="cifar")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.CONSTRUCTORS, "resnet20", functools.partial(build, name="resnet20"))
        patch.setitem(resnet.CONSTRUCTORS, "plainnet20", functools.partial(build, name="plainnet20", shortcut=None))
        yield


@pytest.fixture(scope="module")
def run(two_stages, tmp_path_factory):
    """A workdir of a residual network for random images of 16 pixels, whose batch norm fits them."""
    from keras_resnet.classification.config import ClassifierConfig
    from keras_resnet.classification.run import ClassifierRun
    from keras_resnet.data import sources

    config = ClassifierConfig(dataset="synthetic:16x16x7", model="resnet20", batch_size=64, eval_split="test")
    dataset = sources.load(config.dataset)
    run = ClassifierRun(tmp_path_factory.mktemp("runs") / "r20", config, dataset.info)
    _write(run)
    return run


@pytest.fixture(scope="module")
def other_run(run):
    """A second run on the same images, of a plain network."""
    other = dataclasses.replace(
        run, path=run.path.with_name("plain20"), config=dataclasses.replace(run.config, model="plainnet20")
    )
    _write(other)
    return other


def _write(run):
    """Write random weights whose batch norm fits the run's images."""
    import keras

    from keras_resnet.data import pipeline, sources
    from keras_resnet.evaluation.batch_norm import recalibrate_batch_norm
    from keras_resnet.models import weights

    run.create()
    keras.utils.set_random_seed(0)
    model = run.build()
    batches = pipeline.train(sources.load(run.config.dataset), 64, run.train_transform())
    recalibrate_batch_norm(model, batches, steps=2, progress=False)
    weights.save(model, run.weights)
