"""Tables of the clips in the middle of videos, and mp4 files made of them, without Ray."""

import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from jobs.evaluate import main as evaluate
from jobs.tokenize_shards import main as tokenize
from jobs.tokens.reconstruction_plan import common_footer
from jobs.verify_tokens import main as verify_tokens
from pipelines.verify import main as verify
from spae.data.augmentation import load_pictures
from spae.data.mp4 import encode_mp4
from spae.data.publishing import publish
from spae.data.records import load_index
from spae.data.sources import VIDEO_PATTERNS, find_shards
from spae.data.tar import read_samples
from spae.data.token_table import find_token_tables, open_token_table, publish_manifest, read_token_table
from spae.data.video import check_video, read_frames
from spae.evaluation.pictures import decode_in_batches
from spae.model import SPAE
from spae.pyramid import TokenPyramid
from tests import tiny_spae
from tests.image_layouts import write_files
from tests.tiny_reconstruction import reconstruct_tables
from tests.tiny_shards import samples, write_split
from tests.tiny_tokens import token_job, tokenize_shard, tokenize_split
from tests.videos import encoded, frames_of, moving_digit, panned

GRIDS = ((1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 4, 4))


@pytest.fixture(scope="module")
def video_model(tmp_path_factory):
    torch.manual_seed(0)
    model = SPAE(dataclasses.replace(tiny_spae.CONFIG, input_size=(8, 16, 16), grids=GRIDS), tiny_spae.vocabulary())
    made = str(tmp_path_factory.mktemp("video-model"))
    model.save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A split of five videos and one file that is none."""
    pixels = [panned(12, 16, 16, number) for number in range(3)] + [moving_digit(10, number, 32) for number in range(2)]
    shard = [(f"v{n}", encode_mp4(frames_of(one), rate=25, crf=18), n % 3) for n, one in enumerate(pixels)]
    return write_split(tmp_path_factory.mktemp("videos"), [[*shard, ("none", b"no video", 0)]], suffix="mp4")


@pytest.fixture(scope="module")
def tables(video_model, videos, tmp_path_factory):
    made = tmp_path_factory.mktemp("tables")
    tokenize_split(video_model, videos, made)
    return made


def test_a_table_holds_the_words_of_the_clip_in_the_middle(video_model, videos, tables):
    table = str(tables / "test-000000.parquet")
    rows, footer = read_token_table(table)
    media = [sample.media for sample in read_samples(load_index(videos).shards[0].url)][:5]
    pixels = load_pictures(media, (8, 16, 16))
    model = SPAE.from_pretrained(video_model)
    expected = torch.cat([model.encode(part).flatten() for part in (pixels[:4], pixels[[4, 4, 4, 4]])])[:5]
    assert torch.equal(TokenPyramid.from_arrays(rows.layers).flatten(), expected)
    assert (rows.keys, footer.errors, footer.grids) == (("v0", "v1", "v2", "v3", "v4"), 1, GRIDS)
    assert pq.read_table(table)["clip"].to_pylist() == [0] * 5


def test_several_clips_of_a_video_are_rows_that_are_told_by_their_number(video_model, videos, tmp_path):
    job = dataclasses.replace(token_job(video_model, tmp_path), clips=3, frame_stride=1)
    small = dataclasses.replace(job, output=str(tmp_path / "parts"), block_bytes=1)  # as shards that are too large
    (shard,) = load_index(videos).shards
    assert tokenize_shard(job, shard).errors == 1
    assert tokenize_shard(small, shard).errors == 1
    table = pq.read_table(tmp_path / "test-000000.parquet")
    assert table.equals(pq.read_table(tmp_path / "parts" / "test-000000.parquet"))
    assert table["key"].to_pylist() == [f"v{n}" for n in range(5) for _ in range(3)]
    assert table["clip"].to_pylist() == [0, 1, 2] * 5
    model, media = SPAE.from_pretrained(video_model), [sample.media for sample in read_samples(shard.url)]
    frames = np.stack([frame.pixels for frame in read_frames(media[0])])
    cut = torch.from_numpy(np.stack([frames[first : first + 8] for first in (0, 2, 4, 0)])).movedim(-1, 1)
    words = TokenPyramid.from_arrays(read_token_table(str(tmp_path / "test-000000.parquet"))[0].layers)
    assert torch.equal(words.flatten()[:3], model.encode(cut).flatten()[:3])
    with pytest.raises(ValueError, match="has 3 rows of each video, and here one is needed"):
        open_token_table(str(tmp_path), shard, model.fingerprint)
    with pytest.raises(ValueError, match=r"holds 3 clips of each sample; .* without --clips"):
        common_footer(find_token_tables(str(tmp_path)), str(tmp_path))


def test_frames_of_a_clip_lie_a_stride_apart_and_short_videos_are_dead_letters(videos, tmp_path):
    torch.manual_seed(0)
    config = dataclasses.replace(tiny_spae.CONFIG, input_size=(4, 16, 16), grids=((1, 1, 1), (1, 4, 4)))
    SPAE(config, tiny_spae.vocabulary()).save_pretrained(str(tmp_path / "model"))
    job = dataclasses.replace(token_job(str(tmp_path / "model"), tmp_path), frame_stride=3)  # 10 frames: all of v3
    (shard,) = load_index(videos).shards
    assert tokenize_shard(job, shard).errors == 1
    model, media = SPAE.from_pretrained(str(tmp_path / "model")), [sample.media for sample in read_samples(shard.url)]
    clips = load_pictures(media[:4], (4, 16, 16), frame_stride=3)
    words = open_token_table(str(tmp_path), shard, model.fingerprint, frame_stride=3)
    assert torch.equal(TokenPyramid.from_arrays(words.layers).flatten()[:4], model.encode(clips).flatten())
    with pytest.raises(ValueError, match="has frame_stride 3, and here it is 1"):
        open_token_table(str(tmp_path), shard, model.fingerprint)
    assert tokenize_shard(dataclasses.replace(job, clips=2), shard).errors == 3
    assert {row["detail"] for row in pq.read_table(tmp_path / "errors").to_pylist()} >= {"too short: 10 of 11 frames"}


def test_a_folder_of_videos_becomes_frames_with_a_model_of_pictures(model, tmp_path, caplog):
    write_files(tmp_path / "videos", {f"a/{n}.mp4": encoded(panned(9, 16, 16, n)) for n in range(2)} | {"b.txt": b""})
    shards = find_shards([str(tmp_path / "videos")], 10, VIDEO_PATTERNS)
    job = dataclasses.replace(token_job(model, tmp_path), clips=3)
    assert [tokenize_shard(job, shard).errors for shard in shards] == [0]
    table = pq.read_table(tmp_path / "videos-000000.parquet")
    assert list(zip(table["key"].to_pylist(), table["clip"].to_pylist(), strict=True)) == [
        (f"a/{n}.mp4", clip) for n in range(2) for clip in range(3)
    ]
    frames = [frame.pixels for frame in read_frames((tmp_path / "videos/a/1.mp4").read_bytes())]
    expected = SPAE.from_pretrained(model).encode(
        torch.from_numpy(np.stack([frames[n] for n in (0, 4, 8, 0)])).movedim(-1, 1)
    )
    words = TokenPyramid.from_arrays(read_token_table(str(tmp_path / "videos-000000.parquet"))[0].layers)
    assert torch.equal(words.flatten()[3:], expected.flatten()[:3])
    publish_manifest(str(tmp_path), find_token_tables(str(tmp_path)))
    publish(str(tmp_path / "vocabulary.parquet"), SPAE.from_pretrained(model).vocabulary.words_parquet())
    assert verify_tokens([str(tmp_path), "--model", model, "--input", str(tmp_path / "videos"), "--files", "10"]) == 0


def test_models_that_do_not_fit_the_shards_give_dead_letters_that_say_what_does(model, video_model, videos, tmp_path):
    pictures = write_split(tmp_path / "pictures", [samples(2)])
    for made, split, name, count in ((model, videos, "a video", 5), (video_model, pictures, "a picture", 2)):
        output = tmp_path / made.rsplit("/", 1)[-1]
        (shard,) = load_index(split).shards
        assert tokenize_shard(token_job(made, output), shard).errors == shard.samples
        details = [row["detail"] for row in pq.read_table(output / "errors").to_pylist()]
        assert sum(f": {name}; a model of" in detail for detail in details) == count


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--frame-stride", "2"], "takes pictures; give --clips, the number of frames of each video"),
        (["--clips", "2", "--views", "2"], "--views 2 are of pictures, and here videos are read"),
    ],
)
def test_flags_of_videos_that_do_not_fit_say_what_does(model, videos, tmp_path, caplog, flags, said):
    assert tokenize(["--model", model, "--input", videos, "--output", str(tmp_path), *flags]) == 2
    assert said in caplog.text


def test_stored_and_fresh_words_score_the_same(video_model, videos, tables, tmp_path):
    own = ["--model", video_model, "--shards", videos, "--batch", "4", "--max-error-share", "0.5", "--output"]
    assert evaluate([*own, str(tmp_path / "fresh.json")]) == 0
    assert evaluate([*own, str(tmp_path / "stored.json"), "--tokens", str(tables)]) == 0
    fresh, stored = ((tmp_path / name).read_text().split('"samples"')[1] for name in ("fresh.json", "stored.json"))
    assert fresh == stored


def test_a_stride_stands_in_the_protocol_and_fails_where_all_videos_are_too_short_for_it(video_model, videos, tmp_path):
    own = ["--model", video_model, "--shards", videos, "--max-error-share", "0.9", "--output"]
    assert evaluate([*own, str(tmp_path / "one.json")]) == 0
    assert evaluate([*own, str(tmp_path / "two.json"), "--frame-stride", "2"]) == 1
    protocol = json.loads((tmp_path / "one.json").read_text())["protocol"]
    assert protocol["frame_stride"] == 1


def test_tables_become_shards_of_mp4_files(video_model, tables, tmp_path):
    (outcome,) = reconstruct_tables(video_model, tables, tmp_path)
    assert (outcome.reason, outcome.errors) == ("", 0)
    assert verify([str(tmp_path / "test")]) == 0
    samples = list(read_samples(load_index(str(tmp_path / "test")).shards[0].url))
    rows, _ = read_token_table(str(tables / "test-000000.parquet"))
    pyramid = TokenPyramid.from_arrays(rows.layers)
    rebuilt = np.concatenate(list(decode_in_batches(SPAE.from_pretrained(video_model), pyramid, 4)))
    assert [sample.key for sample in samples] == list(rows.keys)
    for sample, expected in zip(samples, rebuilt, strict=True):
        header = check_video(sample.media)
        assert (round(header.frames_per_second, 6), len(header.times)) == (25, 8)
        assert sample.media == encode_mp4(frames_of(expected), rate=25, crf=10)
