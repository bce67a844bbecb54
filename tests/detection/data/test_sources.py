"""Names of detection data sets: errors for those that do not exist."""

import pytest

from keras_resnet.detection.data import sources
from keras_resnet.errors import InputError


@pytest.mark.parametrize("name", ["folder:", "folder:/nowhere", "no_such_set"])
def test_no_such_data_set(name):
    with pytest.raises(InputError, match="dataset must"):
        sources.load(name)


def test_a_folder_of_no_layout(tmp_path):
    with pytest.raises(InputError, match=r"VOC's XML.*COCO's.*YOLO's.*it has nothing"):
        sources.load(f"folder:{tmp_path}")
    (tmp_path / "photos").mkdir()
    (tmp_path / "notes.doc").touch()
    with pytest.raises(InputError, match=r"it has photos/, notes\.doc"):
        sources.load(f"folder:{tmp_path}")
