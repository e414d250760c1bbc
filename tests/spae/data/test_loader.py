import collections
import dataclasses
import hashlib
import io
import itertools
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from spae.config import DataConfig
from spae.data.cache import ShardCache
from spae.data.loader import BatchPlan, _join, batches
from spae.data.records import ShardInfo, SplitIndex
from spae.data.tar import read_samples
from tests.videos import encoded, moving_digit


def write_tar(path, samples, media_suffix="png"):
    """A tar of WebDataset form from (key, media bytes) pairs, written by the standard library."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, (key, media) in enumerate(samples):
            for suffix, content in ((media_suffix, media), ("cls", str(number % 10).encode())):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def png(value):
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Three uneven shards: 5, 1 and 7 pictures, each of one grey that is its number."""
    folder, sizes, shards = tmp_path_factory.mktemp("split"), (5, 1, 7), []
    numbers = itertools.count()
    for name, size in zip("abc", sizes, strict=True):
        path = folder / f"{name}.tar"
        write_tar(path, [(f"s{n}", png(10 * n)) for n in itertools.islice(numbers, size)])
        shards.append(ShardInfo(str(path), size, path.stat().st_size, ""))
    return SplitIndex("train", tuple(shards))


@pytest.fixture(scope="module")
def holed(tmp_path_factory):
    """Two shards of 4 and 3, in which three samples are no pictures."""
    folder, shards = tmp_path_factory.mktemp("holed"), []
    for name, media in {"a": [png(1), b"none", png(3), png(4)], "b": [b"", png(6), b"none"]}.items():
        write_tar(folder / f"{name}.tar", [(f"{name}{number}", one) for number, one in enumerate(media)])
        shards.append(ShardInfo(str(folder / f"{name}.tar"), len(media), 0, ""))
    return SplitIndex("train", tuple(shards))


def plan(index, rank=0, ranks=1, workers=0, batch=4, streams=4):
    data = DataConfig(batch_size=batch, streams=streams, crop_scale=(1.0, 1.0), flip=True)
    return BatchPlan(
        index=index, data=data, input_size=(4, 4), draws=3, seed=7, rank=rank, ranks=ranks, loader_workers=workers
    )


def take(plan, count, seen=0):
    return list(itertools.islice(batches(plan, seen), count))


def test_one_epoch_of_batches_holds_every_sample_once(index):
    keys = [key for batch in take(plan(index, batch=4), 13) for key in batch.keys]
    assert collections.Counter(keys) == {f"s{n}": 4 for n in range(13)}  # 52 samples, four epochs of 13


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 7),
    streams=st.integers(1, 9),
    ranks=st.integers(1, 7),
    before=st.integers(0, 4),
)
@pytest.mark.parametrize("name", ["index", "holed"])
def test_any_number_of_ranks_shares_the_ordered_batches_of_one_after_any_resume(
    request, name, batch, streams, ranks, before
):
    split, ranks = request.getfixturevalue(name), min(ranks, batch)
    whole = take(plan(split, batch=batch, streams=streams), before + 3)[before:]
    parts = [take(plan(split, rank, ranks, 0, batch, streams), 3, before * batch) for rank in range(ranks)]
    for one, *shares in zip(whole, *parts, strict=True):
        assert max(len(share.keys) for share in shares) - min(len(share.keys) for share in shares) <= 1
        assert {share.whole for share in shares} == {batch}
        assert sum(share.undecodable for share in shares) == one.undecodable
        check_equal(one, _join(shares))


def check_equal(one, other):
    assert (one.keys, one.numbers) == (other.keys, other.numbers)
    assert torch.equal(one.pixels, other.pixels)
    assert torch.equal(one.draws, other.draws)


