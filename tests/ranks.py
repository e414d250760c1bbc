"""Functions run by several ranks at once, each in a process of its own."""

import os
from collections.abc import Callable
from typing import Any

import torch
import torch.multiprocessing

from tests.clusters import free_port


def on_ranks(function: Callable[..., Any], *arguments: Any, ranks: int = 2) -> list[Any]:
    """What `function(rank, *arguments)` gives on each rank of a gloo group; arrays and plain values only."""
    context = torch.multiprocessing.get_context("spawn")
    queue, port = context.SimpleQueue(), free_port()
    workers = [
        context.Process(target=_run, args=(function, arguments, rank, ranks, port, queue)) for rank in range(ranks)
    ]
    for worker in workers:
        worker.start()
    found = dict(queue.get() for _ in workers)
    for worker in workers:
        worker.join()
    return [found[rank] for rank in range(ranks)]


def _run(function, arguments, rank, ranks, port, queue):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=ranks)
    queue.put((rank, function(rank, *arguments)))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
