import pytest

from tests.tiny_shards import samples, write_split


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """Three shards; the third sample of the second cannot be decoded."""
    shards = [samples(count, seed) for seed, count in enumerate((9, 5, 7))]
    shards[1][2] = (shards[1][2][0], b"broken", 1)
    return write_split(tmp_path_factory.mktemp("split"), shards)
