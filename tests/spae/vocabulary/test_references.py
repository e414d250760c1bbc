import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from spae.config import CodebookTable
from spae.model import SPAE
from spae.vocabulary import Vocabulary
from spae.vocabulary.record import RoundTripRecord, VocabularyRecord
from spae.vocabulary.transforms import apply_transform, make_transform, rows_sha256
from tests import tiny_spae

TENSOR = "embeddings.word_embeddings.weight"
TRANSFORMS = {"raw": ("raw", None), "centred": ("centred", None), "projected": ("centred", 5)}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A folder of one's own for tables."""
    monkeypatch.setenv("SPAE_EMBEDDINGS", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path):
    """A language model's folder, float16, and its rows."""
    rows = torch.randn(60, 12, generator=torch.Generator().manual_seed(3)).half()
    (tmp_path / "llm").mkdir()
    save_file({TENSOR: rows, "other": rows + 1}, tmp_path / "llm" / "model.safetensors")
    np.save(tmp_path / "rows.npy", rows.numpy())
    return rows


def referring(rows, table="centred", width=None):
    """A vocabulary of 40 of the rows that refers to them."""
    llm_ids = torch.arange(40) + 7
    kept = rows[llm_ids].float()
    transform = make_transform(kept, table, width)
    record = VocabularyRecord(
        llm="tiny",
        llm_revision="sha256:0",
        embeddings_source=TENSOR,
        table=table,
        projected_width=width,
        embeddings="reference",
        rows_sha256=rows_sha256(kept),
        dropped_words={"norm outlier": ("rare",)},
        round_trip=RoundTripRecord(separator=" ", start="", words=40, lost=(3,)),
        license="not to be republished",
    )
    words = tuple(f"word{number}" for number in range(40))
    return Vocabulary(words, llm_ids, apply_transform(kept, transform), None, record, transform)


@pytest.mark.parametrize("how", TRANSFORMS)
@pytest.mark.parametrize("place", ["llm", "rows.npy", "stored"])
def test_rows_are_not_written_and_resolved_bit_for_bit(source, tmp_path, how, place):
    vocabulary = referring(source, *TRANSFORMS[how])
    vocabulary.save(str(tmp_path / "vocabulary"))
    stored = dataclasses.replace(vocabulary, record=dataclasses.replace(vocabulary.record, embeddings="stored"))
    stored.save(str(tmp_path / "stored"))
    files = [file.name for file in (tmp_path / "vocabulary").iterdir()]
    assert "embeddings.safetensors" not in files
    written = b"".join(file.read_bytes() for file in (tmp_path / "vocabulary").iterdir())
    assert vocabulary.embeddings[5].numpy().tobytes() not in written
    with pytest.raises(ValueError, match=rf"referred to: the rows {TENSOR} of tiny .*embeddings=FOLDER"):
        Vocabulary.load(str(tmp_path / "vocabulary"))
    loaded = Vocabulary.load(str(tmp_path / "vocabulary"), embeddings=str(tmp_path / place))
    assert torch.equal(loaded.embeddings, vocabulary.embeddings)
    assert loaded.words_fingerprint == vocabulary.words_fingerprint == stored.words_fingerprint
    assert loaded.record == vocabulary.record
    again = Vocabulary.load(str(tmp_path / "vocabulary"))
    assert torch.equal(again.embeddings, vocabulary.embeddings), "kept after the first time"


def test_other_rows_are_refused(source, tmp_path):
    vocabulary, url = referring(source), str(tmp_path / "vocabulary")
    vocabulary.save(url)
    np.save(tmp_path / "others.npy", source.numpy() + 1)
    np.save(tmp_path / "fewer.npy", source.numpy()[:20])
    stored = dataclasses.replace(
        referring(source + 1), record=dataclasses.replace(vocabulary.record, embeddings="stored")
    )
    stored.save(str(tmp_path / "stored"))
    for name, reason in {
        "others.npy": "holds other rows",
        "fewer.npy": "holds other rows",
        "absent.npy": "cannot be read",
        "stored": "its words_fingerprint is",
    }.items():
        with pytest.raises(ValueError, match=reason):
            Vocabulary.load(url, embeddings=str(tmp_path / name))
    with pytest.raises(ValueError, match="referred to"):
        Vocabulary.load(url)


