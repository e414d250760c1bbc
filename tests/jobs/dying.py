"""Workers of a training that die by SIGKILL at a moment that the run folder names, once, or take their time."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import ray.train
from ray.train.v2._internal.execution.storage import StorageContext

from jobs.training.loop import train_loop
from spae.model import SPAE
from spae.training.adversary import Adversary

DEADLY_STEP = 5


def dying_loop(settings):
    """The loop, whose first worker dies where `moment` in the run folder says so."""
    moment = Path(settings["job"].run, "moment")
    if moment.exists() and ray.train.get_context().get_world_rank() == 0:
        _MOMENTS[moment.read_text()](moment)
    train_loop(settings)


def slow_loop(settings):
    """The loop at three steps a second at most; the run folder's `worlds` tells how many workers each start had."""
    context = ray.train.get_context()
    if context.get_world_rank() == 0:
        with Path(settings["job"].run, "worlds").open("a") as file:
            file.write(f"{context.get_world_size()}\n")
    forward = SPAE.forward

    def slowly(*arguments):
        time.sleep(0.3)
        return forward(*arguments)

    SPAE.forward = slowly
    train_loop(settings)


def _die(moment: Path) -> None:
    moment.unlink()
    os.kill(os.getpid(), signal.SIGKILL)


def _after_the_forward_pass(moment):
    _replace(SPAE, "forward", lambda calls: calls == DEADLY_STEP and _die(moment))


def _between_generator_and_discriminator(moment):
    """The tokenizer's update is done, and the discriminator's is not."""
    _replace(Adversary, "losses", lambda calls: calls == DEADLY_STEP and _die(moment))


def _while_a_checkpoint_is_written(moment):
    def write_half(storage, checkpoint, name):
        folder = Path(storage.build_checkpoint_path_from_name(name))
        folder.mkdir()
        shutil.copy(f"{checkpoint.path}/checkpoint.json", folder)
        whole = Path(checkpoint.path, "state.pt").read_bytes()
        (folder / "state.pt").write_bytes(whole[: len(whole) // 2])
        _die(moment)

    StorageContext.persist_current_checkpoint = write_half


def _between_data_and_commit_mark(moment):
    _replace(StorageContext, "persist_current_checkpoint", lambda calls: _die(moment))


def _replace(owner: type, name: str, after: Callable[[int], object]) -> None:
    """Call something after each call of a method, with the number of calls so far."""
    method, calls = getattr(owner, name), []

    def watched(*arguments):
        result = method(*arguments)
        calls.append(name)
        after(len(calls))
        return result

    setattr(owner, name, watched)


_MOMENTS = {
    "after the forward pass": _after_the_forward_pass,
    "between generator and discriminator": _between_generator_and_discriminator,
    "while a checkpoint is written": _while_a_checkpoint_is_written,
    "between data and commit mark": _between_data_and_commit_mark,
}
MOMENTS = tuple(_MOMENTS)
