"""The folder of a detector's run: what it keeps."""

from keras_resnet.detection.data import sources
from keras_resnet.detection.run import DetectorRun
from tests.detection.runs import config


def test_the_classes_of_a_run_are_kept(data, tmp_path):
    """A later evaluation on a folder with fewer classes must not renumber them."""
    run = DetectorRun(tmp_path / "run", config(data), sources.load(f"folder:{data}").info)
    run.create()
    assert DetectorRun.open(tmp_path / "run") == run
