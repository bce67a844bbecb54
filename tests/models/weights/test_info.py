"""Cards of weights: what they state, and that nothing else is taken for one."""

import json

import pytest

from keras_resnet.models.weights.info import WEIGHTS, ModelInfo

INFO = ModelInfo(
    "resnet20",
    "",
    32,
    0,
    ("a", "b"),
    (1.0, 2.0, 3.0),
    (4.0, 5.0, 6.0),
    "tiny",
    url=WEIGHTS,
    digest=f"sha256:{'0' * 64}",
    dataset="digits",
    command="keras-resnet train --preset=digits_resnet20",
    commit="3f49dab",
    seed=0,
    steps=64_000,
    device="2 CPU cores",
    date="2026-01-31",
)


def changed(**values):
    """The card with other values; None removes a field."""
    content = {**json.loads(INFO.to_card()), **values}
    return json.dumps({name: value for name, value in content.items() if values.get(name, 0) is not None})


def test_a_card_states_everything():
    assert ModelInfo.from_card(INFO.to_card()) == INFO


def test_fields_of_later_versions_are_ignored():
    assert ModelInfo.from_card(changed(carbon=3)) == INFO


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "its config.json is not JSON"),
        ("[]", 'it has no "library": "keras_resnet"'),
        (changed(library="transformers"), 'it has no "library": "keras_resnet"'),
        (changed(class_names=None), "its metadata on preprocessing has no 'class_names'"),
        (changed(mean=None), "its metadata on preprocessing"),
        (changed(mode="inception"), "its metadata on preprocessing is invalid"),
        (changed(digest=None), "does not state the SHA-256 of model.safetensors"),
        (changed(digest="sha256:00"), "does not state the SHA-256 of model.safetensors"),
        (changed(url="../model.safetensors"), "does not state the SHA-256 of model.safetensors"),
    ],
)
def test_other_cards_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        ModelInfo.from_card(text)


def test_metadata_in_a_file_is_an_object():
    with pytest.raises(ValueError, match="its metadata on preprocessing is not a JSON object"):
        ModelInfo.from_dict(3)


def test_a_folder_states_where_its_file_is(tmp_path):
    (tmp_path / "config.json").write_text(INFO.to_card())
    assert ModelInfo.of_folder(tmp_path).url == f"file://{tmp_path}/{WEIGHTS}"
