"""The paper's ways to look at an image when testing (sections 3.4 and 4.2), by name."""

from __future__ import annotations

from collections.abc import Sequence

from keras_resnet.data.transforms import DenseTransform, EvalTransform, IdentityTransform, TenCropTransform, Transform
from keras_resnet.errors import InputError, check_choice
from keras_resnet.evaluation.choices import PROTOCOLS, SCALES


def views(
    protocol: str, view: EvalTransform | IdentityTransform, scales: Sequence[int] = SCALES, mirror: bool = False
) -> list[Transform]:
    """Return the views whose scores a protocol averages.

    Args:
        protocol: "single", the view itself, which for CIFAR is the whole image; "ten_crop", corners and centre and
            their mirror images; "multi_scale", the whole image at several scales, seen by the fully convolutional
            network.
        view: the network's view for testing.
        scales: shorter sides of "multi_scale", at least 32 pixels.
        mirror: whether "multi_scale" sees the mirrored image too; the paper does not say that it does.

    Raises:
        ValueError: another protocol, scales that are too small or none, or crops that are no smaller than the image.
    """
    check_choice("views", protocol, PROTOCOLS)
    if protocol == "single":
        return [view]
    if isinstance(view, IdentityTransform):
        raise InputError(
            f"views must be single for a network that takes whole images and crops them; got {protocol!r}."
        )
    base = (view.size, view.mean, view.std)
    if protocol == "ten_crop":
        if view.resize <= max(view.size):
            raise InputError(f"resize must be above the crop, {max(view.size)}, for ten crops; got {view.resize}.")
        return [TenCropTransform(*base, view.resize, view.exif)]
    if not scales:
        raise InputError("scales must have at least one shorter side; got none.")
    return [DenseTransform(*base, scale, view.exif, mirror) for scale in scales]


def is_dense(view: Transform) -> bool:
    """Whether a view is for the fully convolutional form of a network."""
    return isinstance(view, DenseTransform)
