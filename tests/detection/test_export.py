"""Exported detectors answer like the model in Python: outside Keras, and as TFLite."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.detection import export as detection
from keras_resnet.detection.data.transforms import DetectionTransform
from keras_resnet.errors import InputError
from keras_resnet.evaluation.exported import tflite
from keras_resnet.serving import publish, warmup
from tests.detection.scenes import scenes, tiny
from tests.serving import harness

TRANSFORM = DetectionTransform(128, 192, (100.0, 110.0, 120.0), (60.0, 60.0, 60.0))


def photo(seed, size=(128, 128)):
    """A scene as an image u8[H,W,3]."""
    images = scenes(1, seed, size)["images"][0]
    return np.uint8(np.clip(images * 60 + [100, 110, 120], 0, 255))


def detected(model, pixels):
    """The model's answer in Python: boxes as fractions of the image, scores, classes, count."""
    batch = TRANSFORM.batch(tf.constant(pixels))
    outputs = model.predict_on_batch(batch)
    size = np.asarray(batch["image_size"])[0]
    return outputs["boxes"][0] / [*size, *size], outputs["scores"][0], outputs["classes"][0], outputs["count"][0]


@pytest.fixture(scope="module")
def exported(trained_detector, tmp_path_factory):
    """A SavedModel, run outside Keras by the call that TF Serving uses."""
    out = tmp_path_factory.mktemp("export") / "versions"
    version = detection.export(trained_detector, out, TRANSFORM, ("red", "blue"))
    assert version == out / "1"
    assert (version / "assets/labels.txt").read_text() == "red\nblue\n"
    publish.verify(version)
    assert (version / warmup.FILE).stat().st_size > 0
    return harness.Model(version)


def test_saved_model_has_the_signature_of_the_object_detection_api(trained_detector, exported):
    pixels = photo(2, (150, 200))
    answer = exported.run("serving_default", {"input_tensor": pixels[None]})
    kinds = {name: tensor.dtype for name, tensor in exported.signatures["serving_default"][1].items()}
    names = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")
    assert kinds == dict.fromkeys(names, "float32")
    boxes, scores, classes, count = detected(trained_detector, pixels)
    assert answer["num_detections"].tolist() == [count]
    assert count > 0
    np.testing.assert_allclose(answer["detection_boxes"][0], boxes, atol=1e-4)
    np.testing.assert_allclose(answer["detection_scores"][0], scores, atol=1e-4)
    assert answer["detection_classes"][0].tolist() == classes.tolist()
    assert set(answer["detection_classes"][0][: int(count)]) <= {1, 2}
    assert answer["detection_boxes"].min() >= 0
    assert answer["detection_boxes"].max() <= 1


def test_saved_model_takes_encoded_images_of_different_sizes(trained_detector, exported):
    photos = [photo(3), photo(4, (150, 200))]
    encoded = np.array([tf.io.encode_png(pixels).numpy() for pixels in photos], dtype=object)
    answer = exported.run("serving_bytes", {"image_bytes": encoded})
    for row, pixels in enumerate(photos):
        boxes, scores, _, count = detected(trained_detector, pixels)
        assert answer["num_detections"][row] == count
        np.testing.assert_allclose(answer["detection_boxes"][row], boxes, atol=1e-4)
        np.testing.assert_allclose(answer["detection_scores"][row], scores, atol=1e-4)


def test_outputs_of_model_garden(trained_detector):
    pixels = photo(2, (64, 96))
    outputs = detection.detector(trained_detector, TRANSFORM, "model_garden")(tf.constant(pixels[None]))
    assert outputs["detection_classes"].dtype == outputs["num_detections"].dtype == tf.int32
    np.testing.assert_allclose(outputs["image_info"][0], [[64, 96], [128, 192], [2, 2], [0, 0]])
    boxes, _, _, count = detected(trained_detector, pixels)
    assert int(outputs["num_detections"][0]) == count
    np.testing.assert_allclose(outputs["detection_boxes"][0], boxes * [128, 192, 128, 192], atol=1e-2)


