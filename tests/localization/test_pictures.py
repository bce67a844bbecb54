"""Pictures of predictions."""

import numpy as np
import pytest
from PIL import Image, ImageColor

from keras_resnet.detection.evaluate import COLORS
from keras_resnet.localization import pictures

PIXELS = np.zeros((200, 320, 3), "uint8")


def color(number):
    return ImageColor.getrgb(COLORS[number])


def test_boxes_and_captions():
    picture = np.asarray(
        pictures.draw(PIXELS, [[20, 20, 60, 60]], [[100, 10, 150, 90], [0, 200, 50, 400]], ["cat 0.9", "dog 0.1"])
    )
    assert picture.shape == (200 + 2 * pictures.LINE + 4, 320, 3)
    assert tuple(picture[20, 40]) == (255, 255, 255)
    assert tuple(picture[100, 50]) == tuple(picture[149, 50]) == color(0)
    assert tuple(picture[150, 50]) == (0, 0, 0)  # bottom is the end of the last pixel
    assert tuple(picture[25, 200]) == color(1)
    for number in (0, 1):  # the captions have the colors of their boxes
        line = picture[200 + number * pictures.LINE :][: pictures.LINE]
        assert (line == color(number)).all(-1).any()


def test_the_best_box_is_on_top():
    picture = np.asarray(pictures.draw(PIXELS, [], [[10, 10, 50, 50]] * 2, ["a", "b"]))
    assert tuple(picture[10, 30]) == color(0)


def test_small_images_are_enlarged():
    picture = pictures.draw(np.zeros((40, 80, 3), "uint8"), [], [[10, 10, 20, 20]], ["猫 $1$"], title="hit")
    assert picture.size == (320, 160 + 2 * pictures.LINE + 4)
    assert tuple(np.asarray(picture)[40, 60]) == color(0)


def test_without_predictions():
    assert pictures.draw(PIXELS, np.zeros((0, 4)), np.zeros((0, 4)), []).size == (320, 200)


@pytest.mark.parametrize(("count", "size"), [(1, (100, 50)), (3, (206, 106)), (4, (206, 106))])
def test_a_sheet(count, size):
    sheet = pictures.contact_sheet([Image.new("RGB", (200, 100), "red")] * count, columns=2, width=100)
    assert sheet.size == size
    assert np.asarray(sheet)[25, 50].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("classes", "boxes", "title", "captions"),
    [
        ([2, 0], [[0, 0, 9, 9], [20, 20, 60, 50]], "hit: cat", ["emu 0.70", "cat 0.20, IoU 0.75"]),
        ([0], [[100, 100, 120, 120]], "miss: cat", ["cat 0.70, IoU 0.00"]),
        ([1, 2], [[20, 20, 60, 60]] * 2, "miss: cat", ["dog 0.70", "emu 0.20"]),
        ([], np.zeros((0, 4)), "miss: cat", []),
    ],
)
def test_hits_and_misses(monkeypatch, classes, boxes, title, captions):
    drawn = []
    monkeypatch.setattr(pictures, "draw", lambda *arguments: drawn.append(arguments[3:]))
    scores = [0.7, 0.2][: len(classes)]
    pictures.draw_outcome(PIXELS, 0, [[20, 20, 60, 60]], classes, np.array(boxes), scores, ["cat", "dog", "emu"])
    assert drawn == [(captions, title)]
