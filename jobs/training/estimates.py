"""What a training will take, told before it starts."""

from spae.data.loader import BatchPlan
from spae.data.publishing import is_local


def reading(plan: BatchPlan) -> str:
    """A line on the bytes that an epoch reads; ValueError where the cache holds not even one shard."""
    sizes = [shard.bytes for shard in plan.index.shards]
    total, cache = sum(sizes), plan.cache
    if cache and cache.most < max(sizes):
        raise ValueError(f"--cache-bytes {cache.most} is less than the largest shard, which has {max(sizes)}")
    if cache:
        share = min(1.0, cache.most / total)
        return f"each machine fetches shards once and holds up to {share:.0%} of their {_gigabytes(total)}"
    if is_local(plan.index.shards[0].url):
        return f"an epoch reads {_gigabytes(total)} of shards"
    read = plan.order.bytes_read(sizes)
    return (
        f"an epoch reads {_gigabytes(read)} of the store, {read / total:.1f} times its shards, as its "
        f"{plan.data.streams} streams begin inside of them; --cache fetches each once a machine"
    )


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.3g} GB"
