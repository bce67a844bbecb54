"""Pictures of labels."""

import numpy as np
from PIL import Image

from keras_resnet.segmentation import pictures

PALETTE = np.uint8([[0, 0, 0], [10, 200, 30], [1, 2, 3]])
LABELS = np.uint8([[0, 1, 2], [255, 1, 1]])


def test_index_png_has_the_classes_as_indices_and_their_colors(tmp_path):
    pictures.save_index_png(LABELS, PALETTE, tmp_path / "a.png")
    image = Image.open(tmp_path / "a.png")
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image), LABELS)
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), pictures.colored(LABELS, PALETTE))


def test_colors_by_hand():
    colored = pictures.colored(LABELS, PALETTE)
    assert colored[0].tolist() == PALETTE.tolist()
    assert tuple(colored[1, 0]) == pictures.IGNORED_COLOR
    pixels = np.full((2, 3, 3), 100, "uint8")
    assert pictures.overlay(pixels, LABELS, PALETTE, alpha=0.5)[0, 1].tolist() == [55, 150, 65]
    np.testing.assert_array_equal(pictures.overlay(pixels, LABELS, PALETTE, alpha=0), pixels)


def test_errors_are_red_where_a_labeled_pixel_is_wrong():
    pixels = np.zeros((2, 3, 3), "uint8")
    errors = pictures.errors(pixels, LABELS, np.uint8([[0, 2, 2], [1, 1, 0]]))
    is_red = (errors == pictures.ERROR_COLOR).all(-1)
    assert is_red.tolist() == [[False, True, False], [False, False, True]]
    assert tuple(errors[1, 0]) == pictures.IGNORED_COLOR
    assert errors[0, 0].tolist() == [128] * 3


def test_legend_shows_every_color():
    names = [f"class {number}" for number in range(20)]
    palette = np.uint8([[number, 100, 50] for number in range(20)])
    colors = {tuple(color) for color in np.asarray(pictures.legend(names, palette)).reshape(-1, 3)}
    assert colors >= {tuple(color) for color in palette}
    assert pictures.ERROR_COLOR in colors
