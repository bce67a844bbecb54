"""Folders in COCO's layout: coordinates, category ids, and errors that name the file."""

import numpy as np
import pytest

from keras_resnet.detection.data import coco, sources
from keras_resnet.errors import InputError
from tests.detection.data.folders import coco_folder


def test_coco_folder(tmp_path):
    objects = [
        {"image_id": 42, "category_id": 7, "bbox": [10, 20, 30, 15], "area": 99, "iscrowd": 0},
        {"image_id": 42, "category_id": 3, "bbox": [0, 0, 80, 60], "iscrowd": 1},
        {"image_id": 42, "category_id": 3, "bbox": [5, 5, 0, 10]},
    ]
    dataset = sources.load(f"folder:{coco_folder(tmp_path / 'coco', objects)}")
    assert dataset.info.class_names == ("dog", "cat")
    assert dataset.categories == (3, 7)
    (annotation,) = dataset.annotations("train")
    np.testing.assert_allclose(annotation.boxes, [[20, 10, 35, 40], [0, 0, 60, 80]], atol=1e-5)
    assert annotation.labels.tolist() == [1, 0]
    assert annotation.crowd.tolist() == [False, True]
    assert annotation.areas.tolist() == [99, 4800]
    assert annotation.id == 42


def test_masks(tmp_path, caplog):
    """Polygons, runs of a crowd, and objects without a mask; the second box has no area, so its mask is left out."""
    box = {"image_id": 42, "category_id": 7, "bbox": [10, 20, 30, 15]}
    objects = [
        box | {"segmentation": [[10, 20, 40, 20, 40, 35, 10, 35]]},
        box | {"segmentation": [[1, 1, 2, 1, 2, 2]], "bbox": [5, 5, 0, 10]},
        box | {"segmentation": {"size": [60, 80], "counts": [2400, 2400]}, "iscrowd": 1},
        box | {"segmentation": []},
        box | {"segmentation": [[1, 2, 3]]},
    ]
    (annotation,) = sources.load(f"folder:{coco_folder(tmp_path / 'coco', objects)}").annotations("train")
    polygon, runs, *others = annotation.masks
    expected = np.zeros((60, 80), bool)
    expected[20:35, 10:40] = True
    np.testing.assert_array_equal(polygon.draw(), expected)
    assert runs.box() == (0, 40, 60, 80)
    assert others == [None, None]
    assert "left out 1 segmentation that cannot be read; of the first one, a polygon has 3 coordinates" in caplog.text
    (annotation,) = sources.load(f"folder:{coco_folder(tmp_path / 'boxes', [box])}").annotations("train")
    assert annotation.masks is None


def test_errors_name_the_file(tmp_path):
    root = coco_folder(tmp_path / "one", [{"image_id": 42, "category_id": 9, "bbox": [0, 0, 5, 5]}])
    with pytest.raises(InputError, match=r"instances_train\.json' has the unknown category 9"):
        sources.load(f"folder:{root}").annotations("train")
    root = coco_folder(tmp_path / "two", [])
    (root / "train/x.png").unlink()
    with pytest.raises(InputError, match=r"names the missing image .*x\.png"):
        sources.load(f"folder:{root}").annotations("train")
    (root / "annotations/instances_train.json").write_text("[")
    with pytest.raises(InputError, match="not in COCO's format"):
        sources.load(f"folder:{root}")
    (root / "annotations/instances_train.json").write_text('{"images": []}')
    with pytest.raises(InputError, match="it has no 'annotations'"):
        sources.load(f"folder:{root}")


KEYS = "must have bbox, category_id, image_id in each entry of annotations"
FOUR = "must have four numbers in each bbox"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"image_id": 42, "category_id": 7}, KEYS),
        ([], KEYS),
        ({"image_id": 42, "category_id": 7, "bbox": [1]}, FOUR),
        ({"image_id": 42, "category_id": 7, "bbox": "1234"}, FOUR),
    ],
)
def test_damaged_entries(tmp_path, entry, message):
    root = coco_folder(tmp_path / "coco", [entry])
    with pytest.raises(InputError, match=message):
        sources.load(f"folder:{root}").annotations("train")


def test_coco_has_80_classes_with_ids_up_to_90():
    assert len(coco.CATEGORY_IDS) == 80
    assert coco.CATEGORY_IDS[-1] == 90
