"""Names that configurations check before TensorFlow is loaded."""

PROTOCOLS = ("single", "dense")
"""Views of an image in testing: one crop of the network's input size, or whole images at one or several scales."""
