"""Mask files: values, palettes, colors and what is refused."""

import numpy as np
import pytest
from PIL import Image

from keras_resnet.errors import InputError
from keras_resnet.segmentation.data.masks import MaskFormat
from tests.segmentation.sets import save

VALUES = np.array([[0, 1, 2], [2, 255, 1]], "uint8")
COLORS = np.array([[128, 64, 128], [0, 0, 0], [70, 70, 70]], "uint8")
NO_COLORS = np.zeros((0, 3), "uint8")


@pytest.mark.parametrize(
    ("array", "options"),
    [
        (VALUES, {}),
        (VALUES, {"palette": True}),
        (VALUES.astype("uint16"), {}),
        (np.repeat(VALUES[..., None], 3, -1), {}),
        (np.concatenate([np.repeat(VALUES[..., None], 3, -1), np.full((2, 3, 1), 7, "uint8")], -1), {}),
        (np.stack([VALUES, np.full_like(VALUES, 9)], -1), {}),
    ],
    ids=["gray", "palette by index", "16 bits", "gray in RGB", "gray in RGB with alpha", "gray with alpha"],
)
def test_values_are_classes(tmp_path, array, options):
    np.testing.assert_array_equal(MaskFormat(3).read(save(tmp_path / "m.png", array, **options)), VALUES)


def test_values_of_classes_and_to_ignore(tmp_path):
    path = save(tmp_path / "m.png", np.uint8([[0, 10, 255, 7]]))
    assert MaskFormat(2, (10, 255), (0, 7)).read(path).tolist() == [[255, 0, 1, 255]]
    assert MaskFormat(1, (10,), (0, 7)).read(path).tolist() == [[255, 0, 255, 255]]


def test_black_and_white_masks(tmp_path):
    path = save(tmp_path / "m.png", np.uint8([[0, 255]]), mode="1")
    assert MaskFormat(2).read(path).tolist() == [[0, 1]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_table_of_colors_decides(tmp_path, mode):
    index = np.array([[0, 2, 1], [1, 0, 0]])
    path = tmp_path / "m.png"
    Image.fromarray(COLORS[index]).convert(mode, palette=Image.Palette.ADAPTIVE).save(path)
    format = MaskFormat(2, colors=COLORS[[2, 0]], ignored_colors=COLORS[[1]])
    assert format.read(path).tolist() == [[1, 0, 255], [255, 1, 1]]


@pytest.mark.parametrize(
    ("array", "name", "format", "message"),
    [
        (
            VALUES + np.uint8(3),
            "m.png",
            MaskFormat(3),
            r"m.png' has the value 3 \(row 0, column 0\); its values are 2, 3, 4, 5, allowed are 0 to 2",
        ),
        (VALUES.astype("uint16") + 300, "m.png", MaskFormat(3), "has the value 300"),
        (VALUES, "m.jpg", MaskFormat(3), "m.jpg' is a JPEG, whose compression changes the classes; write masks as PNG"),
        (COLORS[[[0, 1]]], "m.png", MaskFormat(3), "m.png' is an RGB image: its colors require a table"),
        (
            COLORS[[[0, 1]]],
            "m.png",
            MaskFormat(1, colors=COLORS[:1], ignored_colors=NO_COLORS),
            r"m.png' has the color 0,0,0 \(row 0, column 1\), which the table of colors does not have",
        ),
        (np.float32([[0.5]]), "m.tif", MaskFormat(3), "m.tif' must have whole numbers; it has fractions"),
    ],
    ids=["value", "16-bit value", "JPEG", "RGB without a table", "color", "floating point"],
)
def test_wrong_masks_are_named(tmp_path, array, name, format, message):
    with pytest.raises(InputError, match=message):
        format.read(save(tmp_path / name, array))


def test_missing_and_damaged_masks_are_named(tmp_path):
    with pytest.raises(InputError, match=r"there is no mask '.*x\.png'"):
        MaskFormat(3).read(tmp_path / "x.png")
    path = save(tmp_path / "m.png", np.zeros((50, 50), "uint8"))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match=r"mask '.*m\.png' cannot be read"):
        MaskFormat(3).read(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"values": (0, 1)}, "label_values must be one value for each of the 3 classes"),
        ({"values": (0, 1, 1)}, "label_values must be different integers from 0 to 65535"),
        ({"ignored": (-1,)}, "ignore_labels must be different integers"),
        ({"values": (0, 1, 2), "ignored": (2,)}, "ignore_labels must not be values of the 3 classes; got 2"),
        ({"ignored": (0,)}, "got 0. Name the other classes only, and give their values: --label_values=1,2"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        MaskFormat(3, **options)
