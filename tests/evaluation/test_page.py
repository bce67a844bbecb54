"""Report pages in a browser: sorting, the images behind a cell, maps, phones, and no request to anywhere."""

import json
import re

import numpy as np
import pytest

from keras_resnet.evaluation import page
from keras_resnet.evaluation.page import Confusion, Gallery, Picture, Plot, Table

NAMES = ["cat", 'the "dog" </script><!-- & co.', "狐"]
"""Names of classes that could break the page."""

LONG = " ".join(["a class with a long name"] * 12)


def picture(value, caption="a picture", **options):
    return Picture(np.full((32, 32, 3), value, "uint8"), caption, **options)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    from PIL import Image

    folder = tmp_path_factory.mktemp("page")
    Image.new("RGB", (4, 3)).save(folder / "plot.png")
    pictures = [
        picture(10, "cat taken for dog", lines=["dog 90.0 %", "cat 10.0 %"], heat_map=np.eye(4)),
        picture(20, "cat, right"),
        Picture(np.zeros((480, 640, 3), "uint8"), "a photo"),
    ]
    rows = [("cat", 10, 12.5), (NAMES[1], 9, None), ("狐", 100, 3.25)]
    sections = [
        Table("Classes", ("class", "images", "error (%)"), rows, (0, 0, 2), "a note"),
        Confusion(
            "Confusion",
            [*NAMES, LONG],
            [0, 1, 2, 3],
            [(0, 0, 7), (0, 1, 3), (2, 2, 9), (3, 3, 1)],
            {"0,1": [0], "0,0": [1]},
        ),
        Gallery("Mistakes", [0, 2]),
        Gallery("Nothing", []),
        Plot.read("Calibration", folder / "plot.png"),
    ]
    page.write(
        folder / "index.html",
        "digits & co., test",
        {"command": "evaluate <x>", "scales": [1, 2], "window": (), "seed": 0},
        sections,
        pictures,
    )
    return folder / "index.html"


def test_the_file_contains_everything(path):
    text = path.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", text)
    embedded = re.search(r'<script type="application/json" id="data">(.*)</script>\n<script>', text).group(1)
    data = json.loads(embedded)
    assert data["sections"][1]["names"] == [*NAMES, LONG]
    assert data["details"] == [["command", "evaluate <x>"], ["scales", "1, 2"], ["seed", "0"]]
    assert "<" not in embedded
    assert data["pictures"][0]["source"].startswith("data:image/png"), "small images are lossless"
    assert data["pictures"][2]["source"].startswith("data:image/jpeg")


def test_values_that_json_does_not_have_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        page.write(tmp_path / "a.html", "a", {}, [Table("t", ("x",), [(float("nan"),)], (2,))])


@pytest.fixture(params=[(1280, "light"), (390, "dark")], ids=["desktop", "dark phone"])
def opened(open_page, path, request):
    width, scheme = request.param
    return open_page(path.as_uri(), viewport={"width": width, "height": 900}, color_scheme=scheme)


def column(tab, number):
    return tab.locator(f"table:not(.matrix) tbody tr > :nth-child({number})").all_inner_texts()


def test_a_table_is_sorted_by_any_column_and_by_the_keyboard(opened):
    assert column(opened, 3) == ["12.50", "", "3.25"]
    opened.get_by_role("button", name="images", exact=True).click()
    assert column(opened, 2) == ["100", "10", "9"], "numbers: the largest first, and not as texts"
    opened.get_by_role("button", name="error (%)").focus()
    for expected in (["12.50", "3.25", ""], ["3.25", "12.50", ""]):
        opened.keyboard.press("Enter")
        assert column(opened, 3) == expected, "empty cells are last in both directions"
    opened.get_by_role("button", name="class", exact=True).click()
    assert column(opened, 1) == sorted(NAMES, key=lambda name: ("c", "t", "狐").index(name[0]))
    assert opened.locator('th[aria-sort="ascending"]').inner_text().startswith("class")


def test_a_cell_of_the_confusion_matrix_shows_its_images(opened):
    cell = opened.get_by_label(f"cat taken for {NAMES[1]}: 3 images")
    cell.click()
    assert cell.get_attribute("aria-pressed") == "true"
    shown = opened.locator("[aria-live]")
    assert shown.locator("figure").count() == 1
    assert "1 of 3 images" in shown.inner_text()
    assert "dog 90.0 %" in shown.inner_text()
    assert shown.locator("img").get_attribute("alt") == "cat taken for dog"
    opened.get_by_label("cat, right: 7 images").click()
    assert cell.get_attribute("aria-pressed") == "false"
    assert shown.locator("img").get_attribute("alt") == "cat, right"
    opened.get_by_label("狐, right: 9 images").click()
    assert "0 of 9 images" in shown.inner_text()


def test_maps_are_shown_on_demand(opened):
    canvas = opened.locator("canvas").first
    assert not canvas.is_visible()
    opened.get_by_label("Grad-CAM").check()
    assert canvas.is_visible()
    pixels = canvas.evaluate("c => [...c.getContext('2d').getImageData(0, 0, 2, 1).data]")
    assert pixels == [128, 0, 0, 255, 0, 0, 143, 255], "red for 1, blue for 0"


def test_texts_of_names_are_texts(opened):
    assert opened.title() == "digits & co., test"
    assert NAMES[1] in column(opened, 1)
    assert opened.get_by_text("evaluate <x>").is_visible()
    assert opened.get_by_text("None.").is_visible()
    assert opened.locator("h2").all_inner_texts() == ["Classes", "Confusion", "Mistakes", "Nothing", "Calibration"]


def test_long_names_leave_room_for_the_cells(opened):
    cell = opened.get_by_label(f"{LONG}, right: 1 images")
    cell.scroll_into_view_if_needed()
    cell.click()
    head, side = (opened.locator(f".matrix {part} th").last.bounding_box() for part in ("thead", "tbody"))
    assert head["height"] < 250
    assert side["width"] < 250
    assert opened.locator(".matrix tbody th span").last.get_attribute("title") == LONG


def test_links_show_the_headings_of_sections(opened):
    opened.set_viewport_size({"width": opened.viewport_size["width"], "height": 300})
    top = opened.locator("label", has=opened.locator("#maps"))
    for link in opened.locator("nav a").all():
        link.click()
        heading = opened.locator("h2", has_text=link.inner_text())
        assert heading.bounding_box()["y"] >= top.bounding_box()["y"] + top.bounding_box()["height"]
        opened.evaluate("() => scrollTo(0, 0)")
