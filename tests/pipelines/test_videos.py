import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import webdataset

from pipelines.verify import main as verify
from pipelines.videos import main
from spae.data.records import load_class_names, load_index
from spae.data.video import check_video, read_frames
from tests.pipelines.folders import tree_hashes
from tests.videos import encoded, kinetics, moving_digit, panned, tone

ROOT = Path(__file__).parents[2]
LOSSES = ("--max-error-share", "0.3")
CLIPS = ("--frames", "16", "--size", "32", *LOSSES)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return kinetics(tmp_path_factory.mktemp("kinetics"))


def arguments(release, output, *flags):
    source = ["--source", "kinetics", "--input", str(release[0]), "--annotations", str(release[1])]
    return [*source, "--split", "train", "--output", str(output), "--samples-per-shard", "3", *flags]


def samples_of(split):
    urls = sorted(str(path) for path in Path(split).glob("*.tar"))
    return {sample["__key__"]: sample for sample in webdataset.WebDataset(urls, shardshuffle=False)}


def dead_letters(split):
    lines = [line for path in sorted((split / "errors").glob("*")) for line in path.read_text().splitlines()]
    return {row["source_path"]: row["reason"] for row in map(json.loads, lines)}


def test_kinetics_keeps_the_original_clips_and_names_the_missing_one(release, tmp_path, caplog):
    assert main(arguments(release, tmp_path)) == 1
    assert "over --max-error-share" in caplog.text
    assert "1 of 7 annotated clips are missing" in caplog.text
    assert main(arguments(release, tmp_path, *LOSSES)) == 0
    assert "skipped 7 that were finished before" in caplog.text
    split = tmp_path / "train"
    assert dead_letters(split) == {"-a_00000006_000060_000070.mp4": "missing clip"}
    index = load_index(str(split))
    assert (index.samples, sum(shard.errors for shard in index.shards)) == (6, 1)
    assert load_class_names(str(split)) == {0: "riding a bike", 1: "tap dancing"}
    for key, sample in samples_of(split).items():
        values = json.loads(sample["json"])
        assert sample["mp4"] == (release[0] / values["source_path"]).read_bytes()
        assert values["source_path"].endswith(f"{key}.mp4")
        assert (values["fps"], values["frames"], values["t0"], values["t1"]) == (25, 30, 0, 1.2)
        assert values["audio"] == ("kept" if key.startswith("-a_00000001") else "none")
        assert sample["txt"].decode() == values["label_name"]
    assert verify([str(split)]) == 0


def test_clips_are_cut_resized_and_encoded(release, tmp_path):
    assert main(arguments(release, tmp_path, *CLIPS)) == 0
    split = tmp_path / "train"
    samples = samples_of(split)
    assert len(samples) == 6
    for key, sample in samples.items():
        values, frames = json.loads(sample["json"]), list(read_frames(sample["mp4"]))
        assert [frame.pixels.shape for frame in frames] == [(32, 32, 3)] * 16
        assert (values["frames"], values["width"], values["fps"], values["crf"]) == (16, 32, 25, 18)
        assert (values["t0"], values["t1"]) == (0.28, 0.92)  # 7 of 14 spare frames lie before the clip
        assert values["audio"] == ("dropped" if key.startswith("-a_00000001") else "none")
    assert verify([str(split)]) == 0
    before = tree_hashes(split)
    os.remove(split / "train-000001.tar")
    assert verify([str(split), "--repair"]) == 0
    assert tree_hashes(split) == before


def test_a_digit_in_the_clip_is_where_it_was_in_the_video(release, tmp_path):
    flags = ("--frames", "8", "--stride", "3", "--crf", "5", *LOSSES)
    assert main(arguments(release, tmp_path, *flags)) == 0
    sample = samples_of(tmp_path / "train")["-a_00000002_000020_000030"]
    wanted = moving_digit(30, 2)[4:28:3]
    for frame, pixels in zip(read_frames(sample["mp4"]), wanted, strict=True):
        assert np.abs(frame.pixels.astype(int) - pixels).mean() < 4
    assert json.loads(sample["json"])["fps"] == pytest.approx(25 / 3, abs=1e-5)


def test_several_clips_of_a_video_are_inputs_of_their_own(release, tmp_path):
    flags = ("--frames", "10", "--rate", "12.5", "--clips", "3", "--size", "32", *LOSSES)
    assert main(arguments(release, tmp_path, *flags)) == 0
    split = tmp_path / "train"
    index = load_index(str(split))
    assert (index.samples, sum(shard.errors for shard in index.shards)) == (18, 3)
    values = {key: json.loads(sample["json"]) for key, sample in samples_of(split).items()}
    name = "-a_00000003_000030_000040"
    assert [values[f"{name}-c{clip:02d}"]["t0"] for clip in range(3)] == pytest.approx([0, 0.2, 0.4])
    assert [values[f"{name}-c{clip:02d}"]["t1"] for clip in range(3)] == pytest.approx([0.8, 1.0, 1.2])


@pytest.mark.slow
def test_the_same_bytes_with_another_worker_count(release, tmp_path):
    assert main(arguments(release, tmp_path / "one", *CLIPS)) == 0
    flags = ["--direct_num_workers", "2", "--direct_running_mode", "multi_processing"]
    command = [sys.executable, "-m", "pipelines.videos", *arguments(release, tmp_path / "two", *CLIPS), *flags]
    subprocess.run(command, cwd=ROOT, check=True)
    assert tree_hashes(tmp_path / "two") == tree_hashes(tmp_path / "one")


