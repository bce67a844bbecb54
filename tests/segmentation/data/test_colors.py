"""Colors of classes: VOC's color map and tables of colors."""

import numpy as np
import pytest

from keras_resnet.errors import InputError
from keras_resnet.segmentation.data import colors


def test_the_colors_of_voc():
    """As in the palettes of VOC's masks: background, aeroplane, bicycle, ..., tvmonitor."""
    table = colors.voc_colormap(256)
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 7: (128, 128, 128), 8: (64, 0, 0)}
    known |= {15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    for index, color in known.items():
        assert tuple(table[index]) == color


def test_only_a_background_is_black():
    assert colors.palette(("background", "cat"))[0].tolist() == [0, 0, 0]
    assert colors.palette(("sky", "road")).tolist() == [[128, 0, 0], [0, 128, 0]]
    assert colors.to_hex(np.uint8([[128, 0, 255]])) == ("#8000ff",)


@pytest.mark.parametrize(
    "text",
    [
        "128 64 128\t\troad\n0 0 0 Void\n70 70 70 big building\n",
        "name,r,g,b\nroad,128,64,128\nVoid,0,0,0\nbig building,70,70,70\n",
        "road;128;64;128\r\nvoid; 0; 0; 0\r\n\r\nbig building;70;70;70\r\n",
        "# colors\n128, 64, 128, road\n0,0,0,unlabeled\n70,70,70,big building",
    ],
    ids=["CamVid", "CSV", "semicolons", "numbers first"],
)
def test_tables(tmp_path, text):
    path = tmp_path / "label_colors.txt"
    path.write_text(text)
    table = colors.read_table(path)
    assert table.names == ("road", "big building")
    assert table.colors.tolist() == [[128, 64, 128], [70, 70, 70], [0, 0, 0]]
    assert table.values == (0, 2, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("road,1,2,3\ncar,1,2", "line 2 is 'car,1,2'"),
        ("road,1,2,300\ncar,1,2,3\ntree,1,2,999", "line 3 is 'tree,1,2,999'"),
        ("road,1,2,3\ncar,1,2,3", "gives the color 1,2,3 to both 'road' and 'car'"),
        ("road,1,2,3\nroad,1,2,4", "has the class 'road' twice"),
        ("void,0,0,0", "must have the color of at least one class"),
    ],
)
def test_wrong_tables(tmp_path, text, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        colors.read_table(path)
