"""The names of heads and backbones, which configurations check before Keras is loaded."""

from __future__ import annotations

from keras_resnet.models.architectures import ARCHITECTURES

HEADS = ("fcn", "deeplabv3", "deeplabv3_plus")
"""Heads that `models.build` knows."""

BACKBONES = {name.lower(): net for name, net in ARCHITECTURES.items() if net.stem == "imagenet"}
"""Name -> architecture of the networks that can be a backbone."""

OUTPUT_STRIDES = (8, 16, 32)
"""Strides of the backbone's last feature map with respect to the image."""

IGNORE_LABEL = 255
"""Label of the pixels that neither training nor evaluation counts."""
