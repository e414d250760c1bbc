"""Whole runs on a real cluster: submitted with `ray job submit`, or killed half-way and continued."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

import spae
from jobs import export
from jobs.training.run_folder import load_latest_state, read_history
from spae.data.token_table import find_token_tables
from spae.model import SPAE
from tests import tiny_spae
from tests.jobs.conftest import head_node, submit
from tests.tiny_shards import samples, write_split

pytestmark = pytest.mark.slow
SMALL = (*tiny_spae.SMALL_DIGITS, "--steps", "25", "--workers", "2", "--checkpoint-every", "5", "--log-every", "5")


def training(folder, name):
    inputs = ("--shards", f"{folder}/train", "--val-shards", f"{folder}/val", "--vocabulary", f"{folder}/vocabulary")
    return ("jobs.train", "digits-32", *inputs, "--run", f"{folder}/{name}", *SMALL)


@pytest.fixture(scope="module")
def whole(folder, cluster_environment):
    """A submitted training of two workers."""
    status, printed = submit(cluster_environment, sys.executable, *training(folder, "whole"))
    assert status == 0, printed
    return folder / "whole"


@pytest.fixture(scope="module")
def model(folder, whole):
    """Its exported model."""
    assert export.main(["--run", str(whole), "--output", f"{folder}/model"]) == 0
    return folder / "model"


def test_a_submitted_training_leaves_history_and_checkpoints(folder, whole, cluster_environment):
    history = read_history(str(whole))
    assert [row["step"] for row in history] == [5, 10, 15, 20, 25]
    assert history[-1]["validation_psnr"] > 5
    assert {"pixel", "commitment", "latent_radius/5", "perplexity/1", "top_share/5", "words/5"} <= set(history[0])
    assert sorted(path.name for path in whole.glob("step-*"))[-1] == "step-00000025"
    before = (whole / "history.jsonl").stat().st_mtime_ns
    again = [sys.executable, "-m", *training(folder, "whole")]
    assert subprocess.call(again, env=cluster_environment) == 0  # nothing is left to do
    assert (whole / "history.jsonl").stat().st_mtime_ns == before


def test_a_killed_run_continues_to_the_same_weights(folder, whole, cluster_environment):
    command = [sys.executable, "-m", *training(folder, "killed")]
    process = subprocess.Popen(command, env=cluster_environment, start_new_session=True)
    deadline = time.monotonic() + 240
    while not (folder / "killed/step-00000005/state.pt").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "killed/finished.json").exists()
    assert subprocess.call(command, env=cluster_environment) == 0
    one, other = (load_latest_state(str(run)) for run in (whole, folder / "killed"))
    assert one["step"] == other["step"] == 25
    assert one["position"] == other["position"]
    for name, tensor in one["average"].items():
        assert torch.equal(tensor, other["average"][name]), name


def test_a_sick_codebook_ends_the_run_where_asked(folder, cluster_environment):
    """Latents that are not brought to the table's statistics lie where they will."""
    sick = (*training(folder, "sick"), "--model.latent-statistics", "none", "--abort-on", "collapse")
    done = subprocess.run([sys.executable, "-m", *sick], env=cluster_environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.match(r"training failed: layer \d", done.stderr.splitlines()[-1])
    assert load_latest_state(f"{folder}/sick")["step"] < 25
    assert not (folder / "sick/finished.json").exists()


def test_a_cut_shard_ends_the_run_at_once_with_one_line(folder, tmp_path, cluster_environment):
    shutil.copytree(folder / "train", tmp_path / "train")
    tar = tmp_path / "train/train-000000.tar"
    tar.write_bytes(tar.read_bytes()[:80_000])  # behind the samples that are looked at before anything starts
    command = [argument.replace(f"{folder}/train", f"{tmp_path}/train") for argument in training(folder, "cut")]
    done = subprocess.run([sys.executable, "-m", *command], env=cluster_environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.search(r"(?m)^training failed: worker \d: ValueError: \S+train-000000.tar is damaged: ", done.stderr)
    assert "resumes from" not in done.stderr


def test_the_export_loads(model):
    loaded = SPAE.from_pretrained(str(model))
    assert loaded.encode(torch.zeros(2, 3, 32, 32)).grids == loaded.config.grids


def test_a_submitted_tokenizing_job(folder, model, cluster_environment, tmp_path):
    """From another folder; the estimate is of the cluster."""
    flags = ("--model", str(model), "--output", f"{folder}/tokens", "--workers", "2", "--input", f"{folder}/train")
    command = (cluster_environment, sys.executable, "jobs.tokenize_shards", *flags)
    status, printed = submit(*command, "--dry-run", folder=tmp_path)
    assert status == 0, printed
    assert re.search(r"\d+ images/s on cpu of the cluster, .* worker hours", printed)
    assert not (folder / "tokens").exists()
    status, printed = submit(*command, folder=tmp_path)
    assert status == 0, printed
    assert pq.read_table(folder / "tokens/train-000000.parquet").num_rows == 40


def test_a_submitted_scoring_job(folder, model, cluster_environment, tmp_path):
    """From another folder, by an actor: the figures of this process, which has as many threads."""
    own = ("--model", str(model), "--shards", f"{folder}/train", "--judges", "tiny", "--batch", "16", "--output")
    flags = (*own, f"{folder}/submitted.json", "--workers", "2")
    status, printed = submit(cluster_environment, sys.executable, "jobs.evaluate", *flags, folder=tmp_path)
    assert status == 0, printed
    assert "in 40, out 40, failed 0" in printed
    here = [sys.executable, "-m", "jobs.evaluate", *own, f"{folder}/here.json"]
    subprocess.check_call(here, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    submitted, local = (json.loads((folder / f"{name}.json").read_text()) for name in ("submitted", "here"))
    assert submitted["layers"] == local["layers"]
    assert submitted["protocol"]["references"] == local["protocol"]["references"]
    assert {path.name for path in folder.glob("submitted*.*")} >= {"submitted.md", "submitted.png", "submitted.parts"}


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """A Python with all that spae depends on, and without spae."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.check_call([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    (bare,) = folder.glob("lib/python*/site-packages")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "spae" not in path.name:
            (bare / path.name).symlink_to(path)
    return str(folder / "bin/python")


def test_a_submitted_job_needs_no_spae_on_the_workers(bare_python, tmp_path):
    """The checkout that `ray job submit --working-dir .` uploads is enough, up to the footers of the tables."""
    tiny_spae.model().save_pretrained(str(tmp_path / "model"))
    split = write_split(tmp_path / "split", [samples(5)])
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for statement in ("import spae", "import importlib.metadata as m; m.version('spae')"):
        assert subprocess.call([bare_python, "-c", statement], env=bare, cwd=tmp_path) == 1
    flags = ("--model", f"{tmp_path}/model", "--input", split, "--output", f"{tmp_path}/tokens")
    with head_node(bare_python, bare, cwd=tmp_path) as environment:
        status, printed = submit(environment, bare_python, "jobs.tokenize_shards", *flags)
        relative = submit(environment, bare_python, "jobs.tokenize_shards", *flags[:4], "--output", "runs/tokens")
    assert status == 0, printed
    (table,) = find_token_tables(f"{tmp_path}/tokens").values()
    assert table.footer.code_version == spae.__version__
    assert relative[0] == 1
    assert "--output runs/tokens is relative, and a submitted job works in a temporary folder" in relative[1]
