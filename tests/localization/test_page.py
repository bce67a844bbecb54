"""The page of a localizer's evaluation: the images that it chooses, and how it works in a browser."""

import numpy as np
import pytest

from keras_resnet.data.transforms import WholeImageTransform
from keras_resnet.localization import evaluate, page
from keras_resnet.localization.data import sources
from keras_resnet.localization.evaluate import Prediction
from keras_resnet.localization.metrics import TOP, Outcome, Result

IDENTITY = WholeImageTransform((0.0,) * 3, (1.0,) * 3)
CORNER = np.array([0.0, 0.0, 2.0, 2.0])


def test_the_most_confident_mistakes_and_the_closest_hits():
    ious, scores = [0.2, 0.9, None, 0.5, 0.1, 0.0], [0.3, 0.9, 0.8, 0.1, 0.8, 1.0]
    outcomes = tuple(Outcome(TOP, TOP, iou, number == 5, 0) for number, iou in enumerate(ious))
    predictions = [Prediction(n, np.zeros(1), CORNER[None], np.array([score])) for n, score in enumerate(scores)]
    assert page.choose(Result(outcomes), predictions) == ([2, 4, 0], [3, 1]), "the last one is on the blacklist"


@pytest.mark.parametrize(
    ("rank", "place", "expected"),
    [
        (1, 1, [(7, False), (3, True), (8, False)]),
        (0, TOP, [(3, False), (7, False), (8, False)]),
        (TOP, TOP, [(7, False), (8, False)]),
    ],
)
def test_predicted_classes_are_in_their_order(cache, rank, place, expected):
    (example,) = sources.load("synthetic:64x64x3").examples("val[:1]")
    example = type(example)(example.path, 0, None, 3, example.boxes)
    prediction = Prediction(0, np.array([3, 7, 8]), np.zeros((3, 4)), np.zeros(3))
    assert page.predicted(example, Outcome(rank, place, 0.5, False, len(expected)), prediction) == expected
    assert page.predicted(example, Outcome(TOP, TOP, 0.5, False, 0), prediction) == []


@pytest.fixture(scope="module")
def written(cache, tmp_path_factory):
    """The folder of a page of four images, of which the box for the true class is wrong in two."""
    examples, folder = sources.load("synthetic:64x64x3").examples("val[:4]"), tmp_path_factory.mktemp("page")
    order = iter(range(4))

    def localize(pixels, classes):
        number = next(order)
        example = examples[number]
        boxes = [CORNER if label != example.label or number > 1 else example.boxes[0] for label in classes.numpy()]
        return np.array(boxes), np.full(len(boxes), 0.6 + number / 10)

    labels = np.array([example.label for example in examples])
    classes = np.stack([(labels + 1) % 3, labels], 1)
    evaluation = evaluate.evaluate(localize, examples, IDENTITY, classes)
    names = ["circle", "the <b>square</b>", "狐"]
    details = {"command": "evaluate <x>", "scales": (64, 96)}
    page.write(folder, "Localization: val", evaluation, examples, names, IDENTITY, details)
    return folder / "index.html", [names[label] for label in labels]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")], ids=["desktop", "dark phone"])
def test_the_page(width, scheme, written, open_page):
    path, labels = written
    tab = open_page(path.as_uri(), viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert tab.title() == "Localization: val"
    assert tab.locator("h2").all_inner_texts() == ["Errors", "Classes", "Most confident mistakes", "Closest hits"]
    errors = tab.get_by_role("region", name="Errors").locator("tbody tr")
    assert errors.all_inner_texts()[0].startswith("true class error\t50.00\t15.00\t85.00\t")
    assert errors.all_inner_texts()[2].startswith("top1 localization error\t100.00\t51.01\t100.00\t")
    classes = tab.get_by_role("region", name="Classes")
    assert set(classes.locator("tbody th").all_inner_texts()) == set(labels)
    classes.get_by_role("button", name="true class error (%)").click()
    shown = [float(text) for text in classes.locator("tbody tr > :nth-child(3)").all_inner_texts()]
    assert shown == sorted(shown, reverse=True)
    mistakes = tab.get_by_role("region", name="Most confident mistakes").locator("figure")
    captions = mistakes.locator("img").evaluate_all("all => all.map((image) => image.alt)")
    assert [caption.split(": ")[0].split(", ")[1] for caption in captions] == [labels[3], labels[2]]
    assert ["score 0.90" in captions[0], "score 0.80" in captions[1]] == [True, True]
    hits = tab.get_by_role("region", name="Closest hits").locator("figure")
    assert hits.count() == 2
    for figures, expected in (
        (hits, ["miss, wrong class", "hit"]),
        (mistakes, ["miss, wrong class", "miss, wrong box"]),
    ):
        lines = figures.nth(0).locator("li").all_inner_texts()
        assert [line.partition(": ")[2] for line in lines] == expected, "the wrong class first, then the true one"
    assert tab.get_by_text("64, 96").is_visible()
