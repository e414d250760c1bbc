import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from spae.data.cache import ShardCache
from spae.data.records import ShardInfo
from tests.web_server import WebServer


def shard(place, content):
    """One whose tar lies at a path, or is to be asked for at a URL."""
    if not str(place).startswith("http"):
        Path(place).write_bytes(content)
    return ShardInfo(str(place), 1, len(content), hashlib.sha256(content).hexdigest())


def read(cache, one):
    with cache.opened(one) as file:
        return file and file.read()


def held(cache):
    return [path for path in Path(cache.folder).iterdir() if path.is_file()]


@pytest.fixture
def shards(tmp_path):
    return [shard(tmp_path / f"{name}.tar", name.encode() * 100) for name in "abc"]


@pytest.fixture
def cache(tmp_path):
    return ShardCache(str(tmp_path / "cache"), 250)


def test_a_shard_is_fetched_once(cache, shards):
    assert read(cache, shards[0]) == b"a" * 100
    os.remove(shards[0].url)
    assert read(cache, shards[0]) == b"a" * 100
    assert [path.stat().st_size for path in held(cache)] == [100]


def test_the_shard_longest_unread_makes_room(cache, shards):
    for number in (0, 1, 0, 2):
        assert read(cache, shards[number])
        time.sleep(0.02)  # the clock of the file system ticks
    assert sorted(path.read_bytes()[:1] for path in held(cache)) == [b"a", b"c"]


def test_a_shard_that_is_read_is_not_evicted_and_without_room_none_is_kept(cache, shards):
    with cache.opened(shards[0]) as first, cache.opened(shards[1]) as second, cache.opened(shards[2]) as third:
        assert third is None
        assert (first.read(1), second.read(1)) == (b"a", b"b")
        assert len(held(cache)) == 2
    assert read(cache, shards[2]) == b"c" * 100
    assert sum(path.stat().st_size for path in held(cache)) <= 250


def test_a_shard_larger_than_all_room_evicts_nothing(cache, shards, tmp_path):
    assert read(cache, shards[0])
    assert read(cache, shard(tmp_path / "large.tar", b"x" * 251)) is None
    assert len(held(cache)) == 1


@pytest.mark.parametrize("content", [b"b" * 100, b"a" * 50])
def test_other_bytes_than_the_index_tells_are_refused_and_not_kept(cache, shards, content):
    Path(shards[0].url).write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.tar has the sha256 \w+, its index tells \w+; mend it with"):
        read(cache, shards[0])
    assert held(cache) == []


def test_readers_at_once_share_one_fetch(cache):
    with WebServer({"a.tar": b"a" * 100}, delay=0.2).running() as server, ThreadPoolExecutor(4) as pool:
        one = shard(f"{server.url}/slow/a.tar", b"a" * 100)
        assert list(pool.map(lambda _: read(cache, one), range(4))) == [b"a" * 100] * 4
        shared = sum(server.asked.values())
        other = ShardCache(f"{cache.folder}-other", 250)
        read(other, one)
        assert sum(server.asked.values()) - shared == shared, "four readers asked as much as one does"


FETCH = """
import sys
from spae.data.cache import ShardCache
from spae.data.records import ShardInfo
with ShardCache(sys.argv[1], 250).opened(ShardInfo(sys.argv[2], 1, 100, sys.argv[3])): pass
"""


def test_what_a_killed_process_was_fetching_makes_room(cache, shards):
    with WebServer({"slow.tar": b"s" * 100}, delay=2).running() as server:
        process = subprocess.Popen([sys.executable, "-c", FETCH, cache.folder, f"{server.url}/slow/slow.tar", "0" * 64])
        deadline = time.monotonic() + 60
        while not (Path(cache.folder).is_dir() and held(cache)) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        process.wait()
    assert [path.stat().st_size for path in held(cache)] == [100]
    assert [read(cache, one)[:1] for one in shards] == [b"a", b"b", b"c"]
    assert sum(path.stat().st_size for path in held(cache)) <= 250
    assert not any("tmp" in path.name for path in held(cache))
