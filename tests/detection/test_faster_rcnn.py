"""The detector as a whole: it learns, and gives the same results eagerly, as a graph, with XLA and after loading."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from keras_resnet import compat
from keras_resnet.detection import average_precision, inference, roi
from keras_resnet.detection.average_precision import GroundTruth
from keras_resnet.detection.faster_rcnn import FasterRCNN, faster_rcnn
from keras_resnet.errors import InputError
from keras_resnet.models import weights
from keras_resnet.models.architectures import Stage
from tests.detection.scenes import OPTIONS, TINY, assert_same, scenes, shown, tiny


def mean_ap(model, inputs):
    output = model.predict_on_batch(shown(inputs))
    detections = [inference.unpacked(output, row, (1, 1), (1, 1)) for row in range(len(inputs["images"]))]
    ground_truth = [
        GroundTruth(boxes[labels > 0], labels[labels > 0] - 1, np.zeros(sum(labels > 0), bool))
        for boxes, labels in zip(inputs["boxes"], inputs["labels"], strict=True)
    ]
    return average_precision.mean([curve.average() for curve in average_precision.curves(detections, ground_truth, 2)])


@pytest.mark.slow
def test_it_learns_rectangles_and_finds_new_ones(trained_detector):
    assert mean_ap(trained_detector, scenes(16, 0)) >= 0.9
    assert mean_ap(trained_detector, scenes(16, 1)) >= 0.6


def test_eager_graph_and_xla_agree(trained_detector):
    inputs = shown(scenes(2, 2))
    eager = {name: np.asarray(value) for name, value in trained_detector(inputs).items()}
    assert eager["count"].min() > 0
    assert_same(eager, trained_detector.predict_on_batch(inputs))
    assert_same(eager, tf.function(trained_detector.call, jit_compile=True)(inputs))


def test_each_image_of_a_padded_batch_is_detected_as_alone(trained_detector):
    alone = shown(scenes(1, 3, (96, 112), most=1))
    padded = np.zeros((2, 128, 128, 3), "float32")
    padded[0, :96, :112] = alone["images"][0]
    padded[1] = scenes(1, 4)["images"][0]
    in_batch = trained_detector.predict_on_batch({"images": padded, "image_size": np.float32([[96, 112], [128, 128]])})
    result = trained_detector.predict_on_batch(alone)
    # Padding becomes nonzero after the first convolution, so results differ slightly at the border.
    assert in_batch["count"][0] == result["count"][0] > 0
    assert in_batch["classes"][0].tolist() == result["classes"][0].tolist()
    np.testing.assert_allclose(in_batch["boxes"][0], result["boxes"][0], atol=3)
    assert (in_batch["boxes"][0] <= [96, 112, 96, 112]).all()


def test_saved_and_loaded(trained_detector, tmp_path):
    inputs = shown(scenes(1, 2))
    expected = trained_detector.predict_on_batch(inputs)
    trained_detector.save(tmp_path / "model.keras")
    assert_same(expected, keras.models.load_model(tmp_path / "model.keras").predict_on_batch(inputs), 1e-6)
    weights.save(trained_detector, tmp_path / "model.weights.h5")
    model = tiny()
    weights.load(model, tmp_path / "model.weights.h5")
    assert_same(expected, model.predict_on_batch(inputs), 1e-6)


@pytest.mark.parametrize("backbone", ["resnet18", TINY])
def test_configuration_goes_through_json(backbone):
    model = faster_rcnn(backbone, 3, anchor_scales=[8, 16], roi_pool_size=7, context=True, policy="mixed_bfloat16")
    config = json.loads(json.dumps(model.get_config()))
    copy = FasterRCNN.from_config(config)
    assert copy.config == model.config
    assert (copy.classes, copy.policy.name, copy.name) == (3, "mixed_bfloat16", "faster_rcnn")
    assert copy.config.backbone == backbone
    assert json.loads(json.dumps(copy.get_config())) == config


def test_configuration_of_version_0_1():
    options = {"backbone": "resnet18", "classes": 3, "policy": "float32", "name": "net", "anchor_scales": [128, 256]}
    old = {"train_proposals": [50, 40], "rpn_batch": 64, "rpn_filters": 8, "pool_size": 7, "regions": 9, "score": 0.1}
    model = FasterRCNN.from_config({**options, **old})
    assert (model.name, model.classes, model.config.anchor_scales) == ("net", 3, (128, 256))
    config = model.config
    assert (config.pre_nms_topk_train, config.post_nms_topk_train) == (50, 40)
    assert (config.rpn_batch_size_per_image, config.roi_pool_size, config.roi_batch_size_per_image) == (64, 7, 9)
    assert (config.score_thresh, config.nms_thresh) == (0.1, 0.3)


def test_refinement_classifies_the_regions_twice_and_votes(trained_detector):
    inputs = scenes(4, 5)
    model = tiny(refine=True)
    model.set_weights(trained_detector.get_weights())
    calls = []
    model.select = lambda *arguments: calls.append(arguments) or {}
    model(shown(inputs))
    ((pred_boxes, probabilities, _),) = calls
    assert pred_boxes.shape == (4, 100, 2, 4)
    # The second half comes from the best boxes of the first half.
    features = trained_detector.trunk(inputs["images"], training=False)
    best_boxes = trained_detector.best_boxes(pred_boxes[:, :50], probabilities[:, :50])
    expected, _ = trained_detector.classify(features, best_boxes, inputs["image_size"])
    np.testing.assert_allclose(pred_boxes[:, 50:], expected, atol=1e-3)
    del model.select
    assert mean_ap(model, inputs) >= 0.5


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
    loss, all_gradients = gradients(model, {name: tf.constant(value) for name, value in scenes(2, 0).items()})
    assert np.isfinite(loss)
    for variable, gradient in zip(model.trainable_variables, all_gradients, strict=True):
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


def test_an_image_without_boxes_trains_the_background_only():
    model = tiny()
    inputs = scenes(1, 0)
    inputs["boxes"][:], inputs["labels"][:] = 0, 0
    losses = model(inputs, training=True)
    assert all(np.isfinite(value) for value in losses.values())
    assert float(losses["rpn_box_loss"]) == float(losses["roi_box_loss"]) == 0
    assert float(losses["rpn_class_loss"]) > 0 < float(losses["roi_class_loss"])


def test_a_crowd_is_neither_object_nor_background():
    model = tiny()
    inputs = scenes(1, 0)
    inputs["boxes"][0, 0], inputs["labels"][0] = [0, 0, 128, 128], [1, 0, 0, 0]
    inputs["crowd"][0, 0] = 1
    losses = model(inputs, training=True)
    assert float(losses["roi_class_loss"]) == float(losses["roi_box_loss"]) == 0


def test_backbone_weights_are_loaded_by_layer_name():
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
        model.load_backbone(keras_resnet.ResNet([*TINY.stages], block="basic", include_top=False))
    # Up to the stride, which v1.5 has in the 3x3 convolution, this is a ResNet-50.
    v1_5 = keras_resnet.ResNet([(64, 3, 1), (128, 1, 2)], block="bottleneck", include_top=False, stride_in_1x1=False)
    with pytest.raises(InputError, match="a layer of another shape or stride: 'conv3_block1_1_conv'"):
        model.load_backbone(v1_5)


def test_conv5_on_the_whole_map_is_the_classifiers(random):
    """Trunk and conv5_x on a map of 14x14 cells, the size of a region, give the classification network's features."""
    classifier = keras_resnet.ResNet([*TINY.stages], block="basic", include_top=False, pooling="avg")
    model = tiny(roi_pooling="max")
    deeper = keras_resnet.ResNet([TINY.stages[0], (32, 2, 2), *TINY.stages[2:]], block="basic", include_top=False)
    with pytest.raises(InputError, match="has a further layer: 'conv3_block2_1_"):
        model.load_backbone(deeper)
    model.load_backbone(classifier)
    images = random.normal(size=(1, 224, 224, 3)).astype("float32")
    maps = model.trunk(images, training=False)
    vectors = model.pooled_vectors(maps[:, None])
    np.testing.assert_allclose(vectors[:, 0], classifier(images, training=False), atol=1e-5)


