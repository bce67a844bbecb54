"""The table of augmentations."""

import dataclasses

import pytest

from keras_resnet.data import augmentations
from keras_resnet.data.augmentations import Augmentations


def test_every_augmentation_has_an_option_and_a_stream_of_its_own():
    table = augmentations.PIXEL + augmentations.NORMALIZED
    options = {field.name for field in dataclasses.fields(Augmentations)}
    assert {augmentation.option for augmentation in table} | set(augmentations.MIXING) <= options
    streams = [0, 2, *(augmentation.stream for augmentation in table)]  # 0 and 2 are those of noise and of the crop
    assert len(set(streams)) == len(streams)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rand_augment": 2.0}, "rand_augment must be from 0 to 1; got 2.0"),
        ({"random_erase_prob": -0.1}, "random_erase_prob must be from 0 to 1; got -0.1"),
        ({"pca_noise": -1.0}, "pca_noise must not be negative; got -1.0"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentations(**options)