def test_the_full_run_continues_a_pilot(release, tmp_path, caplog):
    assert main(arguments(release, tmp_path, *CLIPS, "--limit", "5")) == 0
    split = tmp_path / "train"
    kept = os.stat(split / "train-000000.tar").st_ino
    assert main(arguments(release, tmp_path, *CLIPS)) == 0
    assert os.stat(split / "train-000000.tar").st_ino == kept
    assert main(arguments(release, tmp_path / "whole", *CLIPS)) == 0
    assert tree_hashes(split) == tree_hashes(tmp_path / "whole" / "train")
    assert main(arguments(release, tmp_path, *LOSSES)) == 2
    assert "samples.frames is 16 there, None here" in caplog.text


def test_dry_run_writes_nothing(release, tmp_path, caplog):
    assert main(arguments(release, tmp_path / "new", "--dry-run")) == 0
    assert not (tmp_path / "new").exists()
    assert "7 inputs of 2 classes in 2 shards" in caplog.text
    assert "1 inputs cannot be used: missing clip" in caplog.text


def test_every_fault_in_class_folders_is_a_dead_letter_with_its_reason(tmp_path):
    source = tmp_path / "videos"
    video = encoded(panned(20))
    sound = {
        "jump/mp4.mp4": video,
        "jump/odd.avi": encoded([picture[:47, :63] for picture in panned(20)], "avi", "mpeg4", "yuv420p"),
        "walk/upright.mov": encoded(panned(20), "mov", rotation=90),
        "walk/uneven.mp4": encoded(panned(20), milliseconds=[number * number for number in range(2, 22)]),
        "walk/deep.mkv": encoded(panned(20), "matroska", "libx264", "yuv444p10le"),
        "walk/grey.mp4": encoded(panned(20), pixel_format="gray"),
    }
    faults = {
        "jump/sound.mp4": (tone(), "no video stream"),
        "jump/empty.mp4": (b"", "empty file"),
        "jump/words.mp4": (b"these are words" * 99, "no video file"),
        "jump/list.mp4": (b"ffconcat version 1.0\nfile 'mp4.mp4'\n", "no video file"),
        "walk/cut.mp4": (video[: len(video) // 2], "no video file"),
        "walk/one.mp4": (encoded(panned(1)), "too short"),
        "walk/picture.mp4": (encoded(panned(3), "mp4", "png", "rgb24"), "unknown codec"),
        "cover.mp4": (b"about these videos", "outside of the class folders"),
    }
    for name, data in {**sound, **{name: data for name, (data, _) in faults.items()}}.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    flags = ["--source", "folder", "--input", str(source), "--split", "train", "--max-error-share", "0.9"]
    output = tmp_path / "clips"
    assert main([*flags, "--output", str(output), "--frames", "16", "--size", "32"]) == 0
    assert dead_letters(output / "train") == {name: reason for name, (_, reason) in faults.items()}
    assert load_index(str(output / "train")).samples == len(sound)
    assert verify([str(output / "train")]) == 0

    assert main([*flags, "--output", str(tmp_path / "whole"), "--check", "decode"]) == 0
    values = {key: json.loads(sample["json"]) for key, sample in samples_of(tmp_path / "whole" / "train").items()}
    assert values["jump_odd"]["source_codec"] == "mpeg4"
    assert (values["jump_odd"]["height"], values["jump_odd"]["width"]) == (46, 62)
    assert (values["walk_upright"]["height"], values["walk_upright"]["width"]) == (64, 48)
    assert "walk_one" in values
    kept = {key for key, value in values.items() if "crf" not in value}
    assert kept == {"jump_mp4", "walk_upright", "walk_uneven", "walk_grey", "walk_one"}


def test_damage_is_found_by_check_decode_and_by_verify(release, tmp_path, caplog):
    source = tmp_path / "videos"
    (source / "a").mkdir(parents=True)
    video = encoded(panned(20))
    begin, end = video.index(b"mdat") + 4, video.index(b"moov") - 4
    half = (begin + end) // 2
    (source / "a" / "sound.mp4").write_bytes(video)
    (source / "a" / "damaged.mp4").write_bytes(video[:half] + bytes(end - half) + video[end:])
    flags = ["--source", "folder", "--input", str(source), "--split", "val", "--max-error-share", "0.5"]
    assert main([*flags, "--output", str(tmp_path / "header")]) == 0
    assert verify([str(tmp_path / "header" / "val")]) == 1
    assert "a_damaged: broken video" in caplog.text
    assert main([*flags, "--output", str(tmp_path / "decode"), "--check", "decode"]) == 0
    assert dead_letters(tmp_path / "decode" / "val") == {"a/damaged.mp4": "broken video"}
    assert verify([str(tmp_path / "decode" / "val")]) == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--clips", "3"], "give their length with --frames"),
        (["--frames", "0"], "must be at least 1"),
        (["--frames", "16", "--rate", "0"], "must be over 0"),
        (["--frames", "16", "--rate", "5", "--stride", "2"], "without --stride"),
        (["--size", "127"], "must be even"),
        (["--crf", "60"], "between 0 and 51"),
        (["--frame", "16"], "did you mean --frames?"),
        (["--annotations", "nowhere.csv"], "does not exist"),
    ],
)
def test_unusable_arguments_are_named(release, tmp_path, caplog, flags, message):
    assert main(arguments(release, tmp_path, *flags)) == 2
    assert message in caplog.text


def test_whole_videos_can_be_resized_without_a_crop(release, tmp_path):
    assert main(arguments(release, tmp_path, "--size", "24", "--no-crop", *LOSSES)) == 0
    headers = {key: check_video(sample["mp4"]) for key, sample in samples_of(tmp_path / "train").items()}
    panned_header, digit_header = headers["-a_00000001_000010_000020"], headers["-a_00000000_000000_000010"]
    assert (panned_header.width, panned_header.height, len(panned_header.times)) == (32, 24, 30)
    assert (digit_header.width, digit_header.height) == (24, 24)
