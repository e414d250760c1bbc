import pytest

from jobs.tokens.dataset_card import publish_dataset_card
from spae.data.records import load_index
from tests.tiny_tokens import token_job, tokenize_shard, tokenize_split


def load(folder, cache):
    datasets = pytest.importorskip("datasets")
    return datasets.load_dataset(str(folder), cache_dir=str(cache))


def test_a_folder_with_dead_letters_is_loaded_by_its_name(model, split, tmp_path):
    tokens = tmp_path / "tokens"
    tokenize_split(model, split, tokens)
    tokenize_shard(token_job(model, tokens), load_index(split).shards[0])
    assert list((tokens / "errors").iterdir())
    for name in ("photos-a-000000", "00000"):
        (tokens / f"{name}.parquet").write_bytes((tokens / "test-000000.parquet").read_bytes())
    names = [path.stem for path in tokens.glob("*.parquet") if path.stem != "vocabulary"]
    publish_dataset_card(str(tokens), names)
    found = load(tokens, tmp_path / "cache")
    assert {split: rows.num_rows for split, rows in found.items()} == {"test": 20, "photos_a": 9, "train": 9}
    written = (tokens / "README.md").read_text()
    publish_dataset_card(str(tokens), names)
    assert (tokens / "README.md").read_text() == written


def test_the_card_of_somebody_else_stays(tmp_path):
    (tmp_path / "README.md").write_text("# Mine\n")
    publish_dataset_card(str(tmp_path), ["test-000000"])
    assert (tmp_path / "README.md").read_text() == "# Mine\n"
