"""Checkpoints of a training, as Ray Train keeps them."""

import os
import tempfile
from collections.abc import Mapping
from typing import Any

import ray.train
import torch

from jobs.training.run_folder import STATE_FILE, checkpoint_name
from spae.data.order import StreamOrder
from spae.training.state import TrainState


def restore(state: TrainState, order: StreamOrder) -> None:
    """Take up the newest checkpoint, where there is one; what is read is not held after that."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return
    with checkpoint.as_directory() as folder:
        saved = torch.load(os.path.join(folder, STATE_FILE), map_location=state.model.device, weights_only=True)
    state.load_state_dict(saved, order)


def save(state: TrainState, order: StreamOrder, metrics: Mapping[str, Any]) -> None:
    """Save the state, on the first worker; a barrier that every worker must reach. The driver sees the metrics."""
    name, told = checkpoint_name(state.step), {"step": state.step, **metrics}
    if ray.train.get_context().get_world_rank() != 0:
        ray.train.report(told, checkpoint_dir_name=name)
        return
    with tempfile.TemporaryDirectory() as folder:
        torch.save(state.state_dict(order.position(state.seen)), os.path.join(folder, STATE_FILE))
        ray.train.report(told, checkpoint=ray.train.Checkpoint.from_directory(folder), checkpoint_dir_name=name)
