"""Tables of the clips in the middle of videos, and mp4 files made of them, without Ray."""

import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from jobs.evaluate import main as evaluate
from pipelines.verify import main as verify
from spae.data.augmentation import load_pictures
from spae.data.mp4 import encode_mp4
from spae.data.records import load_index
from spae.data.tar import read_samples
from spae.data.token_table import read_token_table
from spae.data.video import check_video
from spae.evaluation.pictures import decode_in_batches
from spae.model import SPAE
from spae.pyramid import TokenPyramid
from tests import tiny_spae
from tests.tiny_reconstruction import reconstruct_tables
from tests.tiny_shards import write_split
from tests.tiny_tokens import tokenize_split
from tests.videos import frames_of, moving_digit, panned

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
