"""What is known of weights: the network, preprocessing, crop, classes and origin; on disk a card, `config.json`."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
from typing import Any

from keras_resnet.errors import InputError
from keras_resnet.ops.normalization import MODES, Normalization

CARD = "config.json"
"""Name of the card in a folder of weights, next to `WEIGHTS`."""

WEIGHTS = "model.safetensors"
"""Name of the weights in such a folder."""


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """Metadata of weights: the network, preprocessing, crop, classes and origin.

    Attributes:
        model: name of the constructor in lower case; "resnet" for networks that are not in the paper.
        mode: preprocessing, a key of `normalization.MODES`; "" if `mean` and `std` define it.
        image_size: height and width of the crop in pixels.
        resize: shorter side in pixels before the center crop; 0 if the whole image is resized to `image_size`.
        class_names: names of the classes in the order of the outputs.
        mean: mean of each RGB channel in [0, 255], if `mode` is "".
        std: standard deviation of each RGB channel, if `mode` is "".
        weights: name of published weights; "" for others.
        stride_in_1x1: whether bottlenecks have their stride in the first 1x1 (v1) rather than in the 3x3 (v1.5).
        top1_error: top-1 error of the center crop in percent, if known.
        top5_error: top-5 error of the center crop in percent, if known.
        source: publisher of the weights.
        licence: license of the weights.
        url: address of the file.
        digest: "md5:" or "sha256:" followed by the published digest; of SHA-256 digests, possibly only the first
            digits.
        verified: whether the published file itself has been loaded and tested with this package.
        exif: whether to rotate JPEGs by their EXIF orientation.
        dataset: name of the data set that the weights were trained on; "" if unknown, as are the following fields.
        split: split of the data set that the errors were measured on.
        command: command that trains the weights.
        commit: version of this package's sources that trained them.
        seed: seed of the training.
        steps: number of training steps.
        device: hardware that trained them.
        date: day on which the training ended, YYYY-MM-DD.
    """

    model: str
    mode: str
    image_size: int
    resize: int
    class_names: tuple[str, ...] = dataclasses.field(repr=False)
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    weights: str = ""
    stride_in_1x1: bool | None = None
    top1_error: float | None = None
    top5_error: float | None = None
    source: str = ""
    licence: str = ""
    url: str = ""
    digest: str = ""
    verified: bool = False
    exif: bool = False
    dataset: str = ""
    split: str = ""
    command: str = ""
    commit: str = ""
    seed: int | None = None
    steps: int | None = None
    device: str = ""
    date: str = ""

    @property
    def normalization(self) -> Normalization:
        """The preprocessing, as `mode` of `preprocess_input`."""
        if self.mode:
            return MODES[self.mode]
        assert self.mean is not None
        assert self.std is not None
        return Normalization(self.mean, self.std)

    def to_dict(self) -> dict[str, Any]:
        """Return the metadata as a dictionary for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelInfo:
        """Read a dictionary of `to_dict`; fields of later versions are ignored.

        Raises:
            ValueError: a value is missing or invalid.
        """
        if not isinstance(values, dict):
            raise InputError("its metadata on preprocessing is not a JSON object")
        known = dataclasses.fields(cls)
        for field in known:
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if required and field.name not in values:
                raise InputError(f"its metadata on preprocessing has no {field.name!r}")
        names = {field.name for field in known}
        fields: dict[str, Any]
        try:
            fields = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items() if n in names}
            info = cls(**fields)
            statistics: tuple[Any, Any] = (info.mean, info.std)
            valid = info.mode in MODES or (
                info.mode == "" and all(len(v) == 3 and all(map(math.isfinite, v)) for v in statistics)
            )
            valid = valid and all(isinstance(name, str) for name in (info.model, *info.class_names))
            valid = valid and isinstance(info.image_size, int) and isinstance(info.resize, int)
        except (TypeError, AttributeError) as error:
            raise InputError(f"its metadata on preprocessing cannot be read: {error}") from error
        if not valid:
            raise InputError("its metadata on preprocessing is invalid")
        return info

    def to_card(self) -> str:
        """Return the text of the card."""
        return json.dumps({"library": "keras_resnet", **self.to_dict()}, indent=2) + "\n"

    @classmethod
    def from_card(cls, text: str | bytes) -> ModelInfo:
        """Read a card, which states the file of the weights and its whole SHA-256.

        Raises:
            ValueError: the text is not a card of this package, or a field is missing or invalid.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise InputError(f"its {CARD} is not JSON") from error
        if not isinstance(values, dict) or values.get("library") != "keras_resnet":
            raise InputError(f'its {CARD} is not one of this package: it has no "library": "keras_resnet"')
        info = cls.from_dict(values)
        algorithm, _, digits = str(info.digest).partition(":")
        if algorithm != "sha256" or len(digits) != 64 or info.url != WEIGHTS:
            raise InputError(f"its {CARD} does not state the SHA-256 of {WEIGHTS}")
        return info

    @classmethod
    def of_folder(cls, folder: str | os.PathLike[str]) -> ModelInfo:
        """Read the card of a folder of weights; `url` is the address of the file in it.

        Raises:
            ValueError: as for `from_card`.
        """
        folder = pathlib.Path(folder)
        info = cls.from_card((folder / CARD).read_bytes())
        return dataclasses.replace(info, url=(folder.absolute() / WEIGHTS).as_uri())
