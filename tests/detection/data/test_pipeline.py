"""Batches of annotated images: boxes follow their images, and a batch is a function of seed and step."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet.detection.data import pipeline
from keras_resnet.detection.data.annotations import Annotation
from keras_resnet.detection.data.transforms import DetectionTransform
from keras_resnet.errors import InputError
from keras_resnet.ops.masks import ObjectMask

TRANSFORM = DetectionTransform(48, 64, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.fixture
def annotations(tmp_path, random):
    """Seven images of 60x80 pixels, each with a white rectangle in its box."""
    annotations = []
    for number in range(7):
        pixels = np.zeros((60, 80, 3), "uint8")
        top, left = random.integers(0, 30, 2)
        pixels[top : top + 20, left : left + 40] = 255
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels).save(path)
        box = np.float64([[top, left, top + 20, left + 40]])
        flags = np.zeros(1, bool)
        annotations.append(Annotation(str(path), number, (60, 80), box, np.int32([number % 2]), flags, flags, flags))
    return annotations


def take(dataset, count):
    return [{name: value.numpy() for name, value in batch.items()} for batch in dataset.take(count)]


@pytest.mark.parametrize(("mirror", "vertical_flip"), [(True, False), (True, True)])
def test_boxes_stay_on_what_they_enclose(annotations, mirror, vertical_flip):
    transform = DetectionTransform(30, 60, (0.0,) * 3, (255.0,) * 3)
    corners = set()
    batches = pipeline.train(annotations, 2, transform, mirror=mirror, vertical_flip=vertical_flip)
    for batch in take(batches, 10):
        assert batch["images"].shape == (2, 32, 48, 3)
        assert batch["image_size"].tolist() == [[30, 40]] * 2
        for image, (box,), (label,) in zip(batch["images"], batch["boxes"], batch["labels"], strict=True):
            top, left, bottom, right = np.round(box).astype(int)
            assert image[top + 1 : bottom - 1, left + 1 : right - 1].min() > 0.9
            assert image.sum() == pytest.approx(3 * (box[2] - box[0]) * (box[3] - box[1]), rel=0.02)
            assert label in (1, 2)
            corners.add((top, left))
    assert len(corners) > 7


@pytest.mark.parametrize("size", [30, 48, 90])
def test_masks_stay_on_their_objects(annotations, size):
    """Polygons and runs are resized and flipped as their images are; the third object has no mask."""
    transform = DetectionTransform(size, 2 * size, (0.0,) * 3, (255.0,) * 3)
    objects = []
    for annotation in annotations:
        box = ObjectMask.of_box(annotation.boxes[0], annotation.size)
        runs = dataclasses.replace(box.encoded())
        three = {name: np.repeat(getattr(annotation, name), 3, 0) for name in ("boxes", "labels", "difficult", "crowd")}
        objects.append(dataclasses.replace(annotation, **three, masks=(box, runs, None)))
    places = set()
    for batch in take(pipeline.train(objects, 1, transform, vertical_flip=True, masks=True), 12):
        height, width = batch["images"].shape[1:3]
        assert batch["masks"].shape == (1, 3, height, width // 8)
        polygon, runs, nothing = np.unpackbits(batch["masks"][0], axis=-1).astype(bool)
        assert not nothing.any()
        white = batch["images"][0, ..., 0]
        for mask in (polygon, runs):
            assert white[mask].mean() > 0.9
            assert white[~mask].mean() < 0.02
        places.add(tuple(np.argwhere(polygon)[0]))
    assert len(places) > 7


def test_masks_of_more_objects_than_max_gt_boxes(annotations):
    """The masks are those of the boxes that are kept."""
    boxes = np.float64([[0, 0, 10, 10], [0, 40, 10, 50], [30, 0, 40, 10], [30, 40, 40, 50]])
    flags = np.zeros(4, bool)
    many = dataclasses.replace(
        annotations[0],
        boxes=boxes,
        labels=np.int32([0, 1, 2, 3]),
        difficult=flags,
        crowd=flags,
        masks=tuple(ObjectMask.of_box(box, (60, 80)) for box in boxes),
    )
    transform = DetectionTransform(60, 80, (0.0,) * 3, (255.0,) * 3)
    (batch,) = take(pipeline.train([many], 1, transform, mirror=False, max_gt_boxes=2, masks=True), 1)
    drawn = np.unpackbits(batch["masks"][0], axis=-1)
    assert len(drawn) == 2
    for mask, box in zip(drawn, batch["boxes"][0], strict=True):
        assert ObjectMask.of_pixels(mask.astype(bool)).box() == tuple(box)


def test_a_batch_is_a_function_of_seed_and_step(annotations):
    whole = take(pipeline.train(annotations, 2, TRANSFORM, seed=3), 9)
    resumed = take(pipeline.train(annotations, 2, TRANSFORM, seed=3, start_step=5), 4)
    for first, second in zip(whole[5:], resumed, strict=True):
        for name in first:
            np.testing.assert_array_equal(first[name], second[name])
    (other_seed,) = take(pipeline.train(annotations, 2, TRANSFORM, seed=4), 1)
    assert not np.array_equal(whole[0]["seed"], other_seed["seed"])


def test_workers_share_a_batch(annotations):
    """The parts of two workers, joined, are the batch of one."""
    options = {"seed": 3, "vertical_flip": True}
    whole = take(pipeline.train(annotations, 4, TRANSFORM, **options), 3)
    contexts = [tf.distribute.InputContext(2, worker, 2) for worker in (0, 1)]
    parts = [take(pipeline.train(annotations, 4, TRANSFORM, context=context, **options), 3) for context in contexts]
    for batch, *worker_parts in zip(whole, *parts, strict=True):
        for name in batch:
            np.testing.assert_array_equal(np.concatenate([part[name] for part in worker_parts]), batch[name])
    with pytest.raises(InputError, match="batch_size must be a multiple of the 2 workers; got 3"):
        pipeline.train(annotations, 3, TRANSFORM, context=contexts[0])


def test_every_epoch_shows_each_image_once():
    stream = pipeline.batch_indices([list(range(7))], 2, 0, 0)
    shown = np.concatenate([next(stream)[1] for _ in range(7)])
    assert sorted(shown[:7]) == sorted(shown[7:]) == list(range(7))
    assert list(shown[:7]) != list(shown[7:])


def test_orientations_are_never_mixed_and_resume_is_exact():
    groups = [list(range(5)), list(range(5, 12))]
    stream = pipeline.batch_indices(groups, 2, 1, 0)
    whole = [next(stream) for _ in range(12)]
    assert [step for step, _ in whole] == list(range(12))
    assert all(len({place < 5 for place in batch}) == 1 for _, batch in whole)
    # Two and three batches an epoch.
    assert sum(batch[0] < 5 for _, batch in whole[:5]) == 2
    resumed = pipeline.batch_indices(groups, 2, 1, 7)
    for step, batch in whole[7:]:
        resumed_step, resumed_batch = next(resumed)
        assert resumed_step == step
        np.testing.assert_array_equal(resumed_batch, batch)


def test_more_boxes_than_max_gt_boxes(annotations):
    boxes = np.tile(annotations[0].boxes, (9, 1))
    flags = np.zeros(9, bool)
    crowded = Annotation(annotations[0].path, 0, (60, 80), boxes, np.zeros(9, "int32"), flags, flags, flags)
    (batch,) = take(pipeline.train([crowded], 1, TRANSFORM, max_gt_boxes=4), 1)
    assert batch["labels"].tolist() == [[1, 1, 1, 1]]


def test_a_damaged_image_is_named(annotations, random, tmp_path):
    path = tmp_path / "damaged.jpg"
    Image.fromarray(random.integers(0, 256, (60, 80, 3)).astype("uint8")).save(path)
    path.write_bytes(path.read_bytes()[:-1000])  # the header is intact
    damaged = dataclasses.replace(annotations[0], path=str(path))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"1 file cannot be decoded, .* \(0\): /.*/damaged\.jpg"):
        take(pipeline.train([damaged], 1, TRANSFORM), 1)
    message = r"InputError: image /.*/damaged\.jpg is missing, damaged, too large or no"
    ((_, batches),) = pipeline.evaluate([*annotations, damaged], TRANSFORM)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        take(batches, 8)


def test_batch_size_must_fit(annotations):
    with pytest.raises(InputError, match="batch_size must be from 1 to the 7 images of one orientation; got 8"):
        pipeline.train(annotations, 8, TRANSFORM)
