"""The model that comes with spae is what its record says."""

import hashlib
import io
import json
from pathlib import Path

import pytest
from PIL import Image

import spae
from spae import SPAE
from spae.data.sources.digits import DIGIT_NAMES, DigitsSource
from spae.model_folder import shipped_models
from tests import tiny_spae

FOLDER = Path(spae.__file__).parent / "pretrained" / "digits"
SPLIT_SEED = 13  # of the demo


@pytest.fixture(scope="module")
def record():
    return json.loads((FOLDER / "record.json").read_text())


@pytest.fixture(scope="module")
def model():
    return SPAE.from_pretrained("digits")


def test_the_record_fits_the_files(record, model):
    files = {path.relative_to(FOLDER).as_posix(): path for path in FOLDER.rglob("*") if path.is_file()}
    del files["record.json"]
    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()} == record["files"]
    assert (model.fingerprint, model.vocabulary.words_fingerprint) == (
        record["model_fingerprint"],
        record["words_fingerprint"],
    )
    assert sum(path.stat().st_size for path in files.values()) < 8_000_000, "an installation is no place for more"


def test_no_place_of_the_machine_that_made_it_is_told():
    for path in FOLDER.rglob("*.json"):
        assert not {mark for mark in ("/tmp", "/root", "/home", "/work", "runs/") if mark in path.read_text()}


def test_first_words_name_the_digits_as_recorded(record, model):
    source = DigitsSource("test", SPLIT_SEED)
    entries = list(source.entries())
    pyramid = model.encode([Image.open(io.BytesIO(source.read(entry, 1 << 20))) for entry in entries])
    right = sum(
        words == [DIGIT_NAMES[entry.label]]
        for words, entry in zip(model.vocabulary.words(pyramid, layers=1), entries, strict=True)
    )
    scored = record["scores"]["first_word"]
    assert (len(entries), record["scores"]["split"]) == (scored["samples"], "test")
    assert abs(right - scored["correct"]) <= 0.01 * len(entries), "other processors round otherwise"
    assert right > len(entries) / 2


def test_a_folder_goes_before_a_shipped_model_where_it_holds_one(tmp_path, monkeypatch, model):
    assert shipped_models() == ("digits",)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert SPAE.from_pretrained("digits").fingerprint == model.fingerprint
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        SPAE.from_pretrained("./digits")
    mine = tiny_spae.model()
    mine.save_pretrained("digits")
    assert SPAE.from_pretrained("digits").fingerprint == mine.fingerprint


def test_an_unknown_name_tells_those_that_are_there():
    with pytest.raises(ValueError, match=r"digitz is neither a folder nor a hub id .*that come with spae: digits"):
        SPAE.from_pretrained("digitz")
