"""Tokenizing and training at the paper's size, against the same formulas written plainly (tests/benchmarks/plain.py).

    python -m tests.benchmarks.bench_training_step

The step has the terms that this project computes: pixels, commitment, semantics. CLIP is a fixed random feature, and
discriminator and perceptual network are off: they are the same work on both sides. Further it tells what the candidate
pools take of a step, how many floating-point operations a second the step makes against the machine's matrix products,
and what a profile finds at the top.
"""

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from spae.clip.pools import pool_sizes, sample_targets, similarity
from spae.config import TrainConfig
from spae.data.batch import Batch
from spae.model import SPAE
from spae.presets import PRESETS
from spae.training.objective import Guidance, Objective
from spae.training.state import TrainState
from spae.training.step import train_step
from tests import tiny_spae
from tests.benchmarks import plain
from tests.benchmarks.bench import Contestant, print_table, timed, write_json

CLIP_WIDTH = 768


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--words", type=int, default=65_536)
    parser.add_argument("--width", type=int, default=1_536)
    parser.add_argument("--channels", type=int, default=128, help="base channels of the networks")
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", default="runs/bench/training_step.json")
    options = parser.parse_args(argv)
    torch.manual_seed(0)
    config = configuration(options.width, options.channels)
    state = TrainState.create(config, SPAE(config.model, tiny_spae.vocabulary(options.words, options.width)))
    reference = SPAE(config.model, state.model.vocabulary)
    reference.layout = torch.contiguous_format
    for network in (reference.encoder, reference.decoder):
        network.to(memory_format=torch.contiguous_format)
    optimizer = torch.optim.Adam(reference.parameters(), lr=1e-4, betas=config.optimizer.betas)
    batch = random_batch(options.images, config)
    features, semantics = torch.randn(options.images, CLIP_WIDTH), torch.randn(options.words, CLIP_WIDTH)
    objective = Objective(config.objective, Guidance(lambda _: features, semantics))
    thresholds = config.objective.semantic_thresholds

    def plain_step() -> Tensor:
        return plain.step(reference, optimizer, batch.pixels, similarity(features, semantics), thresholds)

    def step() -> object:
        return train_step(state, objective, batch, config)

    encoders = {
        "encode, plain": lambda: plain.encode(reference.eval(), batch.pixels),
        "encode, spae": lambda: state.model.eval().encode(batch.pixels),
    }
    title = f"{options.words} words x {options.width}, {options.channels} base channels, {options.images} images, cpu"
    encoding = timed({name: Contestant(run, options.images) for name, run in encoders.items()}, options.rounds)
    print_table(title, encoding, "images")
    steps = {"step, plain": plain_step, "step, spae": step}
    training = timed({name: Contestant(run, options.images) for name, run in steps.items()}, options.rounds)
    print_table(title, training, "images")
    facts = {"pool_share": pool_seconds(features, semantics, batch, config) / training[1].seconds}
    operations = step_operations(state.model, batch, config)
    facts |= {"peak_gflops": matrix_rate(), "step_gflops": operations / training[1].seconds}
    sys.stdout.write(
        f"pools and targets: {facts['pool_share']:.1%} of a step\n"
        f"{facts['step_gflops']:.0f} GFLOP/s in a step, {facts['step_gflops'] / facts['peak_gflops']:.0%} of the "
        f"{facts['peak_gflops']:.0f} of a large float32 product\n"
    )
    table = profile_of(step)
    sys.stdout.write(table + "\n")
    write_json(options.output, title, encoding + training, **vars(options), **facts, profile=table.splitlines())


def configuration(width: int, channels: int) -> TrainConfig:
    """image-128 without discriminator and perceptual network."""
    preset = PRESETS["image-128"]
    network = dataclasses.replace(preset.model.network, base_channels=channels)
    return dataclasses.replace(
        preset,
        model=dataclasses.replace(preset.model, network=network, embedding_width=width),
        objective=dataclasses.replace(preset.objective, adversarial_weight=0.0, perceptual_weight=0.0),
    )


def random_batch(images: int, config: TrainConfig) -> Batch:
    """Noise with the draws that the guided layers need."""
    draws = torch.rand(images, sum(config.model.layer_sizes[: len(config.objective.semantic_thresholds)]))
    pixels = torch.randint(256, (images, 3, *config.model.input_size), dtype=torch.uint8)
    return Batch(pixels, draws, tuple(map(str, range(images))), tuple(range(images)))


def pool_seconds(features: Tensor, semantics: Tensor, batch: Batch, config: TrainConfig) -> float:
    """Seconds of similarities, pool sizes and sampled targets of a batch."""
    thresholds, taken = config.objective.semantic_thresholds, []
    sizes = list(config.model.layer_sizes[: len(thresholds)])
    for _ in range(5):
        start = time.perf_counter()
        scores = similarity(features, semantics)
        pool_sizes(scores, thresholds)
        for threshold, draws in zip(thresholds, batch.draws.split(sizes, 1), strict=True):
            sample_targets(scores, threshold, draws)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def matrix_rate(side: int = 3_072) -> float:
    """GFLOP/s of a large float32 product by the faster of two libraries."""
    left, right, taken = torch.randn(side, side), torch.randn(side, side), []
    for _ in range(5):
        for product in (lambda: np.matmul(left.numpy(), right.numpy()), lambda: left @ right):
            start = time.perf_counter()
            product()
            taken.append(time.perf_counter() - start)
    return 2 * side**3 / min(taken) / 1e9


def step_operations(model: SPAE, batch: Batch, config: TrainConfig) -> float:
    """Operations of a step in units of 1e9: those of the networks as torch counts them, and the words' products."""
    with FlopCounterMode(display=False) as networks:
        model.reconstruct(model.latents(batch.pixels)).sum().backward()
    guided = sum(config.model.layer_sizes[: len(config.objective.semantic_thresholds)])
    products = sum(config.model.layer_sizes) + 2 * guided
    words = 2 * len(batch.keys) * products * len(model.codebook) * model.codebook.width
    return (networks.get_total_flops() + words) / 1e9


def profile_of(step: Callable[[], object]) -> str:
    """The ten operations that take most of a step."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    return profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=10, max_name_column_width=40)


if __name__ == "__main__":
    main()
