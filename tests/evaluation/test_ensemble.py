"""Protocols and ensembles over data sets compared with averages in NumPy."""

import numpy as np
import pytest

from keras_resnet.data import pipeline, sources
from keras_resnet.data.transforms import DenseTransform, EvalTransform
from keras_resnet.evaluation import ensemble, metrics
from keras_resnet.evaluation.dense import fully_convolutional


@pytest.fixture(scope="module")
def dataset(run):
    return sources.load(run.config.dataset)


@pytest.fixture(scope="module")
def probabilities(run, other_run, dataset):
    """Of both networks over the whole test split, by `predict`."""
    images = np.concatenate([images for images, _ in pipeline.evaluate(dataset, 64, run.eval_transform())])
    return [source.load().predict(images, verbose=0) for source in (run, other_run)]


@pytest.fixture(scope="module")
def labels(dataset):
    return dataset.examples("test").labels


def member(run, strategy=None, **options):
    transform = EvalTransform(run.image_size, run.mean, run.std, **options)
    load = lambda: run.load(classifier_activation=None)  # noqa: E731
    return ensemble.network(run.config.model, load, transform, run.dataset_info.class_names, strategy)


def evaluate(members, dataset, **options):
    return ensemble.evaluate(members, dataset, progress=False, **options)


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_an_ensemble_is_the_average(run, other_run, dataset, probabilities, labels, average):
    results = evaluate([member(run), member(other_run)], dataset, average=average)
    assert list(results) == ["resnet20", "plainnet20", "ensemble of 2"]
    together = np.mean(probabilities, 0)
    if average == "logits":
        together = np.exp(np.mean(np.log(probabilities), 0))
        together /= together.sum(1, keepdims=True)
    for result, expected in zip(results.values(), [*probabilities, together], strict=True):
        own = expected[np.arange(256), labels]
        assert result.count == 256
        assert result.top1_error == 100 * np.mean(expected.argmax(1) != labels)
        assert result.top5_error == 100 * np.mean(np.sum(expected > own[:, None], 1) >= 5)
        assert result.loss == pytest.approx(-np.log(own).mean(), rel=1e-5)
        np.testing.assert_allclose(result.outcomes.log_probability, np.log(own), atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 60, 256, 1000])
def test_count_and_error_at_any_batch_size_and_on_two_replicas(
    run, dataset, probabilities, labels, two_replicas, batch_size
):
    expected, count = probabilities[0], 256 if batch_size > 1 else 21
    expected, labels = expected[:count], labels[:count]
    for strategy in (None, two_replicas):
        options = {"batch_size": batch_size, "split": f"test[:{count}]"}
        (result,) = evaluate([member(run, strategy)], dataset, **options).values()
        assert (result.count, result.top1_error) == (count, 100 * np.mean(expected.argmax(1) != labels))
        own = expected[np.arange(count), labels]
        np.testing.assert_allclose(result.outcomes.log_probability, np.log(own), atol=1e-4)


def test_ten_crops_are_ten_evaluations(run, dataset):
    """Crops cut by hand, evaluated one at a time and averaged in NumPy."""
    images, labels = (array[:20] for array in (dataset.examples("test").images, dataset.examples("test").labels))
    small = sources.from_arrays(np.repeat(np.repeat(images, 2, 1), 2, 2), labels, run.dataset_info.class_names)
    (result,) = evaluate([member(run, resize=32)], small, split="train", protocol="ten_crop", batch_size=64).values()
    whole = (small.examples("train").images - np.float32(run.mean)) / np.float32(run.std)
    model = run.load()
    total = 0
    for top, left in ((0, 0), (0, 16), (16, 0), (16, 16), (8, 8)):
        crop = whole[:, top : top + 16, left : left + 16]
        total = total + model.predict(crop, verbose=0) + model.predict(crop[:, :, ::-1], verbose=0)
    np.testing.assert_allclose(np.exp(result.outcomes.log_probability), total[np.arange(20), labels] / 10, atol=1e-5)


@pytest.mark.parametrize("mirror", [False, True])
def test_multi_scale_is_the_average_of_scales(run, dataset, mirror):
    images, labels = (array[:6] for array in (dataset.examples("test").images, dataset.examples("test").labels))
    small = sources.from_arrays(images, labels, run.dataset_info.class_names)
    options = {"split": "train", "protocol": "multi_scale", "scales": (32, 40), "mirror": mirror}
    (result,) = evaluate([member(run)], small, **options).values()
    dense = fully_convolutional(run.load())
    scales = []
    for scale in (32, 40):
        transform = DenseTransform(run.image_size, run.mean, run.std, scale)
        ((views, _),) = pipeline.evaluate(small, 6, transform, split="train")
        sides = [views[:, 0], views[:, 0, :, ::-1]] if mirror else [views[:, 0]]
        scales.append(np.mean([dense(side).numpy().mean((1, 2)) for side in sides], 0))
    expected = np.mean(scales, 0)[np.arange(6), labels]
    np.testing.assert_allclose(np.exp(result.outcomes.log_probability), expected, atol=1e-5)


def test_any_function(dataset, labels):
    """Any function can be evaluated; this one always predicts class 2."""
    batches = pipeline.evaluate(dataset, 100, EvalTransform((16, 16), (0.0,) * 3, (1.0,) * 3))
    result = metrics.evaluate(lambda images: np.eye(7)[np.full(len(images), 2)], batches)
    assert result.top1_error == 100 * np.mean(labels != 2)


def test_networks_of_different_classes(run, dataset):
    first = member(run)
    other = ensemble.Member("other", first.transform, first.function, ("a", "b"))
    with pytest.raises(ValueError, match=r"must have the same classes; resnet20 has 7 \(0, ...\), other has 2"):
        evaluate([first, other], dataset)
    unnamed = ensemble.Member("other", first.transform, lambda dense: lambda images: np.ones((len(images), 9)), None)
    with pytest.raises(ValueError, match="networks must have the same classes; other has 9 scores"):
        evaluate([first, unnamed], dataset)
    with pytest.raises(ValueError, match="at least one network"):
        evaluate([], dataset)
