"""Named configurations: `PRESETS["digits-32"]` is a complete TrainConfig; a variant is `dataclasses.replace` of one."""

import dataclasses

from spae.ablations import ABLATIONS, raw_table, same
from spae.config import (
    DataConfig,
    DiscriminatorConfig,
    NetworkConfig,
    ObjectiveConfig,
    OptimizerConfig,
    SPAEConfig,
    TrainConfig,
)

IMAGE_128 = TrainConfig(precision="bfloat16")

IMAGE_256 = TrainConfig(
    model=SPAEConfig(input_size=(256, 256), network=NetworkConfig(channel_multipliers=(1, 1, 2, 2, 4))),
    objective=ObjectiveConfig(discriminator=DiscriminatorConfig(channel_multipliers=(2, 4, 4, 4, 4, 4))),
    precision="bfloat16",
)

MNIST_32 = TrainConfig(
    model=SPAEConfig(input_size=(32, 32), grids=((1, 1), (2, 2), (4, 4), (4, 4))),
    objective=ObjectiveConfig(
        semantic_thresholds=(0.98, 0.95, 0.9), discriminator=DiscriminatorConfig(channel_multipliers=(2, 4, 4))
    ),
    data=DataConfig(crop_scale=(1.0, 1.0), flip=False),
)

DIGITS_32 = TrainConfig(
    model=SPAEConfig(
        input_size=(32, 32),
        grids=((1, 1), (2, 2), (4, 4), (8, 8), (8, 8)),
        embedding_width=384,
        network=NetworkConfig(base_channels=12, channel_multipliers=(1, 2, 4), residual_blocks=1, middle_blocks=0),
    ),
    objective=ObjectiveConfig(
        commitment_weight=0.02,
        semantic_thresholds=(0.98, 0.95),
        prefix_probability=0.02,
        adversarial_weight=0.0,
        perceptual_weight=0.0,
    ),
    optimizer=OptimizerConfig(
        learning_rate=4e-3,
        betas=(0.0, 0.99),
        warmup_steps=40,
        timescale_steps=40,
        cooldown_steps=200,
        gradient_clip=1.0,
        ema_decay=0.98,
    ),
    data=DataConfig(batch_size=32, streams=8, crop_scale=(1.0, 1.0), flip=False),
    precision="bfloat16",
    steps=400,
)

VIDEO_128 = TrainConfig(
    model=SPAEConfig(
        input_size=(16, 128, 128),
        grids=((1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8), (4, 16, 16), (4, 16, 16)),
    ),
    optimizer=OptimizerConfig(cooldown_steps=15_000),
    data=DataConfig(batch_size=512),
    precision="bfloat16",
    steps=130_000,
)
"""facts 2.4; it begins from an inflated image model. The cool-down is the image model's share of its steps."""

DIGITS_VIDEO = dataclasses.replace(
    DIGITS_32,
    model=dataclasses.replace(
        DIGITS_32.model,
        input_size=(8, 32, 32),
        grids=((1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8), (2, 8, 8)),
    ),
    optimizer=dataclasses.replace(
        DIGITS_32.optimizer, learning_rate=2e-3, warmup_steps=10, timescale_steps=40, cooldown_steps=100
    ),
    data=dataclasses.replace(DIGITS_32.data, batch_size=16),
    steps=160,
)

DIGITS_32_FULL = dataclasses.replace(
    DIGITS_32,
    objective=dataclasses.replace(
        DIGITS_32.objective,
        commitment_weight=0.01,
        adversarial_weight=0.1,
        perceptual_weight=0.01,
        discriminator=DiscriminatorConfig(
            base_channels=16, channel_multipliers=(2, 4, 4), learning_rate=4e-4, lecam_decay=0.98
        ),
    ),
    optimizer=dataclasses.replace(DIGITS_32.optimizer, cooldown_steps=100),
    data=dataclasses.replace(DIGITS_32.data, batch_size=16),
    steps=200,
)
"""Equations 8 and 9 whole, in minutes on a CPU."""

PHOTOS_64_FULL = dataclasses.replace(
    DIGITS_32_FULL,
    model=dataclasses.replace(
        DIGITS_32_FULL.model, input_size=(64, 64), grids=((1, 1), (2, 2), (4, 4), (8, 8), (16, 16), (16, 16))
    ),
    objective=dataclasses.replace(
        DIGITS_32_FULL.objective,
        semantic_weight=0.5,
        semantic_thresholds=(0.95, 0.9),
        discriminator=dataclasses.replace(DIGITS_32_FULL.objective.discriminator, channel_multipliers=(2, 4, 4, 4)),
    ),
    optimizer=dataclasses.replace(DIGITS_32_FULL.optimizer, cooldown_steps=120),
    data=dataclasses.replace(DIGITS_32_FULL.data, batch_size=8, flip=True),
    steps=240,
)
"""The same for crops of photographs. Not yet good: with a CLIP that knows three classes and these steps, layers 1 to 4
say the class, and PSNR on validation crops ends at 13.9 dB."""

PRESETS: dict[str, TrainConfig] = {
    "digits-32": DIGITS_32,
    "digits-32-full": DIGITS_32_FULL,
    "photos-64-full": PHOTOS_64_FULL,
    "mnist-32": MNIST_32,
    "image-128": IMAGE_128,
    "image-256": IMAGE_256,
    "digits-video": DIGITS_VIDEO,
    "video-128": VIDEO_128,
    **{f"image-128-{name}": row(IMAGE_128) for name, row in ABLATIONS.items() if row.change not in (same, raw_table)},
    **{f"video-128-{name}": ABLATIONS[name](VIDEO_128) for name in ("vq", "frozen", "semantic")},
}
