import dataclasses

import numpy as np
import pytest
import torch

from spae.data.media import decode_image
from spae.data.mp4 import encode_mp4
from spae.data.records import load_index
from spae.data.video import read_frames
from spae.evaluation.pictures import decode_in_batches, encode_in_batches, encoded_batches, read_pictures
from spae.model import SPAE
from tests import tiny_spae
from tests.tiny_shards import samples, tar_bytes, write_split
from tests.videos import frames_of, panned

SIZE = (16, 16)


@pytest.fixture
def broken():
    """Nine samples of which the third and the last cannot be decoded."""
    made = samples(9)
    made[2] = (made[2][0], made[2][1][:60], 0)
    made[8] = (made[8][0], b"no picture at all", None)
    return made


def test_a_shard_comes_back_in_order_with_its_errors_named(tmp_path, broken):
    shard = load_index(write_split(tmp_path, [broken])).shards[0]
    (pictures,) = read_pictures(shard, SIZE)
    good = [sample for number, sample in enumerate(broken) if number not in (2, 8)]
    assert pictures.keys == tuple(key for key, _, _ in good)
    assert pictures.labels == tuple(label for _, _, label in good)
    assert np.array_equal(pictures.pixels, np.stack([decode_image(media) for _, media, _ in good]))
    assert [error.key for error in pictures.errors] == [broken[2][0], broken[8][0]]
    assert pictures.errors[1].reason == "no image"


@pytest.mark.parametrize("most", [1, 2, 3, 7, 8])
def test_parts_hold_as_many_good_pictures_as_asked_and_lose_nothing(tmp_path, broken, most):
    shard = load_index(write_split(tmp_path, [broken])).shards[0]
    parts = list(read_pictures(shard, SIZE, most))
    assert all(len(part.keys) == most for part in parts[: 7 // most]), "a full part counts good pictures only"
    (whole,) = read_pictures(shard, SIZE)
    assert np.array_equal(np.concatenate([part.pixels for part in parts]), whole.pixels)
    assert sum((part.keys for part in parts), ()) == whole.keys
    assert sum((part.errors for part in parts), ()) == whole.errors


def test_pictures_of_another_size_are_cropped(tmp_path):
    shard = load_index(write_split(tmp_path, [samples(2, side=24)])).shards[0]
    (pictures,) = read_pictures(shard, SIZE)
    assert pictures.pixels.shape == (2, 16, 16, 3)


def test_a_shard_without_any_good_picture_is_all_errors(tmp_path):
    shard = load_index(write_split(tmp_path, [[("a", b"x", 1), ("b", b"", 1)]])).shards[0]
    (pictures,) = read_pictures(shard, SIZE)
    assert (pictures.pixels.shape, len(pictures.errors)) == ((0, 16, 16, 3), 2)
    (batch,) = encoded_batches(tiny_spae.model(), [shard], 4)
    assert (batch.pyramid, batch.errors, len(batch)) == (None, 2, 2)


def test_another_tar_than_the_index_tells_is_an_error(tmp_path):
    shard = load_index(write_split(tmp_path, [samples(3)])).shards[0]
    (tmp_path / "test-000000.tar").write_bytes(tar_bytes(samples(3, seed=1)))
    with pytest.raises(ValueError, match="its index says 3 with"):
        list(read_pictures(shard, SIZE))
    with pytest.raises(ValueError, match="holds 3 samples"):
        list(read_pictures(dataclasses.replace(shard, samples=4), SIZE))


def test_of_videos_the_clip_in_the_middle_is_read_and_encoded(tmp_path):
    media = [encode_mp4(frames_of(panned(10, 16, 16, number)), rate=25, crf=18) for number in (0, 1)]
    shard = [("c0", media[0], 0), ("c1", media[1], 1), ("none", b"no video", 0)]
    shards = load_index(write_split(tmp_path, [shard], suffix="mp4")).shards
    grids = ((1, 1, 1), (1, 2, 2), (1, 4, 4), (1, 4, 4))
    video = SPAE(dataclasses.replace(tiny_spae.CONFIG, input_size=(4, 16, 16), grids=grids), tiny_spae.vocabulary())
    first, last = encoded_batches(video.eval(), shards, 2, frame_stride=2)
    assert (first.keys, first.errors, last.errors) == (("c0", "c1"), 0, 1)
    every = [frame.pixels for frame in read_frames(media[1])]
    assert np.array_equal(first.pixels[1].permute(1, 2, 3, 0).numpy(), np.stack(every[2:9:2]))
    assert first.pyramid == video.encode(first.pixels)
    (rebuilt,) = decode_in_batches(video, first.pyramid, 2)
    assert rebuilt.shape == (2, 4, 16, 16, 3)
    assert len(encode_in_batches(video, np.zeros((3, 4, 16, 16, 3), np.uint8), 2)) == 3


def test_words_do_not_depend_on_neighbours_or_position():
    model, pixels = tiny_spae.model(), np.random.default_rng(0).integers(0, 256, (11, 16, 16, 3), dtype=np.uint8)
    words = encode_in_batches(model, pixels, 4).flatten()
    order = np.random.default_rng(1).permutation(11)
    assert torch.equal(encode_in_batches(model, pixels[order], 4).flatten(), words[torch.from_numpy(order)])
    alone = torch.cat([encode_in_batches(model, picture[None], 4).flatten() for picture in pixels])
    assert torch.equal(alone, words)


def test_every_pass_of_the_model_has_the_batch_shape(monkeypatch):
    model, seen = tiny_spae.model(), []
    encode = model.encode
    monkeypatch.setattr(
        model, "encode", lambda pixels, *rest: seen.append(tuple(pixels.shape)) or encode(pixels, *rest)
    )
    assert len(encode_in_batches(model, np.zeros((9, 16, 16, 3), np.uint8), 4)) == 9
    assert seen == [(4, 3, 16, 16)] * 3


def test_encoded_batches_take_stored_words_where_they_are_given(tmp_path):
    model, index = tiny_spae.model(), load_index(write_split(tmp_path, [samples(5), samples(3, seed=1)]))
    fresh = list(encoded_batches(model, index.shards, 4))
    assert [len(batch.labels) for batch in fresh] == [4, 1, 3], "a batch never crosses a shard"
    asked = []
    stored = iter([batch.pyramid for batch in fresh])

    def tokens(shard, keys):
        asked.append((shard.name, keys))
        return next(stored)

    again = list(encoded_batches(model, index.shards, 4, tokens))
    assert [name for name, _ in asked] == ["test-000000", "test-000000", "test-000001"]
    assert all(a.pyramid is b.pyramid for a, b in zip(fresh, again, strict=True))
