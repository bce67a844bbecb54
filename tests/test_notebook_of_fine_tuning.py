"""The notebook of fine-tuning, with the whole network, as the weights in the package are those of that network."""

from tests.test_notebooks import ROOT, execute, short  # noqa: F401


def test_it_starts_from_the_weights_in_the_package(short, capsys):  # noqa: F811
    execute(ROOT / "examples/notebooks/fine_tune_a_folder.ipynb")
    output = capsys.readouterr().out
    assert "2 classes; train 216 images, val 216 images" in output
    assert "(268,738 trainable)" in output
