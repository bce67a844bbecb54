"""Metadata of TFLite files: input, output, labels and preprocessing, in the format of TFLite Metadata.

The buffer `TFLITE_METADATA` of the file describes its tensors. The files that it names are appended as a ZIP archive,
which `unzip model.tflite` extracts: `labels.txt`, one class a line, and `preprocessing.json`, which says how a photo
becomes the input; the schema has no field for that.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
from flatbuffers import number_types

from keras_resnet.data.transforms import EvalTransform

LABELS, PREPROCESSING = "labels.txt", "preprocessing.json"

COLOR = "RGB, values from 0 to 255; normalisation is part of the network"
RESIZE_METHOD = "bilinear, antialiased"

# Numbers of metadata_schema.fbs.
_LABELS_OF_AXIS, _RGB, _FEATURE_PROPERTIES, _IMAGE_PROPERTIES, _NORMALIZATION_OPTIONS = 2, 1, 1, 2, 1


def add(
    content: bytes,
    name: str,
    description: str,
    class_names: Sequence[str],
    size: Sequence[int],
    preprocessing: Mapping[str, Any],
) -> bytes:
    """Return a TFLite file with metadata.

    Args:
        content: the file, with one input `images` and one output `probabilities`.
        name: name of the network.
        description: one sentence about it.
        class_names: names of the classes.
        size: height and width of the input.
        preprocessing: how a photo becomes the input, in JSON's types, such as `preprocessing` of a transform.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = list(_describe(name, description, size))
    entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    model.description = description
    file = io.BytesIO(flatbuffer_utils.convert_object_to_bytearray(model))
    with zipfile.ZipFile(file, "a") as archive:
        # `ZipInfo` has a fixed date: the same network gives the same file.
        for part, text in texts(class_names, preprocessing).items():
            archive.writestr(zipfile.ZipInfo(part), text)
    return file.getvalue()


def texts(class_names: Sequence[str], preprocessing: Mapping[str, Any]) -> dict[str, str]:
    """Return name -> content of the files that describe a network: `labels.txt` and `preprocessing.json`."""
    labels = "".join(f"{label}\n" for label in class_names)
    return {LABELS: labels, PREPROCESSING: json.dumps(preprocessing, indent=2) + "\n"}


def preprocessing(transform: EvalTransform) -> dict[str, Any]:
    """Return how a photo becomes the input `images`, in JSON's types."""
    return {
        "color": COLOR,
        "resize_shorter_side": transform.resize or None,
        "resize_method": RESIZE_METHOD,
        "center_crop": list(transform.size),
        "exif_orientation": "applied" if transform.exif else "ignored",
    }


def _describe(name: str, description: str, size: Sequence[int]) -> bytes:
    """Return the buffer `TFLITE_METADATA`."""
    builder = flatbuffers.Builder()
    height, width = size
    side = _table(builder, (number_types.Uint32Flags, width), (number_types.Uint32Flags, height))
    image = _content(builder, _IMAGE_PROPERTIES, _table(builder, (number_types.Int8Flags, _RGB), side))
    # The input is pixels: the network normalizes them itself.
    options = _table(builder, _floats(builder, [0.0]), _floats(builder, [1.0]))
    unit = _table(builder, (number_types.Uint8Flags, _NORMALIZATION_OPTIONS), options)
    stats = _table(builder, _floats(builder, [255.0]), _floats(builder, [0.0]))
    images = _table(
        builder,
        builder.CreateString("images"),
        builder.CreateString("RGB photo, resized and cropped as preprocessing.json says"),
        None,
        image,
        _offsets(builder, [unit]),
        stats,
    )
    labels = _table(
        builder,
        builder.CreateString(LABELS),
        builder.CreateString("names of the classes in the order of the outputs"),
        (number_types.Int8Flags, _LABELS_OF_AXIS),
    )
    probabilities = _table(
        builder,
        builder.CreateString("probabilities"),
        builder.CreateString("probability of each class"),
        None,
        _content(builder, _FEATURE_PROPERTIES, _table(builder)),
        None,
        _table(builder, _floats(builder, [1.0]), _floats(builder, [0.0])),
        _offsets(builder, [labels]),
    )
    inputs, outputs = _offsets(builder, [images]), _offsets(builder, [probabilities])
    subgraph = _table(builder, None, None, inputs, outputs)
    more = _table(
        builder,
        builder.CreateString(PREPROCESSING),
        builder.CreateString("how a photo becomes the input"),
        (number_types.Int8Flags, 0),
    )
    root = _table(
        builder,
        builder.CreateString(name),
        builder.CreateString(description),
        None,
        _offsets(builder, [subgraph]),
        None,
        None,
        _offsets(builder, [more]),
        builder.CreateString("1.0.0"),
    )
    builder.Finish(root, file_identifier=b"M001")
    return bytes(builder.Output())


def _table(builder: flatbuffers.Builder, *fields: tuple[Any, int] | int | None) -> int:
    """Add a table: each field is an offset, a (type, number) or None, in the order of the schema."""
    builder.StartObject(len(fields))
    for slot, field in enumerate(fields):
        if isinstance(field, tuple):
            builder.PrependSlot(field[0], slot, field[1], 0)
        elif field is not None:
            builder.PrependUOffsetTRelativeSlot(slot, field, 0)
    return builder.EndObject()


def _content(builder: flatbuffers.Builder, kind: int, properties: int) -> int:
    return _table(builder, (number_types.Uint8Flags, kind), properties)


def _offsets(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    """Add a vector of tables."""
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _floats(builder: flatbuffers.Builder, values: Sequence[float]) -> int:
    """Add a vector of numbers."""
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return builder.EndVector()
