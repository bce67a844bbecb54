"""The names that options of evaluation take. Nothing is imported here, so that the command line starts quickly."""

PROTOCOLS = ("single", "ten_crop", "multi_scale")
"""Test-time protocols; see `protocols.views`."""

SCALES = (224, 256, 384, 480, 640)
"""Shorter sides of "multi_scale" in pixels, those of the paper."""

AVERAGES = ("probabilities", "logits")
"""What is averaged over views, scales and networks. The first is the paper's: it cites AlexNet and VGG, which average
the outputs of the softmax."""
