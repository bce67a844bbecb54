"""Detectors run on the images of a data set."""

import numpy as np
from PIL import Image

from keras_resnet.detection import inference
from keras_resnet.detection.data.annotations import Annotation
from keras_resnet.detection.data.transforms import DetectionTransform


def test_images_of_two_orientations_come_back_in_order(tmp_path):
    annotations = []
    for number, size in enumerate([(40, 60), (60, 40), (40, 60)]):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((*size, 3), number * 50, "uint8")).save(path)
        empty = np.zeros(0)
        annotations.append(Annotation(str(path), number, size, np.zeros((0, 4)), empty, empty, empty, empty))

    def predict(batch):
        value = float(np.asarray(batch["images"])[0, 0, 0, 0])
        box = np.array([[[0, 0, *np.asarray(batch["image_size"])[0]]]])
        return {"boxes": box, "scores": [[value]], "classes": np.array([[1]]), "count": [1]}

    transform = DetectionTransform(20, 30, (0.0,) * 3, (1.0,) * 3)
    results = inference.detect(predict, annotations, transform)
    np.testing.assert_allclose([result.scores[0] for result in results], [0, 50, 100], atol=0.01)
    assert [result.boxes[0].tolist() for result in results] == [[0, 0, 40, 60], [0, 0, 60, 40], [0, 0, 40, 60]]
