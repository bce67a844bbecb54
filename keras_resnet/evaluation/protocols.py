"""The paper's test-time protocols (sections 3.4 and 4.2), by name."""

from __future__ import annotations

from collections.abc import Sequence

from keras_resnet.data.transforms import DenseTransform, EvalTransform, IdentityTransform, TenCropTransform, Transform
from keras_resnet.errors import InputError, check_choice
from keras_resnet.evaluation.choices import PROTOCOLS, SCALES


def views(
    protocol: str, transform: EvalTransform | IdentityTransform, scales: Sequence[int] = SCALES, mirror: bool = False
) -> list[Transform]:
    """Return the transforms of the views whose scores a protocol averages.

    Args:
        protocol: "single", the transform itself, which for CIFAR is the whole image; "ten_crop", corners and center and
            their mirror images; "multi_scale", the whole image at several scales, for the fully convolutional network.
        transform: the network's test transform.
        scales: shorter sides of "multi_scale", at least 32 pixels.
        mirror: whether "multi_scale" includes the mirrored image; the paper does not mention it.

    Raises:
        ValueError: unknown protocol, no scales or too small ones, or ten crops without a margin.
    """
    check_choice("views", protocol, PROTOCOLS)
    if protocol == "single":
        return [transform]
    if isinstance(transform, IdentityTransform):
        raise InputError(f"views must be single for a network that crops whole images itself; got {protocol!r}.")
    base = (transform.size, transform.mean, transform.std)
    if protocol == "ten_crop":
        if transform.resize <= max(transform.size):
            raise InputError(
                f"resize must be above the crop, {max(transform.size)}, for ten crops; got {transform.resize}."
            )
        return [TenCropTransform(*base, transform.resize, transform.exif)]
    if not scales:
        raise InputError("scales must have at least one shorter side; got none.")
    return [DenseTransform(*base, scale, transform.exif, mirror) for scale in scales]


def is_dense(transform: Transform) -> bool:
    """Return whether a transform is for the fully convolutional form of a network."""
    return isinstance(transform, DenseTransform)
