"""Data sets of tensorflow-datasets, with a stand-in for its builders."""

import io
import types

import numpy as np
import pytest
from PIL import Image

from keras_resnet.data import sources as image_sources
from keras_resnet.errors import InputError
from keras_resnet.segmentation.data import sources


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(array, "uint8")).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "image", "mask", "values", "expected", "first"),
    [
        ("oxford_iiit_pet:4.0.0", "image", "segmentation_mask", [[1, 2, 3]], [[0, 1, 2]], "pet"),
        ("cityscapes", "image_left", "segmentation_label", [[7, 33, 0]], [[0, 18, 255]], "road"),
        ("scene_parse150", "image", "annotation", [[0, 1, 150]], [[255, 0, 149]], "class 1"),
    ],
)
def test_known_data_sets(tmp_path, monkeypatch, name, image, mask, values, expected, first):
    records = [{image: png(np.zeros((1, 3, 3))), mask: png(values)}] * 2
    reads = []

    def as_dataset(split, decoders):
        assert set(decoders) == {image, mask}
        reads.append(split)
        return records

    info = types.SimpleNamespace(splits={"train": types.SimpleNamespace(num_examples=2)}, features={image: 1, mask: 2})
    builder = types.SimpleNamespace(info=info, data_dir=tmp_path, as_dataset=as_dataset)
    monkeypatch.setattr("tensorflow_datasets.builder", lambda name, data_dir: builder)
    monkeypatch.setattr("tensorflow_datasets.as_numpy", lambda records: records)
    for _ in range(2):
        dataset = sources.load(name)
        assert (dataset.info.class_names[0], dataset.info.splits) == (first, {"train": 2})
        assert [example.read_label().tolist() for example in dataset.examples("train")] == [expected, expected]
    assert reads == ["train"]  # the files are written once


def test_other_names_are_refused():
    with pytest.raises(InputError, match="'oxford_iiit_pet', 'cityscapes', 'scene_parse150'; got 'mnist'"):
        sources.load("mnist")


def test_required_features_are_named(tmp_path, monkeypatch):
    info = types.SimpleNamespace(splits={"train": None}, features={"image": 1})
    monkeypatch.setattr(
        "tensorflow_datasets.builder", lambda name, data_dir: types.SimpleNamespace(info=info, data_dir=tmp_path)
    )
    with pytest.raises(InputError, match=r"must have the features image and label; 'x' has \['image'\]"):
        image_sources.open_builder("x", None, False, "known", ("image", "label"))
