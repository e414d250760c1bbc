import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spae.data.order import StreamOrder


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(sum),
    streams=st.integers(1, 12),
    epoch=st.integers(0, 3),
    seed=st.integers(0, 5),
)
def test_every_epoch_reads_every_sample_once(sizes, streams, epoch, seed):
    order = StreamOrder(sizes, streams, seed)
    read = [
        (segment.shard, sample)
        for stream in range(streams)
        for segment in order.segments(stream, epoch)
        for sample in range(segment.start, segment.stop)
    ]
    assert sorted(read) == [(shard, sample) for shard, size in enumerate(sizes) for sample in range(size)]


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5), streams=st.integers(1, 9), seen=st.integers(0, 99))
def test_a_position_tells_how_many_samples_were_seen(sizes, streams, seen):
    order = StreamOrder(sizes, streams, 0)
    position = order.position(seen)
    assert order.seen(position) == seen
    assert position.epoch == seen // sum(sizes)
    lengths = [sum(s.stop - s.start for s in order.segments(v, position.epoch)) for v in range(streams)]
    assert all(count <= length for count, length in zip(position.counts, lengths, strict=True))


@settings(max_examples=40)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5), streams=st.integers(1, 6), seen=st.integers(0, 60))
def test_a_stream_continues_where_a_run_left_it(sizes, streams, seen):
    order = StreamOrder(sizes, streams, 3)
    taken = [(seen - stream + streams - 1) // streams for stream in range(streams)]

    def samples(stream, start):
        for epoch, segment in order.stream(stream, start):
            yield from ((epoch, segment.shard, n) for n in range(segment.start, segment.stop))

    for stream in range(streams):
        whole = list(itertools.islice(samples(stream, 0), taken[stream] + 20))
        assert list(itertools.islice(samples(stream, seen), 20)) == whole[taken[stream] :]


def test_a_position_of_another_run_is_refused():
    order = StreamOrder([5, 4], 4, 0)
    with pytest.raises(ValueError, match=r"began with"):
        order.seen(StreamOrder([5, 4], 3, 0).position(5))


def test_epochs_are_permuted_differently_and_by_the_seed():
    orders = [StreamOrder([1] * 20, 1, seed).segments(0, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(segment.shard for segment in order) for order in orders}) == 4


def test_an_empty_split_is_named():
    with pytest.raises(ValueError, match="no samples"):
        StreamOrder([0, 0], 2, 0)