def test_a_damaged_kept_table_is_refused(source, tmp_path, cache):
    referring(source).save(str(tmp_path / "vocabulary"))
    Vocabulary.load(str(tmp_path / "vocabulary"), embeddings=str(tmp_path / "llm"))
    kept = next(cache.iterdir())
    data = bytearray(kept.read_bytes())
    data[-1] ^= 1
    kept.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="words_fingerprint"):
        Vocabulary.load(str(tmp_path / "vocabulary"))
    kept.write_bytes(b"")
    with pytest.raises(ValueError, match="not a usable vocabulary folder"):
        Vocabulary.load(str(tmp_path / "vocabulary"))


def test_saving_over_a_stored_table_removes_it(source, tmp_path):
    vocabulary = referring(source)
    stored = dataclasses.replace(vocabulary, record=dataclasses.replace(vocabulary.record, embeddings="stored"))
    stored.save(str(tmp_path))
    assert (tmp_path / "embeddings.safetensors").exists()
    vocabulary.save(str(tmp_path))
    assert not (tmp_path / "embeddings.safetensors").exists()


def make_model(vocabulary, table: CodebookTable = "frozen"):
    torch.manual_seed(0)
    model = SPAE(dataclasses.replace(tiny_spae.CONFIG, table=table), vocabulary)
    model.statistics.momentum = 1.0
    model.train().latents(torch.rand(32, 3, 16, 16))
    return model.eval()


def test_a_model_folder_holds_no_rows_and_finds_them(source, tmp_path):
    model, pixels = make_model(referring(source)), torch.rand(2, 3, 16, 16)
    model.save_pretrained(str(tmp_path / "model"))
    written = b"".join(file.read_bytes() for file in (tmp_path / "model").rglob("*") if file.is_file())
    assert model.vocabulary.embeddings[5].numpy().tobytes() not in written
    assert "embeddings.safetensors" not in {file.name for file in (tmp_path / "model").rglob("*")}
    with pytest.raises(ValueError, match=r"SPAE.from_pretrained\(folder, embeddings=FOLDER\)"):
        SPAE.from_pretrained(str(tmp_path / "model"))
    loaded = SPAE.from_pretrained(str(tmp_path / "model"), embeddings=str(tmp_path / "llm"))
    assert loaded.fingerprint == model.fingerprint
    assert torch.equal(loaded.encode(pixels).flatten(), model.encode(pixels).flatten())
    assert SPAE.from_pretrained(str(tmp_path / "model")).fingerprint == model.fingerprint


def test_a_cut_table_could_not_be_found_again(source):
    vocabulary = referring(source)
    with pytest.raises(ValueError, match="build one with --max-words 30"):
        vocabulary.first(30)
    assert vocabulary.first(40).words_fingerprint == vocabulary.words_fingerprint
    stored = dataclasses.replace(vocabulary, record=dataclasses.replace(vocabulary.record, embeddings="stored"))
    assert stored.first(3).record.round_trip == RoundTripRecord(separator=" ", start="", words=3, lost=())
    assert stored.first(30).record.round_trip.survivors == 29


def test_a_learned_table_is_ones_own_and_a_projected_one_is_not(source, tmp_path):
    with pytest.raises(ValueError, match="table=projected makes a table of rows that may not be republished"):
        make_model(referring(source), "projected")
    make_model(referring(source), "learned").save_pretrained(str(tmp_path / "model"))
    assert SPAE.from_pretrained(str(tmp_path / "model")).vocabulary.record.embeddings == "stored"


def test_a_folder_from_before_references_is_read(source, tmp_path):
    vocabulary = referring(source)
    record = VocabularyRecord(llm="tiny", llm_revision="0", embeddings_source=TENSOR, counts={"kept": 40})
    dataclasses.replace(vocabulary, record=record).save(str(tmp_path))
    description = json.loads((tmp_path / "vocabulary.json").read_text())
    for name in ("embeddings", "rows_sha256", "round_trip", "dropped_words", "denied_sha256", "keep_outliers"):
        del description[name]
    (tmp_path / "vocabulary.json").write_text(json.dumps(description))
    assert Vocabulary.load(str(tmp_path)).record == record