@pytest.mark.parametrize("pooling", ["align", "max"])
def test_tflite_of_built_in_operators(trained_detector, tmp_path, pooling):
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    model = tiny(roi_pooling=pooling)
    model.set_weights(trained_detector.get_weights())
    detection.export_tflite(model, tmp_path / "model.tflite", TRANSFORM, (128, 128))
    interpreter = litert.Interpreter(str(tmp_path / "model.tflite"))
    runner = interpreter.get_signature_runner("serving_default")
    pixels = photo(2)
    answer = runner(images=pixels[None].astype("float32"))
    boxes, scores, classes, count = detected(model, pixels)
    assert answer["num_detections"][0] == count
    assert count > 0
    np.testing.assert_allclose(answer["detection_boxes"][0], boxes, atol=1e-4)
    np.testing.assert_allclose(answer["detection_scores"][0], scores, atol=1e-4)
    assert answer["detection_classes"][0].tolist() == classes.tolist()
    with pytest.raises(InputError, match="must have one output with a score for each class"):
        tflite(tmp_path / "model.tflite")


@pytest.mark.slow
def test_exported_masks_are_the_networks(trained_mask_detector, tmp_path):
    """Ten images in TensorFlow's C API: boxes, scores and masks; encoded images of other sizes."""
    model, inputs = trained_mask_detector
    transform = DetectionTransform(128, 192, (100.0, 110.0, 120.0), (60.0, 60.0, 60.0))
    exported = harness.Model(detection.export(model, tmp_path / "versions", transform, ("red", "blue")))
    images = np.uint8(np.clip(inputs["images"][:10] * 60 + [100, 110, 120], 0, 255))
    outputs = [model.predict_on_batch(transform.batch(tf.constant(pixels))) for pixels in images]
    expected = {name: np.concatenate([output[name] for output in outputs]) for name in outputs[0]}
    answer = exported.run("serving_default", {"input_tensor": images})
    assert answer["num_detections"].tolist() == expected["count"].tolist()
    assert expected["count"].min() > 0
    np.testing.assert_allclose(answer["detection_boxes"], expected["boxes"] / 128, atol=1e-4)
    np.testing.assert_allclose(answer["detection_scores"], expected["scores"], atol=1e-4)
    assert answer["detection_masks"].shape == (10, 20, 14, 14)
    np.testing.assert_allclose(answer["detection_masks"], expected["masks"], atol=1e-4)
    assert 0.3 < (answer["detection_masks"][answer["detection_scores"] > 0.5] > 0.5).mean() < 0.9
    encoded = np.array([tf.io.encode_png(pixels).numpy() for pixels in (images[0], images[1, 10:, :100])], dtype=object)
    decoded = exported.run("serving_bytes", {"image_bytes": encoded})
    np.testing.assert_allclose(decoded["detection_masks"][0], expected["masks"][0], atol=1e-4)
    with pytest.raises(InputError, match="TFLite files cannot have masks"):
        detection.export_tflite(model, tmp_path / "model.tflite", transform, (128, 128))


def test_wrong_arguments(trained_detector, tmp_path):
    with pytest.raises(InputError, match="style must be one of 'tf_od', 'model_garden'; got 'x'"):
        detection.export(trained_detector, tmp_path / "new", TRANSFORM, ("red", "blue"), style="x")
    with pytest.raises(InputError, match="must be a file that does not exist yet"):
        detection.export_tflite(trained_detector, tmp_path, TRANSFORM, (128, 128))
    with pytest.raises(InputError, match="size must be multiples of 16; got 100x128"):
        detection.export_tflite(trained_detector, tmp_path / "new", TRANSFORM, (100, 128))
    assert not list(tmp_path.iterdir())
    assert isinstance(trained_detector, keras.Model)