def test_ranks_that_divide_batch_and_streams_take_every_so_manieth_number_as_ever(index):
    for rank in range(2):
        numbers = [n for batch in take(plan(index, rank, 2, batch=4, streams=4), 3, seen=8) for n in batch.numbers]
        assert numbers == list(range(8 + rank, 20, 2))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_loader_workers_change_nothing(holed, workers):
    """Also where they divide neither the streams nor the rank's share of a batch, and one has nothing to do."""
    described = {"rank": 1, "ranks": 2, "batch": 5, "streams": 4}
    alone, shared = take(plan(holed, **described), 6), take(plan(holed, workers=workers, **described), 6)
    for one, other in zip(alone, shared, strict=True):
        check_equal(one, other)


@pytest.mark.parametrize("ranks", [56, 96, 100])
def test_a_batch_of_256_goes_to_any_number_of_gpus_and_each_stream_to_one(index, ranks):
    data, readers = DataConfig(batch_size=256, streams=256, flip=False), collections.defaultdict(set)
    for rank in (0, 1, ranks - 1):
        described = BatchPlan(index=index, data=data, input_size=(4, 4), draws=0, seed=0, rank=rank, ranks=ranks)
        for batch in take(described, 2):
            assert len(batch.keys) in (256 // ranks, 256 // ranks + 1)
            for number in batch.numbers:
                readers[number % 256].add(rank)
    assert all(len(found) == 1 for found in readers.values())


def test_a_cache_changes_nothing_and_serves_when_the_store_is_gone(index, tmp_path):
    whole, moved = take(plan(index), 9), []
    for shard in index.shards:
        content = Path(shard.url).read_bytes()
        (tmp_path / shard.name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        moved.append(dataclasses.replace(shard, url=str(tmp_path / shard.name), sha256=digest))
    cached = dataclasses.replace(plan(SplitIndex("train", tuple(moved))), cache=ShardCache(f"{tmp_path}/cache", 10**6))
    for one, other in zip(whole, take(cached, 9), strict=True):
        check_equal(one, other)
    for shard in moved:
        Path(shard.url).unlink()
    check_equal(whole[5], take(cached, 1, seen=20)[0])


def test_a_store_is_read_from_the_beginning_and_gives_the_same(index):
    fsspec.filesystem("memory").pipe({f"/split/{one.name}": Path(one.url).read_bytes() for one in index.shards})
    stored = [dataclasses.replace(shard, url=f"memory://split/{shard.name}") for shard in index.shards]
    for one, other in zip(take(plan(index), 6), take(plan(SplitIndex("train", tuple(stored))), 6), strict=True):
        check_equal(one, other)
    assert plan(index).order.bytes_read([one.bytes for one in index.shards]) > sum(one.bytes for one in index.shards)


def test_a_resume_opens_no_finished_shard(tmp_path):
    shards = []
    for number in range(4):
        write_tar(tmp_path / f"{number}.tar", [(f"s{number}{n}", png(1)) for n in range(3)])
        shards.append(ShardInfo(str(tmp_path / f"{number}.tar"), 3, 0, ""))
    split = SplitIndex("train", tuple(shards))
    whole = take(plan(split, streams=1, batch=3), 4)
    for shard in {key[1] for batch in whole[:2] for key in batch.keys}:
        (tmp_path / f"{shard}.tar").unlink()
    for one, other in zip(whole[2:], take(plan(split, streams=1, batch=3), 2, seen=6), strict=True):
        check_equal(one, other)


def test_pictures_and_draws_depend_on_seed_epoch_and_key_alone(index):
    def by_key(found):
        return {(n // 13, key): row for b in found for n, key, row in zip(b.numbers, b.keys, b.draws, strict=True)}

    small, large = by_key(take(plan(index, batch=4), 6)), by_key(take(plan(index, batch=8), 3))
    assert small.keys() == large.keys()
    assert all(torch.equal(small[key], large[key]) for key in small)
    assert len({tuple(row.tolist()) for row in small.values()}) == len(small)


def test_pixels_are_those_of_the_key(index):
    batch = take(plan(index), 1)[0]
    assert batch.pixels.dtype == torch.uint8
    assert batch.pixels.shape == (4, 3, 4, 4)
    assert batch.pixels[:, 0, 0, 0].tolist() == [10 * int(key[1:]) for key in batch.keys]


def test_a_slice_of_a_shard_is_read(index):
    samples = list(read_samples(index.shards[2].url, 2, 5))
    assert [sample.key for sample in samples] == ["s8", "s9", "s10"]
    assert [sample.label for sample in samples] == [2, 3, 4]


@pytest.fixture
def broken(tmp_path):
    """A split whose second sample is no picture."""
    write_tar(tmp_path / "a.tar", [("good", png(50)), ("bad", b"no picture"), ("fine", png(70))])
    return SplitIndex("train", (ShardInfo(str(tmp_path / "a.tar"), 3, 0, ""),))


@pytest.mark.parametrize("workers", [0, 1])
def test_grey_stands_in_for_an_undecodable_picture_which_is_named_and_counted(broken, caplog, workers):
    batch = take(plan(broken, batch=3, streams=1, workers=workers), 1)[0]
    assert batch.pixels[:, 0, 0, 0].tolist() == [50, 128, 70]
    assert batch.undecodable == batch.to("cpu").undecodable == 1
    assert workers or "sample bad cannot be decoded" in caplog.text


@pytest.mark.parametrize("crop_scale", [(1.0, 1.0), (0.3, 1.0)])
def test_what_stands_in_is_the_same_after_a_resume(broken, crop_scale):
    data = DataConfig(batch_size=1, streams=1, crop_scale=crop_scale, flip=True, shift=1)
    described = BatchPlan(index=broken, data=data, input_size=(4, 4), draws=2, seed=0)
    whole, resumed = take(described, 5), take(described, 3, seen=2)
    for one, other in zip(whole[2:], resumed, strict=True):
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.draws, other.draws)
    resumed = take(described, 1, seen=1)[0]
    assert torch.equal(whole[1].pixels, resumed.pixels)
    assert (resumed.keys, resumed.undecodable) == (("bad",), 1)


@pytest.mark.parametrize(("size", "workers"), [(300, 0), (2_200, 0), (2_580, 0), (2_580, 1)])
def test_a_cut_shard_is_one_error_that_names_it_and_the_remedy(tmp_path, size, workers):
    path = tmp_path / "a.tar"
    write_tar(path, [(f"s{number}", png(number)) for number in range(4)])
    path.write_bytes(path.read_bytes()[:size])
    cut = SplitIndex("train", (ShardInfo(str(path), 4, 0, ""),))
    with pytest.raises(
        ValueError, match=r"a\.tar (is damaged|holds fewer).*; mend it with `python -m pipelines\.verify"
    ):
        take(plan(cut, batch=1, streams=1, workers=workers), 4)


def test_a_shard_shorter_than_its_index_is_named(tmp_path):
    write_tar(tmp_path / "a.tar", [("one", png(1))])
    short = SplitIndex("train", (ShardInfo(str(tmp_path / "a.tar"), 3, 0, ""),))
    with pytest.raises(ValueError, match="fewer than the 3 samples"):
        take(plan(short, batch=3, streams=1), 1)


def test_more_ranks_than_samples_in_a_batch_are_refused(index):
    with pytest.raises(ValueError, match=r"5 workers are more than data\.batch_size=4.*give at most 4 --workers"):
        plan(index, ranks=5)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two shards of four clips of a digit that moves, 20 frames each."""
    folder, shards = tmp_path_factory.mktemp("clips"), []
    for number in range(2):
        rows = [(f"c{number}{n}", encoded(moving_digit(20, 4 * number + n))) for n in range(4)]
        write_tar(folder / f"{number}.tar", rows, "mp4")
        shards.append(ShardInfo(str(folder / f"{number}.tar"), 4, 0, ""))
    return SplitIndex("train", tuple(shards))


def test_clips_are_cropped_in_time_by_seed_epoch_and_key(clips):
    data = DataConfig(batch_size=4, streams=2, crop_scale=(0.5, 1.0), flip=True)
    plan = BatchPlan(index=clips, data=data, input_size=(5, 16, 16), draws=2, seed=3)
    first = take(plan, 4)
    assert first[0].pixels.shape == (4, 3, 5, 16, 16)
    assert first[0].pixels.dtype == torch.uint8
    (resumed,) = take(plan, 1, seen=12)
    assert torch.equal(resumed.pixels, first[3].pixels)
    by_key = collections.defaultdict(list)
    for batch in first:
        for key, pixels in zip(batch.keys, batch.pixels, strict=True):
            by_key[key].append(pixels)
    assert all(len(seen) == 2 and not torch.equal(*seen) for seen in by_key.values()), "two epochs, two crops"


def video_plan(clips, seed=3, frames=5, **data):
    config = DataConfig(batch_size=4, streams=2, crop_scale=(1.0, 1.0), flip=False, **data)
    return BatchPlan(index=clips, data=config, input_size=(frames, 64, 64), draws=2, seed=seed)


def test_frames_of_a_clip_are_a_stride_apart(clips):
    """With a stride that leaves one place for the clip it holds these frames of the video and no others."""
    (batch,) = take(video_plan(clips, frames=7, frame_stride=3), 1)
    for key, pixels in zip(batch.keys, batch.pixels, strict=True):
        expected = moving_digit(20, 4 * int(key[1]) + int(key[2]))
        offsets = [
            np.mean([np.abs(frame.astype(int) - expected[first + 3 * n]).mean() for n, frame in enumerate(found)])
            for found in [pixels.permute(1, 2, 3, 0).numpy()]
            for first in (0, 1)
        ]
        assert min(offsets) < 4


def test_several_clips_of_a_video_come_together_and_each_once_an_epoch(clips):
    plan = video_plan(clips, clips_per_video=3)
    batches_ = take(plan, 6)
    assert plan.order.samples == 24
    keys = collections.Counter(key for batch in batches_ for key in batch.keys)
    assert set(keys.values()) == {3}
    assert len(keys) == 8
    by_key = collections.defaultdict(list)
    for batch in batches_:
        for key, pixels, draws in zip(batch.keys, batch.pixels, batch.draws, strict=True):
            by_key[key].append((pixels, draws))
    assert all(not torch.equal(a[1], b[1]) for found in by_key.values() for a, b in itertools.combinations(found, 2))
    assert any(not torch.equal(found[0][0], found[1][0]) for found in by_key.values())


@pytest.mark.parametrize("seen", [4, 8, 20, 28])
def test_a_run_that_stopped_between_the_clips_of_a_video_continues_exactly(clips, seen):
    plan = video_plan(clips, clips_per_video=3)
    whole, resumed = take(plan, 9), take(plan, 2, seen=seen)
    for one, other in zip(whole[seen // 4 :], resumed, strict=False):
        assert one.keys == other.keys
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.draws, other.draws)


def test_videos_of_another_rate_are_named_and_counted(clips, caplog):
    (batch,) = take(video_plan(clips, frame_rate=30.0), 1)
    assert batch.undecodable == 4
    assert "other frame rate: 25 a second, not 30" in caplog.text
    assert take(video_plan(clips, frame_rate=25.1), 1)[0].undecodable == 0


def test_a_clip_that_is_too_short_is_named_and_grey_stands_in(clips, caplog):
    plan = BatchPlan(index=clips, data=DataConfig(batch_size=4, streams=2), input_size=(21, 8, 8), draws=1, seed=3)
    (batch,) = take(plan, 1)
    assert batch.pixels.shape == (4, 3, 21, 8, 8)
    assert "too short: 20 of 21 frames" in caplog.text
    assert batch.undecodable == 4
