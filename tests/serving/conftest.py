"""Published networks that tests only read, shared by all modules."""

import pytest


@pytest.fixture(scope="package")
def source():
    """A small bottleneck network that resizes photos to 36 and crops 32."""
    import keras_resnet
    from tests.serving.sources import Source, settle

    stages = [(4, 1, 1), (8, 1, 2)]
    net = keras_resnet.ResNet(
        stages, stem="cifar", input_shape=(32, 32, 3), classes=7, stride_in_1x1=False, name="bottle"
    )
    return Source(settle(net), resize=36)


@pytest.fixture(scope="package")
def published(source, tmp_path_factory):
    """Its first version, in a folder of versions."""
    from keras_resnet.serving import saved_model

    return saved_model.export(source, tmp_path_factory.mktemp("models") / "bottle")


@pytest.fixture(scope="package")
def served(published):
    """The version, loaded by TensorFlow's C API."""
    from tests.serving.harness import Model

    return Model(published)


@pytest.fixture(scope="package")
def digits_run(tmp_path_factory):
    """The folder of a run on the digits with weights, without training."""
    from keras_resnet.classification.config import PRESETS
    from keras_resnet.classification.run import ClassifierRun
    from keras_resnet.data import sources
    from keras_resnet.models import weights
    from tests.serving.sources import settle

    run = ClassifierRun(tmp_path_factory.mktemp("run"), PRESETS["digits_resnet20"], sources.load("digits").info)
    run.create()
    weights.save(settle(run.build(), seed=2), run.weights)
    return run.path
