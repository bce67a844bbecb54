"""The captions of a report's images."""

import numpy as np

from keras_resnet.classification import page
from keras_resnet.data import sources
from keras_resnet.data.transforms import NO_NORMALIZATION, EvalTransform
from keras_resnet.evaluation.metrics import Outcomes


def test_two_classes_of_one_name_are_two_classes():
    """ImageNet has two cranes and two maillots."""
    images = np.zeros((2, 8, 8, 3), "uint8")
    dataset = sources.from_arrays(images, np.array([0, 1]), ("crane", "crane"))
    outcomes = Outcomes(2, np.array([0, 1]), np.zeros(2, int), np.array([0, 1]), np.array([0.9, 0.8]), np.zeros(2))
    transform = EvalTransform((8, 8), *NO_NORMALIZATION)
    pictures = page._pictures(outcomes, [0, 1], ["crane"] * 2, dataset, "train", transform, None)
    captions = [picture.caption for picture in pictures]
    assert captions == ["crane, 90.0 % sure (image 0)", "crane taken for crane, 80.0 % sure (image 1)"]
