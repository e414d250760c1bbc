"""What a run folder holds, and reading it: configuration, history, checkpoints."""

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import fsspec
import torch
from fsspec import AbstractFileSystem

from spae.config import TrainConfig, from_dict, to_dict
from spae.data.publishing import is_local, join, publish, read_bytes
from spae.data.records import SplitIndex
from spae.data.scratch import ScratchFolder
from spae.model import SPAE
from spae.vocabulary import Vocabulary

CONFIG_FILE, HISTORY_FILE = "config.json", "history.jsonl"
STATE_FILE, MARK_FILE = "state.pt", "checkpoint.json"  # of a checkpoint's folder
_BEST = "best-"  # before the name of the checkpoint that it is a copy of
_REGISTER = "checkpoint_manager_snapshot.json"  # Ray Train's own
FINISHED_FILE = "finished.json"  # written last, when every step is done
FORMAT_VERSION = 1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunRecord:
    """All that decides a run: its configuration and fingerprints of what it reads, not where that lies."""

    config: TrainConfig
    words_fingerprint: str
    semantics_fingerprint: str | None
    """None without semantic guidance."""
    data_fingerprint: str
    vocabulary: str
    """Where the vocabulary lay; information for the export, not compared."""
    image_model: str | None = None
    """Of the image model that a video model begins from: fingerprint, and what became of its kernels."""

    def to_json(self) -> bytes:
        """Content of config.json."""
        values: dict[str, Any] = {**vars(self), "config": to_dict(self.config), "format_version": FORMAT_VERSION}
        return json.dumps(values, indent=2).encode()

    @classmethod
    def load(cls, run: str) -> "RunRecord":
        """The record of a run folder; ValueError where there is none."""
        data = read_bytes(join(run, CONFIG_FILE))
        if data is None:
            raise ValueError(f"{run} holds no {CONFIG_FILE}; give a run folder that `python -m jobs.train` made")
        return cls.from_json(data, run)

    @classmethod
    def from_json(cls, data: bytes, source: str) -> "RunRecord":
        """Undo `to_json`; `source` says in a ValueError where it comes from."""
        values = json.loads(data)
        version = values.pop("format_version")
        if version != FORMAT_VERSION:
            raise ValueError(f"{source} has format {version}; this version reads {FORMAT_VERSION}")
        optimizer = values["config"]["optimizer"]  # runs from when the warm-up was the time scale too
        optimizer.setdefault("timescale_steps", max(optimizer["warmup_steps"], 1))
        return cls(**{**values, "config": from_dict(TrainConfig, values["config"])})

    def differences(self, other: "RunRecord") -> list[str]:
        """What differs in another record, by name with both values, the vocabulary's place aside."""
        mine, theirs = _flat(self), _flat(other)
        names = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
        return [f"{name}: {theirs.get(name)!r} there, {mine.get(name)!r} here" for name in names]


@dataclass(frozen=True)
class CheckpointMark:
    """What `checkpoint.json` says of the state beside it; checkpoints of earlier versions have none."""

    sha256: str
    """Of state.pt."""
    step: int
    run: str
    """The record of the run that wrote it, in JSON."""
    topology: dict[str, Any]
    """How many workers wrote it, on what; information, since any number may go on."""

    def check_fits(self, record: RunRecord, place: str) -> None:
        """ValueError names each setting, or fingerprint of data and vocabulary, that a run has otherwise."""
        if differing := record.differences(RunRecord.from_json(self.run.encode(), place)):
            raise ValueError(
                f"{place} was written by a run with other settings ({'; '.join(differing)}); go on with those it was "
                "written with, or begin anew in another --run"
            )


class DamagedCheckpoint(ValueError):
    """A checkpoint whose bytes are not those that were written."""


def data_fingerprint(index: SplitIndex) -> str:
    """sha256 over the checksums of a split's shards, in order."""
    return hashlib.sha256("\n".join(shard.sha256 for shard in index.shards).encode()).hexdigest()


def storage(run: str) -> tuple[AbstractFileSystem, str, str]:
    """The file system of a run folder, the folder above it, and its name.

    ValueError where it is a whole bucket or file system.
    """
    file_system, path = fsspec.url_to_fs(run)
    above, _, name = path.rstrip("/").rpartition("/")
    if not above or not name:
        below = join(run, "runs/first")
        raise ValueError(f"--run {run} leaves no folder for the run; give one below it, such as {below}")
    return file_system, above, name


def claim_run(run: str, record: RunRecord, *, replace: bool) -> None:
    """Write the record into a new run folder; an existing one must be of the same run, which then continues.

    With `replace` a run of other settings is deleted first, one of the same never: a job that is given again, as
    retries are, keeps its checkpoints. ValueError names the settings that differ.
    """
    if read_bytes(join(run, CONFIG_FILE)) is not None:
        try:
            differing = record.differences(RunRecord.load(run))
        except (ValueError, TypeError, KeyError) as error:  # of another version, or damaged
            differing = [str(error)]
        if not differing:
            logger.info("%s is this run already, which continues; to begin anew, delete it first", run)
            return
        if not replace:
            raise ValueError(
                f"{run} holds a run with other settings ({', '.join(differing)}); choose another folder or --replace it"
            )
        file_system, path = fsspec.url_to_fs(run)
        file_system.rm(path, recursive=True)
    publish(join(run, CONFIG_FILE), record.to_json())


def checkpoint_name(step: int) -> str:
    """Folder of the checkpoint after a step."""
    return f"step-{step:08d}"


def latest_checkpoint(run: str) -> str | None:
    """Folder of the newest whole checkpoint, None where there is none.

    Ray Train registers a checkpoint when all of it is there: a folder alone may be the copy that a kill cut short.
    """
    return next(iter(registered_checkpoints(run)), None)


