import dataclasses
import logging
import subprocess
import sys

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import tyro
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import reconstruct_shards, remove_samples, tokenize_shards, verify_tokens
from jobs.reconstruct_shards import ReconstructFlags
from jobs.tokens.folder_lock import working_on
from jobs.tokens.removal import added_sha256
from spae.data.publishing import publish
from spae.data.records import load_index
from spae.data.token_table import VOCABULARY_FILE, find_token_tables, publish_manifest, publish_table, read_token_table
from spae.model import SPAE
from tests.tiny_shards import samples, write_split
from tests.tiny_tokens import token_job, tokenize_shard

KEYS = ["sample-0-0003", "sample-2-0000", "sample-2-0006"]


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    shards = [samples(count, seed) for seed, count in enumerate((9, 5, 7))]
    shards[2][1] = (shards[2][1][0], b"broken", 1)
    return write_split(tmp_path_factory.mktemp("split"), shards)


@pytest.fixture
def tokens(model, split, tmp_path):
    folder = tmp_path / "tokens"
    for shard in load_index(split).shards:
        tokenize_shard(token_job(model, folder), shard)
    publish(str(folder / VOCABULARY_FILE), SPAE.from_pretrained(model).vocabulary.words_parquet())
    publish_manifest(str(folder), find_token_tables(str(folder)))
    return folder


def remove(tokens, keys):
    (tokens.parent / "keys.txt").write_text("\n".join(keys) + "\n")
    return remove_samples.main([str(tokens), "--remove", f"{tokens.parent}/keys.txt"])


