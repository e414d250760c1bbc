"""LoRA adapters: what is trained beside the frozen weights of a language model, by the loss of the learned tokens."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn import functional

from spae.data.token_sequences import TokenSequence

_WARMUP_STEPS = 5
_MOST_GRADIENT = 1.0


@dataclass(frozen=True, kw_only=True)
class AdapterTraining:
    """How long and how fast an adapter learns; the first limit that is reached ends it."""

    learning_rate: float
    """After a few steps of warm-up; it falls linearly to 0 at the end."""
    seconds: float
    steps: int | None

    def progress(self, step: int, seconds: float) -> float:
        """Share of the training that is done, 1 or more at its end."""
        return max(seconds / self.seconds, step / self.steps if self.steps else 0.0)


@dataclass(frozen=True)
class Step:
    """What a step of training saw."""

    number: int
    seconds: float
    progress: float
    loss: float
    learned: int
    """Tokens that count in the loss."""


def add_adapter(model: Any, place: str, rank: int, seed: int) -> Any:
    """A model with adapters on all of its linear layers but the output; at first they change nothing.

    Args:
        model: causal language model of transformers, frozen.
        place: what the adapter's configuration calls it.
        rank: of the adapters.
        seed: of their first values.
    """
    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = place
    return adapted


def sequence_loss(model: Any, sequence: TokenSequence) -> Tensor:
    """Sum over the learned tokens of -log p (natural); positions that begin anew keep documents apart.

    Logits are computed where a learned token follows and nowhere else.
    """
    device = model.device
    learned = torch.from_numpy(sequence.learned.nonzero()[0]).to(device)
    ids, positions = (torch.from_numpy(values).to(device)[None] for values in (sequence.ids, sequence.positions))
    logits = model(ids, position_ids=positions, use_cache=False, logits_to_keep=learned - 1).logits[0]
    return functional.cross_entropy(logits.float(), ids[0, learned], reduction="sum")


@torch.no_grad()
def mean_loss(model: Any, sequences: Iterable[TokenSequence]) -> float:
    """Nats a learned token; ValueError where none is learned."""
    model.eval()
    total, learned = 0.0, 0
    for sequence in sequences:
        total += float(sequence_loss(model, sequence))
        learned += int(sequence.learned.sum())
    if not learned:
        raise ValueError("no row of the held-out tables tells what it shows, so nothing can be learned there")
    return total / learned


def train_adapter(model: Any, sequences: Iterator[TokenSequence], training: AdapterTraining) -> Iterator[Step]:
    """Take AdamW steps, one a sequence, until time or steps are over; yields what each step saw."""
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=training.learning_rate, weight_decay=0.0)
    model.train()
    begin, progress, number = time.monotonic(), 0.0, 0
    while progress < 1:
        sequence = next(sequences)
        learned = int(sequence.learned.sum())
        loss = sequence_loss(model, sequence) / learned
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, _MOST_GRADIENT)
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate * min(1.0, (number + 1) / _WARMUP_STEPS) * (1 - progress)
        optimizer.step()
        optimizer.zero_grad()
        number += 1
        seconds = time.monotonic() - begin
        progress = training.progress(number, seconds)
        yield Step(number, seconds, progress, loss.item(), learned)
