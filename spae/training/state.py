"""The state that a run leaves and takes up again."""

import copy
import dataclasses
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spae.collectives import Terms
from spae.config import ObjectiveConfig, TrainConfig
from spae.data.order import DataPosition, StreamOrder
from spae.model import SPAE
from spae.training.adversary import Adversary
from spae.training.losses import dynamic_weight

_WEIGHT_HISTORY = 101  # steps over which the dynamic weight's median runs


@dataclass
class TrainState:
    """All that a run needs to go on: a checkpoint is `state_dict()`, resuming is `load_state_dict()`."""

    model: SPAE
    average: SPAE
    """Moving average of the model, which evaluation and export use."""
    optimizer: torch.optim.Adam
    dynamic_weights: Tensor
    """Those of the last steps, NaN where there is none yet."""
    adversary: Adversary | None = None
    """None where objective.adversarial_weight is 0."""
    step: int = 0
    seen: int = 0
    """Samples seen, over all ranks."""
    skipped_in_a_row: Tensor = field(default_factory=lambda: torch.zeros(()))
    """Steps that changed nothing since the last that did; counted anew after a resume."""

    @classmethod
    def create(cls, config: TrainConfig, model: SPAE) -> "TrainState":
        """The state before the first step; the model's weights are those it has."""
        optimizer = torch.optim.Adam(
            model.parameters(), lr=config.optimizer.learning_rate, betas=config.optimizer.betas, fused=True
        )
        dynamic_weights = torch.full((_WEIGHT_HISTORY,), torch.nan, device=model.device)
        frozen = (model.vocabulary, model.codebook) if config.model.table == "frozen" else (model.vocabulary,)
        shared = {id(one): one for one in frozen}  # a frozen table stays one
        average = copy.deepcopy(model, shared).eval().requires_grad_(False)
        adversary = None
        if config.objective.adversarial_weight:
            opponent = config.objective.discriminator
            adversary = Adversary(opponent, config.model.input_size, config.optimizer.betas, model.device)
        return cls(model, average, optimizer, dynamic_weights, adversary)

    def state_dict(self, position: DataPosition) -> dict[str, object]:
        """Tensors and plain values only: readable with `torch.load(weights_only=True)`."""
        return {**self.parts(), "step": self.step, "position": dataclasses.asdict(position)}

    def parts(self) -> dict[str, object]:
        """The state's tensors, as they are, in plain containers."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "weights": self.dynamic_weights,
            "adversary": self.adversary and self.adversary.state_dict(),
        }

    def load_state_dict(self, state: dict[str, object], order: StreamOrder) -> None:
        """Take up a run where `state_dict` left it, on any number of ranks."""
        values: dict = state
        self.model.load_state_dict(values["model"])
        self.model.refresh()
        self.average.load_state_dict(values["average"])
        self.optimizer.load_state_dict(values["optimizer"])
        self.dynamic_weights.copy_(values["weights"])
        if self.adversary:
            self.adversary.load_state_dict(values["adversary"])
        self.step = int(values["step"])
        position = values["position"]
        self.seen = order.seen(DataPosition(int(position["epoch"]), tuple(position["counts"])))

    def capped_weight(self, terms: Terms, config: ObjectiveConfig) -> Tensor:
        """The dynamic weight, at most `dynamic_weight_cap` times its running median (facts 8.9); 1 where it is off."""
        if not config.dynamic_weight:
            return torch.ones((), device=self.dynamic_weights.device)
        weight = dynamic_weight(terms["appearance"], terms["semantic"], len(self.model.codebook))
        median = torch.nan_to_num(self.dynamic_weights.nanmedian(), nan=torch.inf)
        weight = torch.minimum(weight, config.dynamic_weight_cap * median)
        self.dynamic_weights[self.step % _WEIGHT_HISTORY] = weight.where(weight.isfinite(), torch.nan)
        return weight


def on_host(values: object) -> object:
    """A copy of plain containers whose tensors lie in host memory, so that training can go on while it is written."""
    if isinstance(values, Tensor):
        return values.detach().to("cpu", copy=True)
    if isinstance(values, dict):
        return {name: on_host(value) for name, value in values.items()}
    if isinstance(values, (list, tuple)):
        return type(values)(map(on_host, values))
    return values
