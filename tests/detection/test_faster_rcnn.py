"""The detector as a whole: it learns, and what it computes is the same in every way it can be run."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from keras_resnet import compat
from keras_resnet.detection import average_precision, inference, multi_scale
from keras_resnet.detection.average_precision import GroundTruth
from keras_resnet.detection.data.annotations import Annotation
from keras_resnet.detection.faster_rcnn import faster_rcnn
from keras_resnet.errors import InputError
from keras_resnet.models import weights
from tests.detection.scenes import TINY, scenes, shown, tiny


def mean_ap(model, inputs):
    output = model.predict_on_batch(shown(inputs))
    found = [inference.unpacked(output, row, (1, 1)) for row in range(len(inputs["images"]))]
    truth = [
        GroundTruth(boxes[labels > 0], labels[labels > 0] - 1, np.zeros(sum(labels > 0), bool))
        for boxes, labels in zip(inputs["boxes"], inputs["labels"], strict=True)
    ]
    return average_precision.mean([curve.average() for curve in average_precision.curves(found, truth, 2)])


@pytest.mark.slow
def test_it_learns_rectangles_and_finds_new_ones(trained_detector):
    assert mean_ap(trained_detector, scenes(16, 0)) >= 0.9
    assert mean_ap(trained_detector, scenes(16, 1)) >= 0.6


def same(first, second, tolerance=1e-4):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(first[name], second[name], atol=tolerance, rtol=tolerance, err_msg=name)


def test_eager_graph_and_xla_agree(trained_detector):
    inputs = shown(scenes(2, 2))
    eager = {name: np.asarray(value) for name, value in trained_detector(inputs).items()}
    assert eager["count"].min() > 0
    same(eager, trained_detector.predict_on_batch(inputs))
    same(eager, tf.function(trained_detector.call, jit_compile=True)(inputs))


def test_each_image_of_a_padded_batch_is_detected_as_alone(trained_detector):
    alone = shown(scenes(1, 3, (96, 112), most=1))
    padded = np.zeros((2, 128, 128, 3), "float32")
    padded[0, :96, :112] = alone["images"][0]
    padded[1] = scenes(1, 4)["images"][0]
    both = trained_detector.predict_on_batch({"images": padded, "image_size": np.float32([[96, 112], [128, 128]])})
    one = trained_detector.predict_on_batch(alone)
    # The padding is not quite what lies outside an image, so numbers may differ a little at the border.
    assert both["count"][0] == one["count"][0] > 0
    assert both["classes"][0].tolist() == one["classes"][0].tolist()
    np.testing.assert_allclose(both["boxes"][0], one["boxes"][0], atol=3)
    assert (both["boxes"][0] <= [96, 112, 96, 112]).all()


def test_saved_and_loaded(trained_detector, tmp_path):
    inputs = shown(scenes(1, 2))
    expected = trained_detector.predict_on_batch(inputs)
    trained_detector.save(tmp_path / "model.keras")
    same(expected, keras.models.load_model(tmp_path / "model.keras").predict_on_batch(inputs), 1e-6)
    weights.save(trained_detector, tmp_path / "model.weights.h5")
    other = tiny()
    weights.load(other, tmp_path / "model.weights.h5")
    same(expected, other.predict_on_batch(inputs), 1e-6)


def test_refinement_looks_twice_at_the_regions_and_votes(trained_detector):
    inputs = scenes(4, 5)
    model = tiny(refine=True)
    model.set_weights(trained_detector.get_weights())
    seen = []
    model.select = lambda found, probabilities, valid: seen.append((found, probabilities, valid))
    model(shown(inputs))
    found, probabilities, _ = seen[0]
    assert found.shape == (4, 100, 2, 4)
    # The second half was looked at from the first half's best boxes.
    features = trained_detector.trunk(inputs["images"], training=False)
    again, _ = trained_detector.classify(
        features, trained_detector.best_boxes(found[:, :50], probabilities[:, :50]), inputs["image_size"]
    )
    np.testing.assert_allclose(found[:, 50:], again, atol=1e-3)
    del model.select
    assert mean_ap(model, inputs) >= 0.5


def test_one_network_at_one_scale_is_the_ensembles_simplest_case(trained_detector):
    inputs = shown(scenes(2, 6))
    same(trained_detector(inputs), multi_scale.detect([trained_detector], inputs), 1e-6)
    # Twins have the same regions, of which suppression keeps those that one keeps.
    same(trained_detector(inputs), multi_scale.detect([trained_detector, trained_detector], inputs))


def test_an_ensemble_averages(trained_detector):
    inputs = shown(scenes(1, 6))
    model = tiny()
    model.set_weights(trained_detector.get_weights())
    kernel, bias, *rest = model.siblings.get_weights()
    model.siblings.set_weights([kernel, bias + np.float32([50, 0, 0]), *rest])
    both = multi_scale.detect([trained_detector, model], inputs)
    alone = trained_detector(inputs)
    # The second net sees nothing but background, so that the mean is half of the first one's probability.
    top = int(alone["count"][0])
    np.testing.assert_allclose(both["scores"][0, :top], alone["scores"][0, :top] / 2, atol=1e-3)


def test_several_scales(trained_detector):
    inputs = shown(scenes(1, 7))
    double = {"images": tf.image.resize(inputs["images"], (256, 256)), "image_size": inputs["image_size"] * 2}
    levels = {**inputs, "pyramid": (inputs, double)}
    # At equal scales the maximum changes nothing.
    for merge in ("before", "after"):
        same(
            trained_detector(inputs),
            multi_scale.detect([trained_detector], {**inputs, "pyramid": (inputs, inputs)}, merge=merge),
        )
    found = multi_scale.detect([trained_detector], levels)
    assert found["count"][0] > 0
    assert np.abs(found["scores"] - trained_detector(inputs)["scores"]).max() > 1e-4


def test_the_two_scales_around_224_pixels_are_taken():
    sides = np.float32([20, 100, 224, 448, 1000])
    regions = tf.constant(np.stack([0 * sides, 0 * sides, sides, sides], -1)[None])
    factors = [tf.constant([[f, f]]) for f in (1 / 3, 2 / 3, 1.0, 4 / 3, 5 / 3)]
    assert multi_scale.lower_level(regions, factors).numpy().tolist() == [[3, 3, 2, 0, 0]]


def test_context_is_the_whole_images_vector(trained_detector):
    model = tiny(context=True)
    assert model.siblings.input_shape == (None, 128)
    inputs = scenes(2, 8)
    features = model.trunk(inputs["images"], training=False)
    vectors = tf.zeros([2, 5, 64])
    joined = model.with_context(vectors, features, tf.constant(inputs["image_size"]))
    whole = model.vectors(features, tf.constant([[[0.0, 0, 128, 128]]] * 2))
    np.testing.assert_array_equal(joined[..., :64], vectors)
    np.testing.assert_allclose(joined[..., 64:], np.repeat(whole, 5, 1), rtol=1e-6)


def gradients(model, inputs):
    with tf.GradientTape() as tape:
        model(inputs, training=True)
        loss = tf.add_n(model.losses)
    return loss, tape.gradient(loss, model.trainable_variables)


@pytest.mark.parametrize("pooling", ["max", "align"])
def test_every_trained_variable_gets_a_gradient(pooling):
    keras.utils.set_random_seed(1)
    model = tiny(roi_pooling=pooling, context=True)
    loss, found = gradients(model, {name: tf.constant(value) for name, value in scenes(2, 0).items()})
    assert np.isfinite(loss)
    for variable, gradient in zip(model.trainable_variables, found, strict=True):
        assert np.isfinite(tf.convert_to_tensor(gradient)).all(), compat.path(variable)
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, compat.path(variable)


def test_batch_norm_and_early_stages_stay_bit_by_bit():
    model = tiny(freeze_at=2)
    before = {compat.path(variable): variable.numpy() for variable in model.variables}
    model.compile(keras.optimizers.SGD(0.01), jit_compile=False, run_eagerly=True)
    model.train_on_batch(scenes(2, 0))
    model.train_on_batch(scenes(2, 1))
    changed = {path for path in before if not np.array_equal(before[path], _variable(model, path))}
    # Keras 2 counts the metrics' variables among them.
    changed -= {compat.path(variable) for metric in model.metrics for variable in metric.variables}
    assert changed == {compat.path(variable) for variable in model.trainable_variables}
    for path in changed:
        assert "_bn" not in path
        assert "conv1_" not in path
        assert "conv2_block" not in path


def _variable(model, path):
    return next(variable.numpy() for variable in model.variables if compat.path(variable) == path)


def test_a_picture_without_boxes_teaches_the_background_only():
    model = tiny()
    inputs = scenes(1, 0)
    inputs["boxes"][:], inputs["labels"][:] = 0, 0
    found = model(inputs, training=True)
    assert all(np.isfinite(value) for value in found.values())
    assert float(found["rpn_box_loss"]) == float(found["roi_box_loss"]) == 0
    assert float(found["rpn_class_loss"]) > 0 < float(found["roi_class_loss"])


def test_a_crowd_is_neither_object_nor_background():
    model = tiny()
    inputs = scenes(1, 0)
    inputs["boxes"][0, 0], inputs["labels"][0] = [0, 0, 128, 128], [1, 0, 0, 0]
    inputs["crowd"][0, 0] = 1
    found = model(inputs, training=True)
    assert float(found["roi_class_loss"]) == float(found["roi_box_loss"]) == 0


def test_the_backbones_weights_are_taken_by_name():
    keras.utils.set_random_seed(2)
    classifier = keras_resnet.ResNet50(classes=3)
    model = faster_rcnn("resnet50", 20, context=True)
    assert model.siblings.input_shape == (None, 4096)
    model.load_backbone(classifier)
    layers = {layer.name: layer for part in (model.trunk, model.region_network) for layer in part.layers}
    named = [layer for layer in classifier.layers if layer.weights and layer.name != "predictions"]
    assert len(named) == 106
    for layer in named:
        for ours, theirs in zip(layers[layer.name].get_weights(), layer.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(InputError, match="a layer of another shape"):
        model.load_backbone(keras_resnet.ResNet34(classes=3))
    with pytest.raises(InputError, match="a layer of another shape or stride: 'conv3_block1_1_conv'"):
        model.load_backbone(keras_resnet.ResNet50(classes=3, stride_in_1x1=False))


def test_conv5_on_the_whole_map_is_the_classifiers(random):
    """Trunk and conv5_x on a map of 14x14 cells, the size of a region, give the classification network's features."""
    classifier = keras_resnet.ResNet([*TINY.stages], block="basic", include_top=False, pooling="avg")
    model = tiny(roi_pooling="max")
    model.load_backbone(classifier)
    images = random.normal(size=(1, 224, 224, 3)).astype("float32")
    maps = model.trunk(images, training=False)
    vectors = model.pooled_vectors(maps[:, None])
    np.testing.assert_allclose(vectors[:, 0], classifier(images, training=False), atol=1e-5)


