"""The mask branch: masks to learn and pasted masks against NumPy loops and pycocotools, the loss, and the network."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.detection import average_precision, inference, masks
from keras_resnet.detection.average_precision import GroundTruth
from keras_resnet.ops.masks import ObjectMask
from tests.detection.conftest import train_mask_detector
from tests.detection.scenes import shapes, shown, tiny

SIZE = 14


def polygon_or_runs(random, size):
    """A random mask: a star-shaped polygon, partly beyond the border, or the runs of a crowd, two such polygons."""
    polygons = []
    for _ in range(2):
        angles = np.sort(random.uniform(0, 2 * np.pi, random.integers(5, 12)))
        radius = random.uniform(0.2, 0.8, (len(angles), 1)) * size
        center = random.uniform(0, 1, 2) * size
        corners = center + radius * np.stack([np.sin(angles), np.cos(angles)], -1)
        polygons.append(corners[:, ::-1].ravel().tolist())
    if random.random() < 0.5:
        return polygons[:1]
    coco = pytest.importorskip("pycocotools.mask")
    return coco.merge(coco.frPyObjects(polygons, *size))


def covered(mask, region):
    """The share of the mask in each cell of a region, by a loop over the cells: f64[SIZE,SIZE]."""
    top, left, bottom, right = np.float64(region)
    shares = np.zeros((SIZE, SIZE))
    for row in range(SIZE):
        for column in range(SIZE):
            y, x = (
                low + np.array([number, number + 1]) * (high - low) / SIZE
                for low, high, number in ((top, bottom, row), (left, right, column))
            )
            weights = [
                np.clip(np.minimum(ends[1], np.arange(side) + 1) - np.maximum(ends[0], np.arange(side)), 0, None)
                for ends, side in zip((y, x), mask.shape, strict=True)
            ]
            shares[row, column] = weights[0] @ mask @ weights[1] / np.ptp(y) / np.ptp(x)
    return shares


def test_masks_to_learn_are_those_of_loops_and_pycocotools():
    """200 random polygons and runs, drawn by pycocotools; regions reach to the border and beyond the object."""
    coco = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(0)
    different = cells = 0
    for _ in range(50):
        size = tuple(map(int, random.integers(20, 70, 2)))
        segmentations = [polygon_or_runs(random, size) for _ in range(4)]
        drawn = []
        for segmentation in segmentations:
            encoded = segmentation if isinstance(segmentation, dict) else coco.frPyObjects(segmentation, *size)[0]
            drawn.append(coco.decode(encoded).astype(bool))
        corner = random.uniform(0, 0.6, (4, 2)) * size * (random.random((4, 1)) < 0.7)  # 0: at the border
        regions = np.concatenate([corner, corner + random.uniform(0.3, 1, (4, 2)) * (size - corner)], -1)
        read = [ObjectMask.of_coco(segmentation, size) for segmentation in segmentations]
        bits = masks.packed(np.stack([mask.draw() for mask in read]))
        found = masks.targets(
            tf.constant(bits[None]), tf.constant(regions[None], tf.float32), tf.constant([[0, 1, 2, 3]]), SIZE
        )[0]
        for target, mask, region in zip(found.numpy(), drawn, np.float32(regions), strict=True):
            shares = covered(mask, region)
            clear = np.abs(shares - 0.5) > 1e-4
            np.testing.assert_array_equal(target[clear], shares[clear] > 0.5)
            different, cells = different + np.sum(~clear), cells + shares.size
    assert different / cells < 0.001


def interpolated(mask, y, x):
    """The bilinear value of a mask f64[M,M] at a place in cells from its corner, 0 outside, by its four neighbors."""
    value = 0.0
    for row in (int(np.floor(y - 0.5)), int(np.floor(y - 0.5)) + 1):
        for column in (int(np.floor(x - 0.5)), int(np.floor(x - 0.5)) + 1):
            if 0 <= row < len(mask) and 0 <= column < len(mask):
                value += mask[row, column] * (1 - abs(y - 0.5 - row)) * (1 - abs(x - 0.5 - column))
    return value


def test_pasted_masks_are_those_of_a_loop_over_pixels():
    random = np.random.default_rng(0)
    for number in range(40):
        size = tuple(map(int, random.integers(8, 24, 2)))
        mask = random.random((SIZE, SIZE)).astype("float32") ** (number % 3)  # all ones, noise, and sparse
        corner = random.uniform(-0.2, 0.6, 2) * size
        box = np.concatenate([corner, corner + random.uniform(1, np.array(size))])
        expected = np.zeros(size)
        for row, column in np.ndindex(size):
            y, x = (np.array([row, column]) + 0.5 - box[:2]) / (box[2:] - box[:2])
            if 0 <= y <= 1 and 0 <= x <= 1:
                expected[row, column] = interpolated(mask.astype("float64"), y * SIZE, x * SIZE)
        clear = np.abs(expected - 0.5) > 1e-6
        np.testing.assert_array_equal(masks.paste(mask, box, size)[clear], expected[clear] > 0.5)


def test_a_mask_that_is_learned_exactly_is_pasted_in_place():
    """200 objects: an object's own mask, pasted, covers it up to the size of a cell."""
    random = np.random.default_rng(1)
    ious = []
    for _ in range(200):
        mask = ObjectMask.of_coco(polygon_or_runs(random, (120, 160)), (120, 160)).encoded()
        box = np.array(mask.box())
        if mask.draw().sum() < 400:
            continue
        bits = tf.constant(masks.packed(mask.draw()[None])[None])
        target = masks.targets(bits, tf.constant(box[None, None], tf.float32), tf.constant([[0]]), SIZE)[0, 0].numpy()
        pasted = ObjectMask.of_pixels(masks.paste(target, box, (120, 160)))
        ious.append(average_precision.object_masks.pairwise_iou([pasted], [mask])[0, 0])
    assert len(ious) > 150
    assert np.mean(ious) > 0.9
    assert min(ious) > 0.6


