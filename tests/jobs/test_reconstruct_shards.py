import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from jobs import reconstruct_shards
from jobs.cluster import connect
from pipelines.verify import main as verify
from spae.data.records import load_index
from tests.tiny_reconstruction import reconstruct_tables
from tests.tiny_shards import samples, write_split
from tests.tiny_tokens import tokenize_split


@pytest.fixture(scope="module")
def cluster():
    connect("local", num_cpus=2)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def tokens(model, tmp_path_factory):
    made = tmp_path_factory.mktemp("made")
    split = write_split(made / "split", [samples(count, seed) for seed, count in enumerate((9, 5, 7))])
    tokenize_split(model, split, made / "tokens")
    shutil.copy(made / "split/classes.parquet", made / "tokens")
    return made / "tokens"


@pytest.fixture(scope="module")
def rebuilt(model, tokens, cluster, tmp_path_factory):
    """The shards that two workers wrote."""
    output = tmp_path_factory.mktemp("rebuilt")
    assert _run(model, tokens, output, "--workers", "2", "--layers", "3") == 0
    return output


def _run(model, tokens, output, *flags):
    return reconstruct_shards.main(
        ["--model", str(model), "--tokens", str(tokens), "--output", str(output), "--batch", "4", *flags]
    )


def tree(folder):
    return {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def _times(folder):
    return {path.name: path.stat().st_mtime_ns for path in Path(folder).glob("test/test-*.json")}


def test_two_workers_and_one_process_give_the_same_bytes(rebuilt, model, tokens, tmp_path):
    reconstruct_tables(model, tokens, tmp_path, layers=3)
    assert tree(tmp_path) == tree(rebuilt)
    assert verify([str(rebuilt)]) == 0


def test_a_rerun_does_nothing_again(rebuilt, model, tokens, caplog):
    caplog.set_level(logging.INFO)
    before = _times(rebuilt)
    assert _run(model, tokens, rebuilt, "--layers", "3") == 0
    assert _times(rebuilt) == before
    assert "in 0, out 0, failed 0; skipped 21 that were done" in caplog.text


def test_a_table_that_fails_ends_with_1_and_the_others_stand(model, tokens, cluster, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    shutil.copytree(tokens, tmp_path / "tokens")
    url = tmp_path / "tokens/test-000001.parquet"
    table = pq.read_table(url)
    pq.write_table(table.set_column(0, table.schema.field("key"), [["twice"] * 5]), url)
    assert _run(model, tmp_path / "tokens", tmp_path) == 1
    assert "test-000001 is not written: " in caplog.text
    assert "in 21, out 16, failed 5" in caplog.text
    assert sorted(_times(tmp_path)) == ["test-000000.json", "test-000002.json"]


def test_too_many_errors_fail_the_run_after_all_is_written(model, tokens, cluster, tmp_path, caplog):
    shutil.copytree(tokens, tmp_path / "tokens")
    url = tmp_path / "tokens/test-000001.parquet"
    table = pq.read_table(url)
    ids = pa.array([[0], [0], [0], [0], [40]], table.schema.field("layer_1").type)
    pq.write_table(table.set_column(3, table.schema.field("layer_1"), ids), url)
    assert _run(model, tmp_path / "tokens", tmp_path) == 1
    assert "1 of 21 rows cannot be decoded, over --max-error-share 0.01" in caplog.text
    assert _run(model, tmp_path / "tokens", tmp_path, "--max-error-share", "0.05") == 0
    assert load_index(str(tmp_path / "test")).samples == 20


def test_a_dry_run_shows_the_plan_and_writes_nothing(model, tokens, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert _run(model, tokens, tmp_path, "--dry-run", "--limit", "2") == 0
    assert "2 shards with 14 pictures to write" in caplog.text
    assert _run(model, tokens, tmp_path, "--dry-run", "--shards", "1..1") == 0
    assert "1 shards with " in caplog.text
    assert not (tmp_path / "test").exists()


@pytest.mark.parametrize(
    "flags",
    [
        ["--layers", "0"],
        ["--layers", "5"],
        ["--worker-cpus", "0"],
        ["--shards", "5..6"],
        ["--shards", "1"],
        ["--wrokers", "2"],
        ["--tokens", "nowhere"],
    ],
)
def test_unusable_arguments_end_with_2(model, tokens, tmp_path, flags):
    try:
        status = _run(model, tokens, tmp_path, *flags)
    except SystemExit as error:
        status = error.code
    assert status == 2


@pytest.mark.slow
def test_a_killed_run_is_continued_to_the_same_bytes(model, tmp_path, cluster_environment):
    split = write_split(tmp_path / "split", [samples(60, seed) for seed in range(40)])
    tokenize_split(model, split, tmp_path / "tokens", batch=64)
    command = [sys.executable, "-m", "jobs.reconstruct_shards", "--model", model, "--tokens", f"{tmp_path}/tokens"]
    killed = [*command, "--output", f"{tmp_path}/killed", "--batch", "2"]  # slow enough to be killed halfway
    process = subprocess.Popen(killed, env=cluster_environment, start_new_session=True)
    deadline = time.monotonic() + 300
    while len(_times(tmp_path / "killed")) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(5)  # what was under way when the driver died may still be published
    before = _times(tmp_path / "killed")
    assert 3 <= len(before) < 40, "the kill came too late to show anything"
    assert not (tmp_path / "killed/test/index.json").exists()
    done = subprocess.run(killed, env=cluster_environment, capture_output=True, text=True, check=True)
    assert f"skipped {60 * len(before)} that were done" in done.stderr
    after = _times(tmp_path / "killed")
    assert {name: after[name] for name in before} == before
    assert verify([f"{tmp_path}/killed"]) == 0
    reconstruct_tables(model, tmp_path / "tokens", tmp_path / "whole", batch=2)
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")