@pytest.mark.parametrize("pooling", roi.POOLINGS)
@pytest.mark.parametrize("filters", [32, 64])
def test_regions_are_those_of_conv5_with_its_stride(random, pooling, filters):
    """Bins that conv5_x skips are not computed; a last stage without more channels has a shortcut without weights."""
    stages = (*TINY.stages[:2], Stage(32, 1, 2), Stage(filters, 1, 2))
    architecture = dataclasses.replace(TINY, depth=14, block="bottleneck", stages=stages)
    model = faster_rcnn(architecture, 2, **{**OPTIONS, "roi_pooling": pooling})
    classifier = keras_resnet.ResNet([*stages], block="bottleneck", include_top=False, pooling="avg")
    for layer in classifier.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, layer.gamma.shape) for _ in range(4)])
    model.load_backbone(classifier)
    maps = random.normal(size=(1, 12, 16, 128)).astype("float32")
    boxes = np.array([[[0, 0, 192, 256], [20, 50, 120, 150], [5, 5, 30, 200]]], "float32")
    pooled = roi.POOLINGS[pooling](maps, boxes, 14, 16)
    conv5 = keras.Model(classifier.get_layer("conv4_block1_out").output, classifier.output)
    assert model.pool_step == (1 if filters == 32 else 2)
    np.testing.assert_allclose(model.vectors(maps, boxes)[0], conv5(pooled[0], training=False), rtol=1e-4, atol=1e-4)


def test_the_optimized_copy_detects_the_same():
    model = tiny(score_thresh=0.3, masks=True, context=True, refine=True)
    inputs = scenes(2, 0, size=(96, 128))  # it does not read the ground truth
    expected = model.predict_on_batch(shown(inputs))
    for precision, tolerance in (("float32", 1e-4), ("bfloat16", 0.05)):
        found = keras_resnet.optimized(model, precision)(inputs)
        assert {name: values.dtype for name, values in found.items()} == {
            name: values.dtype for name, values in expected.items()
        }
        assert expected["count"].min() > 0
        np.testing.assert_allclose(found["scores"], expected["scores"], atol=tolerance)
        if precision == "float32":
            assert_same({name: np.asarray(values) for name, values in found.items()}, expected)


def test_half_precision_keeps_boxes_in_float32():
    model = tiny(policy="mixed_bfloat16")
    inputs = scenes(1, 0)
    assert model.trunk.compute_dtype == "bfloat16" or model.trunk.layers[1].compute_dtype == "bfloat16"
    outputs = model(shown(inputs))
    assert outputs["boxes"].dtype == outputs["scores"].dtype == tf.float32
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
        ({"refined": True}, r"must be fields of FasterRCNNConfig; got 'refined' \(did you mean 'refine'\?\)"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(InputError, match=message):
        faster_rcnn(**{"backbone": TINY, **options})
