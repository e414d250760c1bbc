"""A small real tokenizer for tests: 16-pixel images, three layers, forty words."""

import torch

from spae.config import DataConfig, NetworkConfig, ObjectiveConfig, OptimizerConfig, SPAEConfig, TrainConfig
from spae.model import SPAE
from spae.vocabulary import Vocabulary
from spae.vocabulary.record import VocabularyRecord

CONFIG = SPAEConfig(
    input_size=(16, 16),
    grids=((1, 1), (2, 2), (4, 4), (4, 4)),
    embedding_width=12,
    network=NetworkConfig(base_channels=8, channel_multipliers=(1, 1, 2), residual_blocks=1, middle_blocks=1),
)
TRAINING = TrainConfig(
    model=CONFIG,
    objective=ObjectiveConfig(
        semantic_weight=0.0,
        semantic_thresholds=(0.9, 0.8),
        prefix_probability=0.5,
        adversarial_weight=0.0,
        perceptual_weight=0.0,
    ),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=3, cooldown_steps=4, gradient_clip=1.0, ema_decay=0.9),
    data=DataConfig(batch_size=8, streams=4, crop_scale=(1.0, 1.0), flip=False, shift=1),
    steps=12,
)

SMALL_DIGITS = (
    *("--model.network.base-channels", "8", "--model.network.channel-multipliers", "1", "1", "1"),
    *("--data.batch-size", "16", "--objective.semantic-weight", "0"),
)
"""Flags of `jobs.train digits-32` for a run of seconds."""


def vocabulary(words: int = 40, width: int = 12) -> Vocabulary:
    """Random unit rows named word0, word1, ..."""
    table = torch.nn.functional.normalize(torch.randn(words, width, generator=torch.Generator().manual_seed(0)), dim=1)
    record = VocabularyRecord(llm="random", llm_revision="0", embeddings_source="random")
    return Vocabulary(tuple(f"word{i}" for i in range(words)), torch.arange(words) + 100, table, None, record)


def model(seed: int = 0) -> SPAE:
    """Random weights, evaluation mode, latent statistics from one random batch."""
    torch.manual_seed(seed)
    made = SPAE(CONFIG, vocabulary())
    made.statistics.momentum = 1.0
    made.train().latents(torch.rand(32, 3, 16, 16))
    return made.eval()
