import dataclasses
import logging
import shutil

import pyarrow.parquet as pq
import pytest

from jobs.reconstruct_shards import ReconstructFlags, prepare
from jobs.tokens.reconstruction_plan import check_model
from spae.data.publishing import publish
from spae.data.records import load_index
from spae.data.tar import read_samples
from spae.data.token_table import read_token_table
from spae.model import SPAE
from spae.vocabulary import Vocabulary
from tests import tiny_spae
from tests.tiny_reconstruction import reconstruct_tables
from tests.tiny_tokens import token_footer, token_job, tokenize_shard, tokenize_split


@pytest.fixture(scope="module")
def tokens(model, split, tmp_path_factory):
    made = tmp_path_factory.mktemp("tokens")
    tokenize_split(model, split, made)
    return made


@pytest.fixture
def copied(tokens, tmp_path):
    return shutil.copytree(tokens, tmp_path / "tokens")


def change_footer(url, **values):
    table = pq.read_table(url)
    changed = {f"spae.{name}".encode(): value for name, value in values.items()}
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, **changed}), url)


def test_a_model_of_other_words_is_refused_with_both_fingerprints(tokens, tmp_path):
    ours = tiny_spae.vocabulary()
    words = tuple(f"other{number}" for number in range(len(ours)))
    other = SPAE(tiny_spae.CONFIG, Vocabulary(words, ours.llm_ids, ours.embeddings, None, ours.record))
    other.save_pretrained(str(tmp_path / "model"))
    with pytest.raises(ValueError, match="give the model that made them") as refusal:
        reconstruct_tables(tmp_path / "model", tokens, tmp_path)
    assert ours.words_fingerprint in str(refusal.value)
    assert other.vocabulary.words_fingerprint in str(refusal.value)


def test_another_model_of_the_same_words_decodes_and_is_named(tokens, tmp_path, caplog):
    other = tiny_spae.model(seed=1)
    other.save_pretrained(str(tmp_path / "model"))
    caplog.set_level(logging.WARNING)
    reconstruct_tables(tmp_path / "model", tokens, tmp_path)
    assert f"decoded by {other.fingerprint}, which has the same words" in caplog.text
    assert load_index(str(tmp_path / "test")).samples == 20


def test_tables_of_two_models_are_refused(model, copied, tmp_path):
    change_footer(copied / "test-000001.parquet", model_fingerprint="another")
    with pytest.raises(ValueError, match=r"of several models: test-000000 of .*, test-000001 of another"):
        reconstruct_tables(model, copied, tmp_path)


@pytest.mark.parametrize("layers", [5, 9])
def test_layers_that_the_tables_lack_are_refused(model, tokens, tmp_path, layers):
    with pytest.raises(ValueError, match=f"--layers {layers} must be 1 to 4"):
        reconstruct_tables(model, tokens, tmp_path, layers=layers)


def test_tables_of_the_first_layers_are_decoded_as_far_as_they_go(model, split, tokens, tmp_path):
    for shard in load_index(split).shards:
        tokenize_shard(token_job(model, tmp_path / "tokens", layers=2), shard)
    reconstruct_tables(model, tmp_path / "tokens", tmp_path / "all")
    reconstruct_tables(model, tokens, tmp_path / "first", layers=2)
    for name in ("test-000000.tar", "test-000001.tar"):
        assert (tmp_path / "all/test" / name).read_bytes() == (tmp_path / "first/test" / name).read_bytes()
    with pytest.raises(ValueError, match="--layers 3 must be 1 to 2"):
        reconstruct_tables(model, tmp_path / "tokens", tmp_path / "more", layers=3)


def test_other_grids_are_refused():
    model = tiny_spae.model()
    footer = token_footer(words_fingerprint=model.vocabulary.words_fingerprint, grids=((1, 1), (4, 4)))
    assert check_model(model, footer, 1) == 1
    with pytest.raises(ValueError, match="the tables have the grids"):
        check_model(model, footer, 2)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "holds no token tables"),
        (lambda folder: (folder / "test-000001.parquet").write_bytes(b"PAR1"), "is no whole Parquet file"),
        (lambda folder: shutil.copy(folder / "vocabulary.parquet", folder / "mine.parquet"), "is no token table"),
        (lambda folder: (folder / "test-000001.parquet").unlink(), "there is no table test-000001.parquet before"),
        (lambda folder: shutil.copy(folder / "test-000001.parquet", folder / "00017.parquet"), "give --split NAME"),
    ],
    ids=["nothing", "a cut table", "a foreign file", "a gap", "a name without a number"],
)
def test_folders_that_cannot_be_rebuilt_are_refused(model, copied, tmp_path, harm, message):
    harm(copied)
    with pytest.raises(ValueError, match=message):
        reconstruct_tables(model, copied, tmp_path)
    assert not (tmp_path / "test").exists()


def test_tables_of_any_names_are_numbered_anew_where_asked(model, copied, tmp_path):
    (copied / "test-000000.parquet").rename(copied / "00017.parquet")
    (copied / "test-000001.parquet").unlink()
    reconstruct_tables(model, copied, tmp_path, split="mine")
    shards = load_index(str(tmp_path / "mine")).shards
    assert [shard.name for shard in shards] == ["mine-000000", "mine-000001"]
    for shard, table in zip(shards, ("00017", "test-000002"), strict=True):
        rows, _ = read_token_table(str(copied / f"{table}.parquet"))
        assert tuple(sample.key for sample in read_samples(shard.url)) == rows.keys


def test_every_split_gets_its_folder(model, copied, tmp_path):
    for number in range(2):
        shutil.copy(copied / "test-000002.parquet", copied / f"train-{number:06d}.parquet")
    reconstruct_tables(model, copied, tmp_path)
    assert {name: len(load_index(str(tmp_path / name)).shards) for name in ("test", "train")} == {"test": 3, "train": 2}


def test_a_split_of_raw_samples_is_never_replaced(model, tokens, tmp_path):
    publish(str(tmp_path / "test/plan.json"), b"{}")
    with pytest.raises(ValueError, match="a split of raw samples; give another --output"):
        reconstruct_tables(model, tokens, tmp_path, replace=True)


def test_what_determines_a_shard_is_its_table_and_the_job(model, tokens):
    flags = ReconstructFlags(model=model, tokens=str(tokens), output="nowhere")
    _, job = prepare(flags, SPAE.from_pretrained(model))
    footer = token_footer()
    plan = job.plan(footer)
    assert job.plan(dataclasses.replace(footer, code_version="another")) == plan
    assert dataclasses.replace(job, model="the same elsewhere").plan(footer) == plan
    for changed in ({"source_sha256": "other"}, {"device": "a GPU"}, {"samples": 4}):
        assert job.plan(dataclasses.replace(footer, **changed)) != plan
    for changed in ({"layers": 1}, {"batch": 9}, {"device": "cuda"}, {"model_fingerprint": "other"}):
        assert dataclasses.replace(job, **changed).plan(footer) != plan
