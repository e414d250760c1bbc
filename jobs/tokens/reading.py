"""The samples of a shard, whoever made it."""

from collections.abc import Iterator

from spae.data.media import DEFAULT_LIMITS, MediaError
from spae.data.records import ShardInfo
from spae.data.sources import Shard, SourceShard
from spae.data.tar import Sample, read_samples
from spae.evaluation.pictures import Undecodable, read_whole


def read_shard(shard: Shard) -> Iterator[Sample | Undecodable]:
    """All samples in their order, those without bytes by why; ValueError where a tar is damaged or another one."""
    if isinstance(shard, ShardInfo):
        yield from read_whole(shard)
        return
    for entry, media in shard.read(DEFAULT_LIMITS.bytes + 1):
        if isinstance(media, MediaError):
            yield Undecodable(entry.key, media.reason, str(media))
        else:
            yield Sample(entry.key, media, entry.label)


def shard_keys(shard: Shard) -> set[str]:
    """Key of each sample."""
    return shard.keys() if isinstance(shard, SourceShard) else {sample.key for sample in read_samples(shard.url)}