def test_packed_masks(random):
    drawn = random.random((3, 5, 21)) < 0.5
    bits = masks.packed(drawn)
    assert bits.shape == (3, 5, 3)
    np.testing.assert_array_equal(masks.unpacked(tf.constant(bits))[..., :21], drawn)


@pytest.fixture(scope="module")
def inputs():
    return shapes(2, 0, (64, 96), most=2)


def test_the_loss_of_a_mask_reaches_its_class_alone(inputs):
    """All objects are of class 1: the mask of class 2 has no gradient, that of class 1 has, as have earlier layers."""
    keras.utils.set_random_seed(0)
    model = tiny(masks=True)
    ones = {**inputs, "labels": np.minimum(inputs["labels"], 1)}
    with tf.GradientTape() as tape:
        loss = model(ones, training=True)["mask_loss"]
    kernel, bias = model.mask_head.get_layer("logits").trainable_variables
    earlier = model.mask_head.get_layer("upsampling").trainable_variables[0]
    trunk = model.trunk.trainable_variables[0]
    gradients = [
        np.asarray(gradient) for gradient in tape.gradient(loss, [v.value for v in (kernel, bias, earlier, trunk)])
    ]
    assert np.abs(gradients[0][..., 0]).min() > 0
    assert abs(gradients[1][0]) > 0
    assert not gradients[0][..., 1].any()
    assert gradients[1][1] == 0
    assert np.abs(gradients[2]).max() > 0
    assert np.abs(gradients[3]).max() > 0


def test_objects_without_a_mask_have_no_mask_loss(inputs):
    keras.utils.set_random_seed(0)
    model = tiny(masks=True)
    values = model({**inputs, "masks": np.zeros_like(inputs["masks"])}, training=True)
    assert values["mask_loss"] == 0
    assert values["roi_class_loss"] > 0


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="plain"),
        pytest.param({"refine": True, "context": True}, id="refined", marks=pytest.mark.soak),
    ],
)
def test_boxes_are_those_of_the_network_without_masks(inputs, options):
    """To the bit: initial weights, losses and detections; masks are those of the final boxes, in chunks of any size."""
    models = {}
    for flag in (False, True):
        keras.utils.set_random_seed(0)
        models[flag] = tiny(masks=flag, score_thresh=0.0, region_chunk=9, **options)
    weights = [{weight.path: np.asarray(weight) for weight in model.weights} for model in models.values()]
    for path, value in weights[0].items():
        np.testing.assert_array_equal(weights[1][path], value)
    losses = [model(inputs, training=True) for model in models.values()]
    for name, value in losses[0].items():
        np.testing.assert_array_equal(losses[1][name], value)
    plain, masked = (model.predict_on_batch(shown(inputs)) for model in models.values())
    for name, value in plain.items():
        np.testing.assert_array_equal(masked[name], value)
    assert set(masked) - set(plain) == {"masks"}
    assert masked["masks"].shape == (2, 20, SIZE, SIZE)
    assert not masked["masks"][masked["classes"] == 0].any()
    assert masked["count"].min() > 9
    whole = tiny(masks=True, score_thresh=0.0, region_chunk=64, **options)
    whole.set_weights(models[True].get_weights())
    np.testing.assert_allclose(whole.predict_on_batch(shown(inputs))["masks"], masked["masks"], atol=1e-5)
    features = whole.trunk(inputs["images"], training=False)
    logits = whole._mask_logits(features, masked["boxes"][:, :3], masked["classes"][:, :3])
    np.testing.assert_allclose(tf.sigmoid(logits), masked["masks"][:, :3], atol=1e-5)


def mean_mask_ap(model, inputs):
    """Mask AP at an IoU of 0.5 on the training images, of which some objects are partly hidden."""
    outputs = model.predict_on_batch(shown(inputs))
    pixels = np.unpackbits(inputs["masks"], axis=-1).astype(bool)
    truth = []
    for boxes, labels, drawn in zip(inputs["boxes"], inputs["labels"], pixels, strict=True):
        kept = labels > 0
        objects = tuple(map(ObjectMask.of_pixels, drawn[kept]))
        truth.append(GroundTruth(np.float64(boxes[kept]), labels[kept] - 1, np.zeros(kept.sum(), bool), objects))
    detections = [inference.unpacked(outputs, row, (128, 128), (128, 128)) for row in range(len(truth))]
    curves = average_precision.curves(detections, truth, 2, masks=True)
    assert min(curve.expected for curve in curves) > 10
    return average_precision.mean([curve.average() for curve in curves])


@pytest.mark.slow
def test_shapes_are_learned(trained_mask_detector):
    assert mean_mask_ap(*trained_mask_detector) >= 0.5


@pytest.mark.soak
def test_overlapping_shapes_are_learned():
    assert mean_mask_ap(*train_mask_detector(300)) >= 0.9
