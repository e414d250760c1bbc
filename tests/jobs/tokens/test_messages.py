import numpy as np
import pyarrow as pa
import pytest

from jobs.tokens.messages import DecodedShard, FailedShard, LargeShard, TokenizedShard, from_row, to_row
from spae.data.records import ShardInfo
from spae.evaluation.pictures import DecodedPictures, Undecodable

SHARD = ShardInfo("gs://bucket/train-000000.tar", 3, 100, "sha", 1)
PIXELS = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
PICTURES = DecodedPictures(("a", "b"), (None, 7), PIXELS, (Undecodable("c", "no image", "é"),))
MESSAGES = (LargeShard(SHARD), FailedShard(SHARD, "cut"), TokenizedShard(SHARD, 2))


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_survives_as_a_row(message):
    assert from_row(to_row(message)) == message


def test_pictures_survive_as_a_row_and_are_not_copied():
    row = to_row(DecodedShard(SHARD, PICTURES))
    assert row["pixels"] is PIXELS
    found = from_row(row)
    assert np.array_equal(found.pictures.pixels, PIXELS)
    assert (found.shard, found.pictures.keys, found.pictures.labels) == (SHARD, PICTURES.keys, PICTURES.labels)
    assert found.pictures.errors == PICTURES.errors


def test_rows_of_every_kind_have_the_same_columns_and_types():
    empty = DecodedPictures((), (), PIXELS[:0], ())
    rows = [to_row(message) for message in (*MESSAGES, DecodedShard(SHARD, PICTURES), DecodedShard(SHARD, empty))]
    types = {tuple((name, pa.array([row[name]]).type) for name in ("kind", "values")) for row in rows}
    assert len(types) == 1
    assert {(row["pixels"].dtype, row["pixels"].ndim) for row in rows} == {(PIXELS.dtype, 4)}
