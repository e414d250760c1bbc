"""Checkpoints of a training: copied to host memory between two steps, written while it goes on, verified when read."""

import dataclasses
import functools
import json
import logging
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import ray.train
import ray.train.collective
import torch

from jobs.retries import persistently
from jobs.training.run_folder import (
    MARK_FILE,
    STATE_FILE,
    CheckpointMark,
    RunRecord,
    checkpoint_name,
    file_sha256,
    keep_best,
    load_mark,
    load_newest,
    load_state,
)
from spae.data.order import StreamOrder
from spae.data.scratch import ScratchFolder
from spae.training.replicas import check_replicas
from spae.training.state import TrainState, on_host

logger = logging.getLogger(__name__)


class Checkpoints:
    """Those of one run.

    Args:
        run: URL of the run folder.
        record: the run as this worker found it; checkpoints of another are refused.
        order: of the run's samples.
    """

    def __init__(self, run: str, record: RunRecord, order: StreamOrder) -> None:
        self.run, self.record, self.order = run, record, order
        self._writer = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def restore(self, state: TrainState) -> bool:
        """Take up the newest whole checkpoint, on every worker the same; whether there was one.

        What is read is not held after that. ValueError where it is of another run.
        """
        first, device = ray.train.get_context().get_world_rank() == 0, state.model.device
        newest = load_newest(self.run, device) if first else None
        name: str | None = ray.train.collective.broadcast_from_rank_zero(newest and newest[0])
        if name is None:
            return False
        saved = newest[1] if newest else load_state(self.run, name, device)
        if mark := load_mark(self.run, name):
            mark.check_fits(self.record, f"{self.run}/{name}")
            if first:
                logger.info("going on from step %d, which was written with %s", mark.step, mark.topology)
        state.load_state_dict(saved, self.order)
        return True

    def save(self, state: TrainState, metrics: Mapping[str, Any], *, best: bool = False) -> None:
        """Save the state that all workers hold, on the first; a barrier that every worker must reach.

        Training waits for the copy, and for the one before to be on this machine's disk; the way to the run folder goes
        on beside it. The driver sees the metrics once all is there. The best so far is kept as long as no better one
        comes, whatever its age. ReplicaError where the workers differ.
        """
        check_replicas(state)
        name, told = checkpoint_name(state.step), {"step": state.step, **metrics}
        later = ray.train.CheckpointUploadMode.ASYNC
        context = ray.train.get_context()
        if context.get_world_rank() != 0:
            ray.train.report(told, checkpoint_dir_name=name, checkpoint_upload_mode=later)
            return
        if self._writing:
            self._writing.result()
        topology = {"workers": context.get_world_size(), "device": state.model.device_name, "torch": torch.__version__}
        mark = CheckpointMark("", state.step, self.record.to_json().decode(), topology)
        values, folder = on_host(state.state_dict(self.order.position(state.seen))), ScratchFolder("checkpoint")
        self._writing = self._writer.submit(_write, values, folder, mark)
        ray.train.report(
            told,
            checkpoint=ray.train.Checkpoint.from_directory(folder.path),
            checkpoint_dir_name=name,
            checkpoint_upload_mode=later,
            delete_local_checkpoint_after_upload=False,
            checkpoint_upload_fn=functools.partial(self._upload, self._writing, folder, best),
        )

    def _upload(
        self, writing: Future[None], folder: ScratchFolder, best: bool, checkpoint: ray.train.Checkpoint, name: str
    ) -> ray.train.Checkpoint:
        """Copy a checkpoint into the run folder; Ray Train registers it after that."""
        with folder:
            writing.result()
            if best:
                persistently(f"keeping {name}", lambda: keep_best(self.run, name, folder.path))
            storage = ray.train.get_context().get_storage()
            return persistently(f"writing {name}", lambda: storage.persist_current_checkpoint(checkpoint, name))


def _write(values: object, folder: ScratchFolder, mark: CheckpointMark) -> None:
    path = os.path.join(folder.path, STATE_FILE)
    torch.save(values, path)
    mark = dataclasses.replace(mark, sha256=file_sha256(path))
    with open(os.path.join(folder.path, MARK_FILE), "w") as file:
        json.dump(dataclasses.asdict(mark), file, indent=1)
