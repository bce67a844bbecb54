"""A backbone that is small enough for tests."""

from keras_resnet.models.architectures import Architecture, Stage

TINY = Architecture(
    "Tiny", 12, "imagenet", "basic", (Stage(16, 1, 1), Stage(16, 1, 2), Stage(16, 1, 2), Stage(16, 2, 2)), "B", 64, 10
)
