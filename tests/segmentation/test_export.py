"""Exported segmentation networks answer in TensorFlow's C API with the masks of the evaluation."""

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.errors import InputError
from keras_resnet.segmentation import evaluate, export, inference, models
from keras_resnet.serving import publish, warmup
from tests.segmentation.nets import BASIC, Transform, normalized, striped
from tests.serving import harness

NAMES = ("red", "green", "blue")


@pytest.fixture(scope="module")
def version(trained_segmenter, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "versions"
    return export.export(
        trained_segmenter, out, Transform, NAMES, probability_size=(9, 12), max_pixels=5000, warmup_size=(40, 50)
    )


@pytest.fixture(scope="module")
def served(version):
    """The version, run outside Keras by the call that TF Serving uses."""
    return harness.Model(version)


def encoded(*images):
    return np.array([tf.io.encode_png(image).numpy() for image in images], object)


def test_it_is_published_complete(version):
    assert version.name == "1"
    publish.verify(version)
    assert (version / "assets/labels.txt").read_text() == "red\ngreen\nblue\n"
    assert (version / warmup.FILE).stat().st_size > 0
    assert (version.parent / "models.config").exists()


def test_signatures(served):
    kinds = {
        name: [{key: tensor.dtype for key, tensor in part.items()} for part in parts]
        for name, parts in served.signatures.items()
        if not name.startswith("__")
    }
    assert kinds == {
        "serving_default": [{"image_bytes": "string"}, {"mask": "uint8", "size": "int32"}],
        "images": [{"images": "uint8"}, {"mask": "uint8"}],
        "probabilities": [{"image_bytes": "string"}, {"probabilities": "float32"}],
    }


def test_masks_are_those_of_the_evaluation(trained_segmenter, served):
    """20 images, as files and as pixels; equal but for ties within rounding, of which these images have none."""
    images, _ = striped(20)
    expected = evaluate.classify(inference.predictor(trained_segmenter), normalized(images), 3)
    assert set(np.unique(expected)) == {0, 1, 2}
    np.testing.assert_array_equal(served.run("images", {"images": images})["mask"], expected)
    answer = served.run("serving_default", {"image_bytes": encoded(*images)})
    np.testing.assert_array_equal(answer["mask"], expected)
    assert answer["size"].tolist() == [[48, 64]] * 20


def test_images_of_different_sizes_in_one_request(trained_segmenter, served):
    photos = [striped(1, size, seed=seed)[0][0] for seed, size in enumerate(((40, 64), (56, 32)))]
    answer = served.run("serving_default", {"image_bytes": encoded(*photos)})
    assert answer["mask"].shape == (2, 56, 64)
    assert answer["size"].tolist() == [[40, 64], [56, 32]]
    for mask, photo in zip(answer["mask"], photos, strict=True):
        height, width = photo.shape[:2]
        expected = evaluate.classify(inference.predictor(trained_segmenter), normalized(photo[None]), 3)[0]
        np.testing.assert_array_equal(mask[:height, :width], expected)
        assert (mask[height:] == 255).all()
        assert (mask[:, width:] == 255).all()


def test_probabilities_of_the_chosen_size(trained_segmenter, served):
    images, _ = striped(2)
    answer = served.run("probabilities", {"image_bytes": encoded(*images)})["probabilities"]
    logits = models.inference_model(trained_segmenter)(normalized(images), training=False)
    np.testing.assert_allclose(answer, inference.probabilities(logits, (9, 12)), atol=1e-5)
    assert answer.shape == (2, 9, 12, 3)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ([b"no image"], "the file is not a JPEG"),
        ([], "the batch must have at least one image"),
        (encoded(np.zeros((100, 100, 3), "uint8")), "the image must have from 1 to 5000 pixels"),
    ],
)
def test_bad_requests_name_the_cause(served, contents, message):
    with pytest.raises(harness.ServingError, match=message):
        served.run("serving_default", {"image_bytes": np.array(contents, object)})


def test_wrong_arguments(trained_segmenter, tmp_path):
    def fails(message, model=trained_segmenter, names=NAMES, **options):
        with pytest.raises(InputError, match=message):
            export.export(model, tmp_path / "new", Transform, names, **options)

    fails(r"class_names must be the names of the 3 classes; got 2", names=("red", "green"))
    fails(r"probability_size must be a height and a width in pixels; got \[9\]", probability_size=(9,))
    half = models.fcn(BASIC, 3, dtype="mixed_bfloat16")
    fails("model must compute in float32 to be exported; it computes in bfloat16", model=half)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("broken", ["serving_default", "images", "probabilities"])
def test_answers_that_differ_are_refused(broken, trained_segmenter, served):
    pixels, _ = striped(1)
    contents = encoded(*pixels)
    answers = {
        "serving_default": served.run("serving_default", {"image_bytes": contents}),
        "images": served.run("images", {"images": pixels}),
        "probabilities": served.run("probabilities", {"image_bytes": contents}),
    }
    model = models.inference_model(trained_segmenter)
    export._check(answers, model, Transform, pixels[0], (9, 12))
    (name,) = answers[broken].keys() - {"size"}
    answers[broken][name][0, 5, 5] = (answers[broken][name][0, 5, 5] + 1) % 3
    with pytest.raises(InputError, match="the network must give the same probabilities after the export; they differ"):
        export._check(answers, model, Transform, pixels[0], (9, 12))
