"""Whatever one input does costs that input alone, be it the whole process."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pipelines.images import main as images
from pipelines.shards.attempts import MARK_SUFFIX, Attempt, inputs_under_way
from pipelines.verify import main as verify
from spae.data.records import load_index
from tests.pipelines import deadly
from tests.pipelines.crashing import DEADLY
from tests.pipelines.folders import digit_folder, folder

ROOT = Path(__file__).parents[3]
PATHS = {
    "over-long name": f"{'a very long caption ' * 20}.jpg",
    "a file as folder": "sound.png/below.jpg",
    "NUL": "nul\0.jpg",
    "link loop": "loop.jpg",
    "protocol without its library": "abfs://container/picture.jpg",
    "URL that cannot be parsed": "http://[bad/picture.jpg",
    "missing": "nowhere.jpg",
    "folder": "one",
}


def dead_letters(split):
    return [json.loads(line) for path in sorted((split / "errors").iterdir()) for line in path.read_text().splitlines()]


def only_file(source):
    return next(source.glob("*/*.png"))


@pytest.mark.parametrize("kind", PATHS)
def test_a_path_that_leads_nowhere_is_one_dead_letter(kind, tmp_path):
    source = digit_folder(tmp_path / "images", 8)
    (source / "sound.png").write_bytes(only_file(source).read_bytes())
    os.symlink("loop.jpg", source / "loop.jpg")
    sound = [str(path.relative_to(source)) for path in sorted(source.glob("*/*.*"))]
    (source / "list.txt").write_text("\n".join([*sound, PATHS[kind]]) + "\n")
    flags = ["--source", "list", "--input", str(source / "list.txt"), "--output", str(tmp_path / "shards")]
    assert images([*flags, "--split", "train", "--max-error-share", "0.2"]) == 0
    assert load_index(str(tmp_path / "shards/train")).samples == 8
    (row,) = dead_letters(tmp_path / "shards/train")
    assert row["source_path"] == PATHS[kind]
    assert row["reason"] == "cannot be read"
    assert row["details"]


def test_an_image_that_cannot_be_encoded_is_one_dead_letter(tmp_path):
    source = digit_folder(tmp_path / "images", 8)
    sink = io.BytesIO()
    Image.new("L", (70_000, 30)).save(sink, format="PNG")
    (source / "one/long.png").write_bytes(sink.getvalue())
    assert folder(source, tmp_path / "shards", "--format", "jpg", "--max-error-share", "0.2") == 0
    (row,) = dead_letters(tmp_path / "shards/train")
    assert row["source_path"] == "one/long.png"
    assert load_index(str(tmp_path / "shards/train")).samples == 8


def crashing(source, output):
    return ["--source", "folder", "--input", str(source), "--output", str(output), "--split", "train"]


@pytest.fixture
def crash_folder(tmp_path):
    source = digit_folder(tmp_path / "images", 12)
    (source / "one/kills.png").write_bytes(DEADLY)
    return source


def test_what_kills_its_process_is_a_dead_letter_once_two_tries_have_died(crash_folder, tmp_path, caplog):
    split = tmp_path / "shards/train"
    split.mkdir(parents=True)
    mark = split / f"train-000000{MARK_SUFFIX}"
    mark.write_text(json.dumps({"tries": 2, "inputs": 3}))
    assert deadly.main([*crashing(crash_folder, tmp_path / "shards"), "--max-error-share", "0.2"]) == 0
    (row,) = dead_letters(split)
    assert (row["source_path"], row["reason"]) == ("one/kills.png", "killed its process")
    assert load_index(str(split)).samples == 12
    assert not mark.exists()
    assert verify([str(split)]) == 0


@pytest.mark.slow
def test_a_command_that_dies_twice_ends_well_the_third_time(crash_folder, tmp_path):
    split = tmp_path / "shards/train"
    command = [sys.executable, "-m", "tests.pipelines.deadly", *crashing(crash_folder, tmp_path / "shards")]
    for tries in (1, 2):
        assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
        assert json.loads((split / f"train-000000{MARK_SUFFIX}").read_text())["tries"] == tries
    assert subprocess.run([*command, "--max-error-share", "0.2"], cwd=ROOT).returncode == 0
    assert [row["reason"] for row in dead_letters(split)] == ["killed its process"]
    assert load_index(str(split)).samples == 12
    assert not list(split.glob(f"*{MARK_SUFFIX}"))


@pytest.mark.slow
def test_a_worker_that_dies_ends_the_command(crash_folder, tmp_path):
    """Beam's runner would wait for it for ever."""
    workers = ["--direct_num_workers", "2", "--direct_running_mode", "multi_processing"]
    command = [sys.executable, "-m", "tests.pipelines.deadly", *crashing(crash_folder, tmp_path / "shards"), *workers]
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 1
        assert "a worker process died" in done.stderr
    assert subprocess.run([*command, "--max-error-share", "0.2"], cwd=ROOT, timeout=300).returncode == 0
    assert [row["reason"] for row in dead_letters(tmp_path / "shards/train")] == ["killed its process"]
    assert not list((tmp_path / "shards/train").glob("*.tmp-*"))


def test_a_mark_tells_of_tries_that_died_and_of_inputs_that_are_done(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.shards.attempts.SECONDS_BETWEEN", 0.0)
    folder, name = str(tmp_path), f"train-000003{MARK_SUFFIX}"
    for deaths in range(3):
        attempt = Attempt(folder, "train-000003").__enter__()  # and never left, as when the process is killed
        assert attempt.deaths == deaths
        attempt.done(10 + deaths)
        assert inputs_under_way(folder, os.listdir(folder)) == {"train-000003": 10 + deaths}
    (tmp_path / name).write_text("damaged")
    with Attempt(folder, "train-000003") as attempt:
        assert attempt.deaths == 0
    assert inputs_under_way(folder, os.listdir(folder)) == {}
    assert not os.listdir(folder)
