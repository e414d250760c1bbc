"""Token tables turned back into shards in the test's own process, without Ray."""

from typing import Any

from jobs.reconstruct_shards import ReconstructFlags, prepare, unfinished
from jobs.tokens.reconstruction import ReconstructedShard, ShardReconstructor
from jobs.tokens.reconstruction_plan import clear_folders, finish_split
from spae.model import SPAE


def reconstruct_tables(model: Any, tokens: Any, output: Any, **flags: Any) -> list[ReconstructedShard]:
    """What became of each shard; flags as those of the command."""
    given = ReconstructFlags(model=str(model), tokens=str(tokens), output=str(output), **{"batch": 4, **flags})
    splits, job = prepare(given, SPAE.from_pretrained(given.model))
    todo = unfinished(splits, given.shards, given.limit)
    clear_folders(splits, todo)
    actor = ShardReconstructor(job)
    outcomes = [actor.reconstruct(planned) for planned in todo]
    for split in splits:
        finish_split(split, job.classes)
    return outcomes
