"""Batches of both stages: pure functions of seed and step, shared by workers, and wrong files by name."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.errors import InputError
from keras_resnet.localization.data import pipeline
from keras_resnet.localization.data.examples import Example, padded_boxes
from keras_resnet.localization.data.transforms import TrainTransform
from tests.localization import sets

TRANSFORM = TrainTransform((0.0,) * 3, (1.0,) * 3, crop_size=16, scale_range=(20, 40))
WHOLE = TrainTransform((0.0,) * 3, (1.0,) * 3, crop_size=16, scale_range=(16, 16), mirror=False)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def examples(root):
    """Five images of 40x60, whose gray value tells their number, with one or two boxes, and one without a box."""
    boxes = [
        [[5.0, 5, 25, 25]],
        [[0.0, 0, 40, 60], [1, 1, 9, 9]],
        [[10.0, 30, 30, 50]],
        [[0.0, 0, 20, 20]],
        [[2.0, 2, 30, 50]],
    ]
    found = [
        Example(str(sets.save(root / f"{number}.jpg", value=40 * number)), number, (40, 60), number % 2, np.array(own))
        for number, own in enumerate(boxes)
    ]
    return [*found, Example(str(sets.save(root / "none.jpg")), 5, (40, 60), 0, np.zeros((0, 4)))]


PROPOSALS = [
    np.array([[5, 5, 25, 24], [0, 0, 8, 8]], "float32"),
    np.array([[0, 0, 40, 50], [20, 20, 39, 39]], "float32"),
    np.zeros((0, 4), "float32"),
    np.array([[30, 30, 40, 60]], "float32"),
    np.array([[2, 2, 30, 52]], "float32"),
    np.array([[2, 2, 30, 52]], "float32"),
]


def boxes_batches(examples, count, **options):
    return list(
        pipeline.train(examples, 2, options.pop("transform", TRANSFORM), **options).take(count).as_numpy_iterator()
    )


def crop_batches(examples, count, **options):
    stream = pipeline.train_crops(examples, PROPOSALS, 4, TRANSFORM, **options)
    return list(stream.take(count).as_numpy_iterator())


def assert_same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("batches", [boxes_batches, crop_batches])
def test_a_worker_that_starts_at_any_step_has_its_share_of_the_same_batches(examples, batches):
    """Of two workers, the second starts at step 5."""
    whole = batches(examples, 8, seed=3)[5:]
    size = len(whole[0]["images"]) // 2
    part = [{name: value[size:] for name, value in batch.items()} for batch in whole]
    assert_same(batches(examples, 3, seed=3, start_step=5, context=tf.distribute.InputContext(2, 1, 2)), part)
    first, second = (batch["images"].mean((1, 2, 3)).tolist() for batch in whole[:2])
    assert first != second


def test_each_epoch_has_every_image_with_a_box_once(examples):
    batches = boxes_batches(examples, 10, transform=WHOLE)
    assert {name: (value.shape, value.dtype.name) for name, value in batches[0].items()} == {
        "images": ((2, 16, 16, 3), "float32"),
        "labels": ((2,), "int32"),
        "boxes": ((2, 2, 4), "float32"),
        "seed": ((2, 2), "int32"),
    }
    order = [round(float(image.max()) / 40) for batch in batches for image in batch["images"]]
    assert [sorted(order[start : start + 5]) for start in (0, 5, 10, 15)] == [[0, 1, 2, 3, 4]] * 4
    labels = [int(label) for batch in batches for label in batch["labels"]]
    assert labels == [number % 2 for number in order]
    boxes = np.concatenate([batch["boxes"] for batch in batches])
    assert (boxes[:, 0].max(1) > 0).all()
    assert len(np.unique(np.concatenate([b["seed"] for b in batches]), axis=0)) == 20


def test_the_largest_boxes_are_kept(examples):
    boxes, starts = padded_boxes(examples, 1)
    assert starts.tolist() == [0, 1, 2, 3, 4, 5, 5]
    np.testing.assert_array_equal(boxes[1], [0, 0, 40, 60])
    assert padded_boxes(examples, 2)[1].tolist() == [0, 1, 3, 4, 5, 6, 6]


def test_proposals_are_matched_to_the_true_box(examples):
    samples = pipeline.Samples.of(examples, PROPOSALS)
    # Those of image 2 and 5 are missing: it has none, or no box. True boxes are proposals too.
    assert collections.Counter(samples.image.tolist()) == {0: 3, 1: 4, 3: 2, 4: 2}
    np.testing.assert_array_equal(samples.proposals[:3], [[5, 5, 25, 24], [0, 0, 8, 8], [5, 5, 25, 25]])
    assert sorted([*samples.positive, *samples.negative]) == list(range(11))
    assert samples.negative.tolist() == [1, 4, 7]
    np.testing.assert_array_equal(samples.boxes[3:7], [[0, 0, 40, 60]] * 3 + [[1, 1, 9, 9]])
    ignored = pipeline.Samples.of(examples, PROPOSALS, 0.97, 0.1)
    assert len(ignored.positive) + len(ignored.negative) < 11


def test_batches_of_crops_have_a_fixed_share_of_positives(examples):
    batches = crop_batches(examples, 12, positive_fraction=0.25)
    assert [batch["positive"].tolist() for batch in batches] == [[1, 0, 0, 0]] * 12
    batch = batches[0]
    assert {name: value.shape for name, value in batch.items()} == {
        "images": (4, 16, 16, 3),
        "labels": (4,),
        "proposals": (4, 4),
        "boxes": (4, 4),
        "positive": (4,),
    }
    # Each of the three negatives is seen once an epoch, each of the eight positives too.
    values = [round(float(image.mean()) / 40) for batch in batches for image in batch["images"][1:]]
    assert [sorted(values[start : start + 3]) for start in range(0, 36, 3)] == [[0, 1, 3]] * 12
    values = [round(float(batch["images"][0].mean()) / 40) for batch in batches]
    assert sorted(values[:8]) == [0, 0, 1, 1, 1, 3, 4, 4]
    lefts = set()  # of the box of image 0, and of the proposals from there: those of mirrored crops are mirrored too
    for batch in batches:
        for proposal, box, image in zip(batch["proposals"], batch["boxes"], batch["images"], strict=True):
            if image.mean() < 10:
                assert box.tolist() in ([5, 5, 25, 25], [5, 35, 25, 55])
                lefts.add((box[1], proposal[1] - box[1]))
    assert lefts <= {(5, 0), (35, 0), (35, 1), (5, -5), (35, 17)}
    assert {left for left, _ in lefts} == {5, 35}


def test_images_in_order_at_their_own_size(examples, root):
    other = Example(str(sets.save(root / "small.jpg", (10, 12), 7)), "small", None, 0, np.zeros((0, 4)))
    found = list(pipeline.evaluate([*examples, other], TRANSFORM))
    assert [index for index, _ in found] == list(range(7))
    assert found[0][1].shape == (40, 60, 3)
    assert found[6][1].shape == (10, 12, 3)
    assert found[6][1].dtype == tf.uint8


def test_wrong_batches(examples):
    with pytest.raises(InputError, match="batch_size must be from 1 to the 5 training images with a box; got 6"):
        pipeline.train(examples, 6, TRANSFORM)
    with pytest.raises(InputError, match="proposals must be those of each of the 6 images; got those of 1"):
        pipeline.train_crops(examples, PROPOSALS[:1], 4, TRANSFORM)
    with pytest.raises(InputError, match="proposals must have at least one of an image with a box; there is none"):
        pipeline.train_crops(examples, [np.zeros((0, 4))] * 6, 4, TRANSFORM)


def test_broken_images(examples, root):
    """The last test: it breaks an image."""
    (root / "0.jpg").write_bytes(b"\xff\xd8\xff broken")
    batches = boxes_batches(examples, 5, transform=WHOLE, max_broken=0.5)
    values = [round(float(image.max()) / 40) for batch in batches for image in batch["images"]]
    assert sorted(values) == [1, 1, 1, 1, 2, 2, 3, 3, 4, 4]  # the next one takes its place
    with pytest.raises(InputError, match=r"0\.jpg is missing, damaged, too large or no"):
        list(pipeline.evaluate(examples[:1], TRANSFORM))
    sets.save(root / "0.jpg", (30, 60))
    with pytest.raises(InputError, match=r"0\.jpg has 30x60 pixels, but its annotation says 40x60"):
        list(pipeline.evaluate(examples[:1], TRANSFORM))
