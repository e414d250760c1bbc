"""Where a language model is, what it is called before it is opened, and opening it here or in actors of Ray."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray

from jobs.cluster import connect
from jobs.resources import CPU, GPU, wait_for_room
from spae.incontext import (
    Answer,
    AnswerLimits,
    LanguageModel,
    Prompt,
    TokenCounter,
    has_weights,
    identify_language_model,
    open_language_model,
    open_token_counter,
)

if TYPE_CHECKING:
    from spae.incontext.endpoint import EndpointSettings

_ATTEMPTS = 3  # further ones at the questions over which a worker died
_QUIET = {"env_vars": {"TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}}  # Ray would tell bars line by line
_PATIENCE = 1_800.0  # seconds for a cluster to have its first nodes


@dataclass(frozen=True)
class ModelPlace:
    """A language model that is not opened yet.

    Attributes:
        place: as `open_language_model` takes it.
        name: as the server calls the model, or as a local model shall be called.
        device: of a local model.
        endpoint: how a server is asked.
    """

    place: str
    name: str | None = None
    device: str = "cpu"
    endpoint: "EndpointSettings | None" = None

    def open(self) -> LanguageModel:
        """The model, in this process; ValueError where there is none."""
        return open_language_model(self.place, name=self.name, device=self.device, endpoint=self.endpoint)

    @property
    def gpus(self) -> int:
        """That a process which holds it needs."""
        return int(self.device == "cuda" and has_weights(self.place))

    def identity(self) -> tuple[str, str]:
        """Name and revision, the latter empty of a server; ValueError where there is no model."""
        return identify_language_model(self.place, name=self.name)

    def token_counter(self) -> TokenCounter:
        """What counts its tokens, without its weights."""
        return open_token_counter(self.place, name=self.name, endpoint=self.endpoint)


def endpoint_settings(**settings: Any) -> "EndpointSettings | None":
    """How a server is asked; None where its client is not installed, which `open_language_model` then names."""
    try:
        from spae.incontext.endpoint import EndpointSettings
    except ModuleNotFoundError:
        return None
    return EndpointSettings(**settings)


@ray.remote(max_restarts=-1, max_task_retries=_ATTEMPTS)
class _ModelActor:
    """Holds the model."""

    def __init__(self, place: ModelPlace) -> None:
        self.model = place.open()

    def answer(self, prompts: Sequence[Prompt], limits: AnswerLimits) -> tuple[list[Answer], str]:
        return self.model.answer(prompts, limits), self.model.revision


class ModelWorker:
    """A language model in a process of its own; where that dies, Ray starts another and asks again."""

    def __init__(self, place: ModelPlace, cpus: float) -> None:
        self.revision = ""
        options = {"num_cpus": cpus, "num_gpus": place.gpus, "runtime_env": _QUIET}
        self._actor: Any = _ModelActor.options(**options).remote(place)  # type: ignore[attr-defined]

    def answer(self, prompts: Sequence[Prompt], limits: AnswerLimits) -> list[Answer]:
        """The model's answers; RayError where workers die over these prompts again and again."""
        answers, self.revision = ray.get(self._actor.answer.remote(prompts, limits))
        return list(answers)


def open_workers(
    place: ModelPlace, workers: int, cpus: float, address: str | None, patience: float | None
) -> list[ModelWorker]:
    """So many workers on a cluster, each with the model.

    Args:
        place: of the model.
        workers: how many.
        cpus: that Ray reserves for each, which then computes with as many threads.
        address: of the cluster, as `connect` takes it.
        patience: seconds to wait for room, half an hour by default.

    Raises:
        ValueError: the cluster cannot have room for them, or there is none.
        ResourcesError: there was no room in time.
    """
    may_grow = connect(address, num_cpus=max(os.cpu_count() or 1, math.ceil(workers * cpus)))
    each = {CPU: cpus, GPU: place.gpus}
    wait_for_room(workers, each, _PATIENCE if patience is None else patience, may_grow=may_grow)
    return [ModelWorker(place, cpus) for _ in range(workers)]