def test_half_precision_keeps_boxes_in_float32():
    model = tiny(policy="mixed_bfloat16")
    inputs = scenes(1, 0)
    assert model.trunk.compute_dtype == "bfloat16" or model.trunk.layers[1].compute_dtype == "bfloat16"
    found = model(shown(inputs))
    assert found["boxes"].dtype == found["scores"].dtype == tf.float32
    loss, _ = gradients(model, {name: tf.constant(value) for name, value in inputs.items()})
    assert np.isfinite(loss)
    assert all(variable.dtype == "float32" for variable in model.trainable_variables)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet20"}, "backbone must be one of"),
        ({"roi_pooling": "mean"}, "roi_pooling must be one of 'max', 'align'; got 'mean'"),
        ({"freeze_at": 9}, "freeze_at must be one of"),
        ({"classes": 0}, "classes must be at least 1; got 0"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(InputError, match=message):
        faster_rcnn(**{"backbone": TINY, **options})


def test_pictures_of_two_orientations_come_back_in_order(tmp_path):
    from PIL import Image

    from keras_resnet.detection.data.transforms import DetectionTransform

    pictures = []
    for number, size in enumerate([(40, 60), (60, 40), (40, 60)]):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((*size, 3), number * 50, "uint8")).save(path)
        nothing = np.zeros(0)
        pictures.append(Annotation(str(path), number, size, np.zeros((0, 4)), nothing, nothing, nothing, nothing))

    def predict(batch):
        value = float(np.asarray(batch["images"])[0, 0, 0, 0])
        box = np.array([[[0, 0, *np.asarray(batch["image_size"])[0]]]])
        return {"boxes": box, "scores": [[value]], "classes": np.array([[1]]), "count": [1]}

    view = DetectionTransform(20, 30, (0.0,) * 3, (1.0,) * 3)
    found = inference.detect(lambda b: {k: np.asarray(v) for k, v in predict(b).items()}, pictures, view)
    np.testing.assert_allclose([one.scores[0] for one in found], [0, 50, 100], atol=0.01)
    assert [one.boxes[0].tolist() for one in found] == [[0, 0, 40, 60], [0, 0, 60, 40], [0, 0, 40, 60]]
