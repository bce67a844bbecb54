"""Boxes of classes in an image: views, proposals, voting and the second stage."""

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.data.transforms import WholeImageTransform
from keras_resnet.errors import InputError
from keras_resnet.localization import inference
from keras_resnet.localization.data import crops
from keras_resnet.localization.inference import NO_SCORE, Candidates, Localizer, Views
from keras_resnet.localization.run import LocalizerRun
from keras_resnet.ops import boxes as box_ops

IDENTITY = WholeImageTransform((0.0,) * 3, (1.0,) * 3)


class Bright:
    """A network that finds the bright rectangle of an image: its box for class 1, and beyond the image for class 0."""

    def localize(self, images, classes):
        bright = images[0, :, :, 0] > 128
        rows, columns = tf.where(tf.reduce_any(bright, 1))[:, 0], tf.where(tf.reduce_any(bright, 0))[:, 0]
        box = tf.cast(tf.stack([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]), tf.float32)
        size = tf.cast(tf.shape(images)[1:3], tf.float32)
        whole = tf.concat([[-20.0, -20.0], size + 20.0], 0)
        boxes = tf.where(classes[0][:, None] == 1, box[None], whole[None])
        return tf.fill([1, tf.shape(classes)[1], 1], 2.0), boxes[None, :, None]


def rectangle(size, box):
    pixels = np.zeros((*size, 3), "uint8")
    pixels[box[0] : box[2], box[1] : box[3]] = 255
    return tf.constant(pixels)


@pytest.mark.parametrize(
    ("options", "atol"),
    [
        ({"protocol": "single", "crop_size": 64}, 2.0),
        ({"protocol": "single", "crop_size": 64, "resize": 64}, 1.5),
        ({"protocol": "dense", "scales": (50,)}, 1.5),
        ({"protocol": "dense", "scales": (100, 40), "mirror": True}, 3.0),
    ],
    ids=str,
)
def test_boxes_of_every_view_are_in_pixels_of_the_image(options, atol):
    box = (20, 40, 70, 90)
    localizer = Localizer(Bright(), IDENTITY, Views(**options))
    found = localizer.candidates(rectangle((100, 130), box), tf.constant([1, 0]))
    assert found.boxes.shape[1] == len(Views(**options).scales if options["protocol"] == "dense" else [1]) * (
        1 + options.get("mirror", False)
    )
    for view in found.boxes[0].numpy():
        np.testing.assert_allclose(view, box, atol=atol)
    whole = found.boxes[1, 0].numpy()
    np.testing.assert_allclose(whole, [0, 0, 100, 130])


def test_the_best_box_and_its_voters():
    boxes = tf.constant([[[0, 0, 10, 10], [0, 0, 10, 12], [50, 50, 60, 60], [0, 0, 0, 0]]], tf.float32)
    scores = tf.constant([[0.6, 0.2, 0.5, NO_SCORE]])
    best, score = inference.best(Candidates(boxes, scores))
    np.testing.assert_allclose(best, [[0, 0, 10, 10]])
    assert float(score[0]) == pytest.approx(0.6)
    voted, score = inference.best(Candidates(boxes, scores), 0.5)
    np.testing.assert_allclose(voted, [[0, 0, 10, 10.5]], atol=1e-5)
    assert float(score[0]) == pytest.approx(0.6)
    _, score = inference.best(Candidates(boxes, tf.fill([1, 4], NO_SCORE)))
    assert float(score[0]) == 0


class Fixed:
    """A network with the same boxes for every image."""

    def __init__(self, boxes, logits):
        self.boxes, self.logits = tf.constant(boxes, tf.float32), tf.constant(logits, tf.float32)

    def localize(self, images, classes):
        count = tf.shape(classes)[1]
        return tf.repeat(self.logits[None, None], count, 1), tf.repeat(self.boxes[None, None], count, 1)


@pytest.mark.parametrize(("thresh", "kept"), [(0.7, [0, 2]), (1.0, [0, 1, 2]), (0.95, [0, 1, 2])])
def test_proposals_are_the_best_boxes_after_nms(thresh, kept):
    boxes = np.array([[0, 0, 50, 50], [0, 0, 50, 45], [60, 60, 90, 90], [30, 30, 30, 40]], "float32")
    options = {"proposals": 5, "proposal_nms_thresh": thresh}
    localizer = Localizer(Fixed(boxes, [3.0, 2.0, 1.0, 5.0]), IDENTITY, Views("dense", scales=(100,)), **options)
    found = localizer.proposals(tf.zeros([100, 100, 3], tf.uint8), tf.constant([4, 0]))
    assert found.boxes.shape == (2, 5, 4)
    for row in range(2):
        np.testing.assert_allclose(found.boxes[row, : len(kept)], boxes[kept], atol=1e-4)
        np.testing.assert_array_equal(found.scores[row, len(kept) :], NO_SCORE)


def test_the_second_stage_scores_the_warped_crop_of_each_proposal_for_its_class(trained_runs):
    """Against crops and networks one by one."""
    run = LocalizerRun.open(trained_runs[1])
    localizer, example = run.localizer(), run.dataset().examples("val[:1]")[0]
    pixels = run.transform().decode(tf.io.read_file(example.path))
    classes = tf.constant([2, 0])
    proposals = localizer.proposals(pixels, classes)
    found = localizer.refine(pixels, classes, proposals)
    assert found.boxes.shape == (2, 6, 4)
    normalized = run.transform().normalize(pixels[None])[0]
    for row, label in enumerate((2, 0)):
        for number in range(6):
            box = proposals.boxes[row, number][None]
            if proposals.scores[row, number] <= NO_SCORE:
                assert found.scores[row, number] == NO_SCORE
                continue
            crop = crops.warp(normalized, box, 64)
            logits, expected = localizer.rcnn.localize(crop, box, tf.constant([[label]]))
            expected = box_ops.clip(expected[0][None], tf.constant([[64.0, 64.0]]))[0, 0]
            np.testing.assert_allclose(found.boxes[row, number], expected, atol=1e-3)
            assert float(found.scores[row, number]) == pytest.approx(float(tf.sigmoid(logits[0, 0])), abs=1e-5)
    boxes, scores = localizer(pixels, classes)
    np.testing.assert_allclose(scores, found.scores.numpy().max(1), atol=1e-5)
    assert boxes.shape == (2, 4)
    products = run.localizer(models=(localizer.rpn, localizer.rcnn), multiply_scores=True).refine(
        pixels, classes, proposals
    )
    valid = proposals.scores > NO_SCORE
    expected = tf.where(valid, found.scores * proposals.scores, NO_SCORE)
    np.testing.assert_allclose(products.scores, expected, atol=1e-5)


def test_views_must_be_possible():
    with pytest.raises(InputError, match="protocol must be one of"):
        Views("sparse")
    with pytest.raises(InputError, match="scales must be"):
        Views("dense", scales=())