def state(tokens):
    """Bytes and times of all files."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tokens.glob("*.parquet")}


def footers(tokens):
    return {name: table.footer for name, table in find_token_tables(str(tokens)).items()}


def test_rows_go_from_the_tables_that_hold_them_and_from_no_other(tokens, caplog):
    caplog.set_level(logging.INFO)
    before, tables = state(tokens), {path.name: pq.read_table(path) for path in tokens.glob("test-*.parquet")}
    assert remove(tokens, [*KEYS, "elsewhere"]) == 0
    assert "3 rows removed from 2 tables" in caplog.text
    assert state(tokens)["test-000001.parquet"] == before["test-000001.parquet"]
    for name, table in tables.items():
        kept = table.filter(pc.invert(pc.is_in(table["key"], pa.array(KEYS))))
        assert pq.read_table(tokens / name).equals(kept)
        assert pq.read_schema(tokens / name).remove_metadata() == table.schema.remove_metadata()


def test_rows_errors_and_removed_are_the_samples(tokens, model, split):
    assert remove(tokens, KEYS) == 0
    found = footers(tokens)
    assert [(footer.removed, footer.errors, footer.samples) for _, footer in sorted(found.items())] == [
        (1, 0, 9),
        (0, 0, 5),
        (2, 1, 7),
    ]
    for name, footer in found.items():
        rows, _ = read_token_table(f"{tokens}/{name}.parquet")
        assert len(rows.keys) + footer.errors + footer.removed == footer.samples
    assert verify_tokens.main([str(tokens), "--model", model, "--input", split]) == 0


def test_removing_again_changes_nothing(tokens):
    assert remove(tokens, KEYS) == 0
    before, manifest = state(tokens), (tokens / "manifest.json").read_bytes()
    assert remove(tokens, KEYS) == 0
    assert state(tokens) == before
    assert (tokens / "manifest.json").read_bytes() == manifest


def test_a_tokenizing_rerun_brings_nothing_back(tokens, model, split, caplog):
    caplog.set_level(logging.INFO)
    assert remove(tokens, KEYS) == 0
    before = state(tokens)
    flags = ["--model", model, "--input", split, "--output", str(tokens), "--batch", "4", "--max-error-share", "0.2"]
    assert tokenize_shards.main(flags) == 0
    assert "in 0, out 0, failed 0" in caplog.text
    assert {name: state(tokens)[name] for name in before if name.startswith("test")} == {
        name: value for name, value in before.items() if name.startswith("test")
    }


def test_tokenizing_is_refused_while_a_removal_works_on_the_folder(tokens, model, split, caplog):
    before = state(tokens)
    flags = ["--model", model, "--input", split, "--output", str(tokens), "--max-error-share", "0.2"]
    with working_on(str(tokens), "jobs.remove_samples", alone=True):
        assert tokenize_shards.main(flags) == 1
    assert f"jobs.remove_samples works on {tokens}" in caplog.text
    assert state(tokens) == before
    assert tokenize_shards.main(flags) == 0


def test_parts_and_order_of_removals_do_not_matter(tokens):
    assert remove(tokens, KEYS[:0:-1]) == 0
    assert remove(tokens, KEYS) == 0
    for footer in footers(tokens).values():
        keys = [key for key in KEYS if key.startswith(f"sample-{footer.source_shard[-1]}-")]
        assert footer.removed_sha256 == (added_sha256("", keys) if keys else "")


@settings(max_examples=30)
@given(st.lists(st.text()), st.lists(st.text()))
def test_the_hash_is_that_of_all_keys_in_any_order(first, second):
    assert added_sha256(added_sha256("", first), second) == added_sha256("", [*reversed(second), *first])


def test_all_rows_of_a_table_may_go(tokens):
    keys = [key for key, _, _ in samples(5, 1)]
    assert remove(tokens, keys) == 0
    rows, footer = read_token_table(str(tokens / "test-000001.parquet"))
    assert (rows.keys, footer.rows, footer.removed) == ((), 0, 5)


def test_shards_rebuilt_of_the_tables_before_are_refused(tokens, model, tmp_path, caplog):
    flags = ["--model", model, "--tokens", str(tokens), "--output", str(tmp_path / "rebuilt"), "--dry-run"]
    spae = SPAE.from_pretrained(model)
    _, job = reconstruct_shards.prepare(tyro.cli(ReconstructFlags, args=flags), spae)
    before = {name: job.plan(footer) for name, footer in footers(tokens).items()}
    assert remove(tokens, KEYS) == 0
    after = {name: job.plan(footer) for name, footer in footers(tokens).items()}
    assert [name for name in before if before[name] != after[name]] == ["test-000000", "test-000002"]


def test_tables_live_on_any_file_system(tokens, tmp_path):
    store = fsspec.filesystem("memory")
    for path in tokens.rglob("*.*"):
        store.pipe_file(f"/removal/{path.relative_to(tokens)}", path.read_bytes())
    store.pipe_file("/keys.txt", "\n".join(KEYS).encode())
    assert remove_samples.main(["memory://removal", "--remove", "memory://keys.txt"]) == 0
    assert remove(tokens, KEYS) == 0
    for path in tokens.glob("*.*"):
        assert store.cat_file(f"/removal/{path.name}") == path.read_bytes()
    assert verify_tokens.main(["memory://removal"]) == 0


@pytest.mark.slow
def test_a_killed_removal_is_continued(tokens, tmp_path):
    table, footer = pq.read_table(tokens / "test-000000.parquet"), footers(tokens)["test-000000"]
    for name in ("undisturbed", "killed"):
        for number in range(600):
            shard = f"test-{number:06d}"
            named = dataclasses.replace(footer, source_shard=shard)
            publish_table(f"{tmp_path}/{name}/{shard}.parquet", table, named)
    (tmp_path / "keys.txt").write_text("\n".join(KEYS))
    flags = ["--remove", f"{tmp_path}/keys.txt"]
    assert remove_samples.main([f"{tmp_path}/undisturbed", *flags]) == 0
    command = [sys.executable, "-m", "jobs.remove_samples", f"{tmp_path}/killed", *flags]
    before = {path.name: path.stat().st_ino for path in (tmp_path / "killed").iterdir()}
    process = subprocess.Popen(command)
    while process.poll() is None and changed(tmp_path / "killed", before) < 20:
        pass
    process.kill()
    process.wait()
    assert 20 <= changed(tmp_path / "killed", before) < 600, "the kill came too late to show anything"
    assert subprocess.run(command).returncode == 0
    for path in (tmp_path / "undisturbed").iterdir():
        assert (tmp_path / "killed" / path.name).read_bytes() == path.read_bytes()


def changed(folder, before):
    """How many tables were written anew."""
    return sum((folder / name).stat().st_ino != number for name, number in before.items())


@pytest.mark.parametrize("text", [b"", b"\n\r\n", b"\xff\n"])
def test_a_file_without_keys_is_unusable(tokens, text):
    (tokens.parent / "keys.txt").write_bytes(text)
    assert remove_samples.main([str(tokens), "--remove", f"{tokens.parent}/keys.txt"]) == 2


def test_keys_of_windows_files_and_damaged_tables(tokens, caplog):
    assert remove(tokens, [f"{KEYS[0]}\r"]) == 0
    assert footers(tokens)["test-000000"].removed == 1
    (tokens / "test-000001.parquet").write_bytes(b"PAR1")
    assert remove(tokens, KEYS) == 2
    assert "is no whole Parquet file" in caplog.text
