"""What a training will take, told before it starts."""

from spae.config import TrainConfig
from spae.data.loader import BatchPlan
from spae.data.publishing import is_local
from spae.training.cost import step_cost


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


def computing(config: TrainConfig, words: int, workers: int, rate: float | None, price: float | None) -> list[str]:
    """Lines on parameters, operations and memory; hours where a rate is known, and their price.

    Args:
        config: the run's.
        words: in the vocabulary.
        workers: that share the batch.
        rate: operations in units of 1e12 that a worker does a second, as measured.
        price: of a worker's hour.
    """
    cost, share = step_cost(config, words), -(-config.data.batch_size // workers)
    lines = [
        f"{cost.parameters / 1e6:.1f} million parameters, {cost.discriminator / 1e6:.1f} of a discriminator beside; "
        f"{cost.operations / 1e9:.3g} GFLOP a sample and step, judges left out",
        f"a worker holds {_gigabytes(cost.state)} of weights, gradients, optimizers and average, and for its {share} "
        f"samples {_gigabytes(share * cost.activations)} of activations in float32",
    ]
    if rate:
        hours = cost.operations * config.data.batch_size * config.steps / (rate * 1e12 * workers) / 3600
        told = f", {hours * workers * price:.0f} in money" if price else ""
        lines.append(f"{hours:.3g} hours on {workers} workers of {rate:g} TFLOP/s{told}, data and judges left out")
    return lines


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.3g} GB"
