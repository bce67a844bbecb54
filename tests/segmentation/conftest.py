"""Shared by the tests of segmentation: a trained network."""

import keras
import pytest


@pytest.fixture(scope="session")
def trained_segmenter():
    """A small DeepLabv3 with an auxiliary head after 60 steps on striped images, which it labels well."""
    from keras_resnet.segmentation import heads, losses, models
    from tests.segmentation.nets import BASIC, normalized, striped

    keras.utils.set_random_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heads, "ASPP_FILTERS", 16)
        model = models.deeplabv3(BASIC, 3, output_stride=16, dropout=0.0, auxiliary=True)
    model.compile(keras.optimizers.Adam(5e-3), **losses.compile_options(auxiliary=True), jit_compile=False)
    images, labels = striped(16, seed=1)
    batch = {"logits": labels, "auxiliary": labels}
    model.fit(normalized(images), batch, batch_size=8, epochs=30, verbose=0, shuffle=False)
    return model
