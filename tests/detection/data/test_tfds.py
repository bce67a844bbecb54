"""Detection data sets of tensorflow-datasets, from a stand-in builder: the real sets cannot be had offline."""

import types

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_resnet.detection.data import sources


def test_records_of_voc_and_coco(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    label = tfds.features.ClassLabel(names=["cat", "dog"])
    features = {"image": tfds.features.Image(), "objects": {"label": label}}
    encoded = tf.io.encode_png(np.full((60, 80, 3), 9, "uint8")).numpy()
    records = [
        {
            "image": encoded,
            "image/filename": b"000001.jpg",
            "objects": {
                "bbox": np.array([[0.1, 0.2, 0.5, 0.6], [0.2, 0.2, 0.2, 0.4]], "float32"),
                "label": np.array([1, 0]),
                "is_difficult": np.array([True, False]),
            },
        },
        {
            "image": encoded,
            "image/id": 77,
            "objects": {
                "bbox": np.array([[0, 0, 1, 1]], "float32"),
                "label": np.array([0]),
                "is_crowd": np.array([True]),
                "area": np.array([123]),
            },
        },
    ]

    builder = types.SimpleNamespace(
        info=types.SimpleNamespace(splits={"train": types.SimpleNamespace(num_examples=2)}, features=features),
        data_dir=str(tmp_path),
        as_dataset=lambda split, decoders: records,
    )
    monkeypatch.setattr(tfds, "builder", lambda name, data_dir: builder)
    monkeypatch.setattr(tfds, "as_numpy", iter)
    dataset = sources.load("voc/2007")
    assert dataset.info.class_names == ("cat", "dog")
    first, second = dataset.annotations("train")
    assert first.boxes.tolist() == [[6, 16, 30, 48]]
    assert (first.labels.tolist(), first.difficult.tolist(), first.id) == ([1], [True], "000001.jpg")
    assert (second.crowd.tolist(), second.areas.tolist(), second.id) == ([True], [123], 77)
    assert np.asarray(Image.open(second.path)).shape == (60, 80, 3)
