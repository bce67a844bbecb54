"""Sets of tensorflow-datasets with a class and boxes for each image, from a stand-in builder."""

import types

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.errors import InputError
from keras_resnet.localization.data import sources

ENCODED = tf.io.encode_png(np.full((60, 80, 3), 9, "uint8")).numpy()


@pytest.fixture
def load(tmp_path, monkeypatch):
    """A function from the names of features and records to the data set."""
    import tensorflow_datasets as tfds

    def of(features, records):
        label = tfds.features.ClassLabel(names=["cat", "dog"])
        known = {"label": label, "objects": {"bbox": None}}
        builder = types.SimpleNamespace(
            info=types.SimpleNamespace(
                splits={"train": types.SimpleNamespace(num_examples=len(records))},
                features={name: known.get(name) for name in features},
            ),
            data_dir=str(tmp_path),
            as_dataset=lambda split, decoders: records,
        )
        monkeypatch.setattr(tfds, "builder", lambda name, data_dir: builder)
        monkeypatch.setattr(tfds, "as_numpy", iter)
        return sources.load("some_set")

    return of


def test_one_box(load):
    """As cars196 and caltech_birds2011."""
    record = {"image": ENCODED, "label": 1, "bbox": np.array([0.1, 0.2, 0.5, 0.6], "float32")}
    dataset = load(("image", "label", "bbox"), [record])
    (example,) = dataset.examples("train")
    assert dataset.info.class_names == ("cat", "dog")
    assert (example.label, example.size, example.boxes.tolist()) == (1, (60, 80), [[6, 16, 30, 48]])


def test_several_boxes(load):
    """As stanford_dogs; an image without a box is left out."""
    boxes = np.array([[0.1, 0.2, 0.5, 0.6], [0, 0, 1, 1], [0.2, 0.2, 0.2, 0.3]], "float32")
    records = [
        {"image": ENCODED, "image/filename": b"a.jpg", "label": 0, "objects": {"bbox": boxes}},
        {"image": ENCODED, "image/filename": b"b.jpg", "label": 1, "objects": {"bbox": boxes[:0]}},
    ]
    (example,) = load(("image", "label", "objects"), records).examples("train")
    assert (example.id, example.label, example.boxes.tolist()) == ("a.jpg", 0, [[6, 16, 30, 48], [0, 0, 60, 80]])


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (("image", "label"), r"dataset must have boxes, in bbox or objects; 'some_set' has \['image', 'label'\]"),
        (("image",), "dataset must have the features image and objects"),
    ],
)
def test_sets_without_boxes(load, features, message):
    with pytest.raises(InputError, match=message):
        load(features, [])
