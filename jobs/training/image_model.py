"""The image model that the training of a video model begins from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from jobs.training.run_folder import CONFIG_FILE, load_latest_state, load_run
from spae.config import SPAEConfig
from spae.data.publishing import join, read_bytes
from spae.model import SPAE
from spae.networks.inflation import Inflation
from spae.training.state import TrainState
from spae.vocabulary import Vocabulary


@dataclass(frozen=True)
class ImageModel:
    """Where it lies, and what becomes of its kernels."""

    url: str
    """Model folder, name of a shipped model, or run folder of jobs.train, whose discriminator comes too."""
    kernels: Inflation

    def check(self, config: SPAEConfig, vocabulary: Vocabulary) -> str:
        """What a run's record says of it; ValueError where it does not suit the video model."""
        image = self._load()
        if image.vocabulary.words_fingerprint != vocabulary.words_fingerprint:
            raise ValueError(f"{self.url} has other words than --vocabulary; give the vocabulary it was trained with")
        image.inflate(config, self.kernels)
        return f"{image.fingerprint} {self.kernels}"

    def begin(self, state: TrainState) -> None:
        """Give a new training its weights, to model and average alike."""
        weights = self._load().inflate(state.model.config, self.kernels).state_dict()
        state.model.load_state_dict(weights)
        state.average.load_state_dict(weights)
        if state.adversary and (discriminator := self._discriminator()):
            state.adversary.discriminator.load_inflated(discriminator, self.kernels)

    def _load(self) -> SPAE:
        return load_run(self.url)[0] if self._is_run else SPAE.from_pretrained(self.url)

    def _discriminator(self) -> Mapping[str, Tensor] | None:
        """Weights of a run's discriminator, None where there is none."""
        adversary = load_latest_state(self.url)["adversary"] if self._is_run else None
        return adversary and adversary["discriminator"]

    @property
    def _is_run(self) -> bool:
        return "config" in json.loads(read_bytes(join(self.url, CONFIG_FILE)) or b"{}")