def registered_checkpoints(run: str) -> list[str]:
    """Folders of the checkpoints that Ray Train has registered and kept, newest first."""
    register = json.loads(read_bytes(join(run, _REGISTER)) or b"{}")
    rows = [*register.get("checkpoint_results", []), register.get("latest_checkpoint_result")]
    return sorted({str(row["checkpoint_dir_name"]) for row in rows if row}, reverse=True)


def load_mark(run: str, name: str) -> CheckpointMark | None:
    """What a checkpoint says of itself; None for one of an earlier version."""
    data = read_bytes(join(run, name, MARK_FILE))
    return CheckpointMark(**json.loads(data)) if data else None


def load_state(run: str, name: str, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The training state of a checkpoint; DamagedCheckpoint where it is missing or not what was written."""
    url, mark = join(run, name, STATE_FILE), load_mark(run, name)
    file_system, path = fsspec.url_to_fs(url)
    with ScratchFolder("checkpoint") as folder:
        local = path if is_local(url) else os.path.join(folder, STATE_FILE)
        try:
            if local != path:
                file_system.get_file(path, local)
            if mark and file_sha256(local) != mark.sha256:
                raise DamagedCheckpoint(f"{url} is damaged: its sha256 is not that of {MARK_FILE} beside it")
        except FileNotFoundError as error:
            raise DamagedCheckpoint(f"{url} is missing") from error
        return torch.load(local, map_location=device, weights_only=True)


def load_newest(run: str, device: torch.device | str = "cpu") -> tuple[str, dict[str, Any]] | None:
    """Name and state of the newest checkpoint that is whole; None where none is registered.

    Damaged ones are named in the log and passed over; ValueError where all are.
    """
    names = registered_checkpoints(run)
    for name in names:
        try:
            return name, load_state(run, name, device)
        except DamagedCheckpoint as error:
            logger.warning("%s; the checkpoint before it is taken", error)
    if names:
        raise ValueError(f"{run} holds damaged checkpoints only: {', '.join(names)}; begin anew in another --run")
    return None


def load_latest_state(run: str) -> dict[str, Any]:
    """The training state of the newest whole checkpoint, on the CPU; ValueError where there is none."""
    newest = load_newest(run)
    if newest is None:
        raise ValueError(f"{run} holds no checkpoint yet; train at least until the first one (--checkpoint-every)")
    return newest[1]


def file_sha256(path: str) -> str:
    """Checksum of a local file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_history(run: str) -> list[dict[str, float]]:
    """The logged rows of a run, oldest first."""
    data = read_bytes(join(run, HISTORY_FILE))
    return [json.loads(line) for line in (data or b"").splitlines()]


def keep_best(run: str, name: str, folder: str) -> None:
    """Keep a checkpoint, whose files lie in a local folder, as the best of a run; the best before it goes."""
    for file in (STATE_FILE, MARK_FILE):  # the mark is last: without it a kill cut the copy short
        publish(join(run, f"{_BEST}{name}", file), Path(folder, file))
    file_system, path = fsspec.url_to_fs(run)
    for other in _best_folders(run):
        if other != f"{_BEST}{name}":
            file_system.rm(join(path, other), recursive=True)


def best_checkpoint(run: str) -> str | None:
    """Folder of the checkpoint with the best validation; None where none was validated."""
    return next((name for name in _best_folders(run) if load_mark(run, name)), None)


def _best_folders(run: str) -> list[str]:
    file_system, path = fsspec.url_to_fs(run)
    file_system.invalidate_cache(path)
    names = (row["name"].rstrip("/").rsplit("/", 1)[-1] for row in file_system.ls(path, detail=True))
    return sorted((name for name in names if name.startswith(_BEST)), reverse=True)


def load_run(
    run: str, vocabulary_url: str | None = None, checkpoint: Literal["latest", "best"] = "latest"
) -> tuple[SPAE, int]:
    """The averaged model of a run's newest or best checkpoint, in evaluation mode, and its step."""
    record = RunRecord.load(run)
    vocabulary = Vocabulary.load(vocabulary_url or record.vocabulary)
    if vocabulary.words_fingerprint != record.words_fingerprint:
        raise ValueError(f"{vocabulary_url or record.vocabulary} is not the vocabulary that {run} was trained with")
    name = best_checkpoint(run) if checkpoint == "best" else None
    if checkpoint == "best" and name is None:
        raise ValueError(f"{run} holds no best checkpoint; train with --val-shards, or export the latest")
    state = load_state(run, name) if name else load_latest_state(run)
    model = SPAE(record.config.model, vocabulary)
    model.load_state_dict(state["average"])
    return model.eval().frozen(), int(state["step"])


def run_record(
    config: TrainConfig, vocabulary: Vocabulary, vocabulary_url: str, index: SplitIndex, image_model: str | None = None
) -> RunRecord:
    """The record of a run about to start."""
    guided = config.objective.semantic_weight > 0
    return RunRecord(
        config=config,
        words_fingerprint=vocabulary.words_fingerprint,
        semantics_fingerprint=vocabulary.semantics_fingerprint if guided else None,
        data_fingerprint=data_fingerprint(index),
        vocabulary=vocabulary_url,
        image_model=image_model,
    )


def _flat(record: RunRecord) -> dict[str, Any]:
    flat = {name: value for name, value in vars(record).items() if name not in ("config", "vocabulary")}
    pending: list[tuple[str, Any]] = list(to_dict(record.config).items())
    while pending:
        name, value = pending.pop()
        if isinstance(value, dict):
            pending += [(f"{name}.{inner}", content) for inner, content in value.items()]
        else:
            flat[name] = value
    return flat
