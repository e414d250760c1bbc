"""Every fast path on a GPU: checked against fp64, then measured. Torch alone is needed; under eight minutes.

    python -m tests.benchmarks.gpu                         # on CUDA, at the paper's size
    python -m tests.benchmarks.gpu --device cpu --small    # whether the script itself works

Where open_clip is installed the prompt features are measured too; the last line says what was not.
"""

import argparse
import dataclasses
import datetime
import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spae.clip.pools import sample_targets
from spae.codebook.frozen import Codebook, default_temperature
from spae.model import SPAE
from spae.training.objective import Guidance, Objective
from spae.training.state import TrainState
from spae.training.step import train_step
from tests import tiny_spae
from tests.benchmarks import plain
from tests.benchmarks.bench import Contestant, Row, print_table, timed, write_json
from tests.benchmarks.bench_training_step import CLIP_WIDTH, configuration, random_batch, step_operations


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    words: int
    width: int
    channels: int
    images: tuple[int, ...]
    batch: int
    side: int  # of the square products that tell the machine's rate
    rounds: int


FULL = Sizes(words=65_536, width=1_536, channels=128, images=(256, 1_024), batch=256, side=8_192, rounds=5)
SMALL = Sizes(words=600, width=48, channels=8, images=(2, 3), batch=4, side=256, rounds=1)
IMAGE_WORDS, GUIDED_WORDS = 597, 341


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--output", default="runs/bench/gpu.json")
    options = parser.parse_args(argv)
    sizes, device = SMALL if options.small else FULL, torch.device(options.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    title = f"{name}, torch {torch.__version__}, {datetime.date.today()}"
    sys.stdout.write(title + "\n")
    torch.manual_seed(0)
    facts: dict[str, object] = dict(check_all(device))
    facts |= {f"{dtype}_tflops": rate for dtype, rate in matrix_rates(sizes, device)}
    for key, value in facts.items():
        sys.stdout.write(f"{key:56} {value}\n")
    rows = [*nearest(sizes, device), *cross_entropy(sizes, device), *encoding(sizes, device)]
    step_rows, step_facts = training(sizes, device)
    for key, value in step_facts.items():
        sys.stdout.write(f"{key:56} {value}\n")
    if importlib.util.find_spec("open_clip"):
        from tests.benchmarks import bench_prompt_features

        flags = ["--model", "ViT-S-32-alt", "--words", "8", "--templates", "4"] if options.small else ["--words", "512"]
        bench_prompt_features.main([*flags, "--device", options.device, "--rounds", str(sizes.rounds)])
    else:
        sys.stdout.write("not measured: prompt features, which need open_clip\n")
    write_json(options.output, title, [*rows, *step_rows], device=name, **facts, **step_facts)


def check_all(device: torch.device) -> Iterator[tuple[str, float]]:
    """How the fast paths agree with fp64; AssertionError where they do not."""
    random = torch.randn(5_000, 96, device=device)
    tables = {
        "random": random,
        "copies": random[:300].repeat(4, 1),
        "clusters": random[:50].repeat(20, 1) + 1e-7 * torch.randn(1_000, 96, device=device),
        "far": random[:999] * torch.logspace(-3, 3, 999, device=device)[:, None],
        "odd": random[:257, :7].contiguous(),
        "one": random[:1],
    }
    for name, table in tables.items():
        for count in (1, 3_001):
            queries = torch.randn(count, table.shape[1], device=device)
            queries[: count // 2] = table[torch.arange(count // 2, device=device) % len(table)]
            distances = torch.cdist(queries.double(), table.double(), compute_mode="donot_use_mm_for_euclid_dist")
            assert torch.equal(Codebook(table).nearest(queries), distances.argmin(1)), f"nearest of {name}, {count}"
    yield "nearest: tables with fp64's ids", len(tables)
    yield from check_tokens(device)
    targets = torch.randint(len(random), (400,), device=device)
    queries = F.normalize(torch.randn(400, 96, device=device)).requires_grad_()
    exact = queries.detach().double().requires_grad_()
    expected = plain.word_cross_entropy(exact, targets, F.normalize(random).double(), 0.1)
    (gradient,) = torch.autograd.grad(expected.sum(), exact)
    for mixed in (False, True):
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            losses = Codebook(F.normalize(random), 0.1).cross_entropy(queries, targets)
        (found,) = torch.autograd.grad(losses.sum(), queries)
        error = max(float((losses - expected).detach().abs().max()), float((found - gradient).abs().max()))
        assert error < (1e-2 if mixed else 1e-4), f"cross-entropy is off by {error}"
        yield f"cross-entropy: largest error, {'autocast' if mixed else 'float32'}", error


def check_tokens(device: torch.device) -> Iterator[tuple[str, float]]:
    """That a whole encoding finds the words of the plain formulas, and targets are drawn as on a CPU."""
    model = tiny_spae.model().to(device)
    pixels = torch.rand(64, 3, *model.config.input_size, device=device)
    ids = plain.encode(model, pixels)
    same = float((model.encode(pixels).flatten() == ids).float().mean())
    assert same > 0.99, f"{same:.2%} of an encoding's words are the plain formulas'"
    yield "encoding: share of the plain formulas' words", same
    scores, draws = torch.rand(64, 5_000), torch.rand(64, 21)
    drawn = [sample_targets(scores.to(place), 0.9, draws.to(place)).cpu() for place in (device, torch.device("cpu"))]
    assert torch.equal(*drawn), "targets differ from those that a CPU draws"


def matrix_rates(sizes: Sizes, device: torch.device) -> Iterator[tuple[str, float]]:
    """TFLOP/s of large square products by type."""
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        left = torch.randn(sizes.side, sizes.side, device=device).to(dtype)
        (row,) = timed({"product": Contestant(lambda left=left: left @ left)}, sizes.rounds, device.type)
        yield str(dtype).removeprefix("torch."), 2 * sizes.side**3 / row.seconds / 1e12


def nearest(sizes: Sizes, device: torch.device) -> list[Row]:
    """The search for the words of the larger batch, beside the bare product and torch's own distances."""
    table = F.normalize(torch.randn(sizes.words, sizes.width, device=device))
    count = IMAGE_WORDS * sizes.images[0]
    near = table[torch.randint(sizes.words, (count,), device=device)]
    queries = 0.7 * near + 0.7 * F.normalize(torch.randn_like(near))
    codebook, halves = Codebook(table), table.half()
    sample = queries[:: sizes.images[0]]
    assert torch.equal(codebook.nearest(sample), plain.nearest(sample, table)), "nearest differs from fp64"

    def product() -> None:
        for block in queries.half().split(8_192):
            block @ halves.T

    def distances() -> Tensor:
        return torch.cat([torch.cdist(block, table).argmin(1) for block in queries.split(8_192)])

    work = {"float16 product": product, "spae": lambda: codebook.nearest(queries), "torch.cdist": distances}
    return table_of(f"nearest of {sizes.words} x {sizes.width}, {count} rows", work, count, "rows", sizes, device)


def cross_entropy(sizes: Sizes, device: torch.device) -> list[Row]:
    """Loss and gradient of a batch's guided words, beside the two products that they need."""
    table = F.normalize(torch.randn(sizes.words, sizes.width, device=device))
    count = GUIDED_WORDS * sizes.batch
    queries = F.normalize(torch.randn(count, sizes.width, device=device)).requires_grad_()
    targets = torch.randint(sizes.words, (count,), device=device)
    codebook = Codebook(table, default_temperature(sizes.words))

    def products() -> None:
        for block in queries.detach().split(512):
            block @ table.T @ table

    def ours(mixed: bool) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            losses = codebook.cross_entropy(queries, targets)
        return torch.autograd.grad(losses.sum(), queries)[0]

    work = {
        "two products, float32": products,
        "spae, float32": lambda: ours(False),
        "spae, autocast": lambda: ours(True),
    }
    return table_of(f"cross-entropy, {sizes.words} words, {count} rows", work, count, "rows", sizes, device)


def encoding(sizes: Sizes, device: torch.device) -> list[Row]:
    """Images a second of `SPAE.encode`, in float32 and bfloat16, at each batch."""
    config = configuration(sizes.width, sizes.channels)
    model = SPAE(config.model, tiny_spae.vocabulary(sizes.words, sizes.width)).to(device).eval()
    rows = []
    for images in sizes.images:
        pixels = torch.randint(256, (images, 3, *config.model.input_size), dtype=torch.uint8, device=device)

        def mixed(pixels: Tensor = pixels) -> object:
            with torch.autocast(device.type, torch.bfloat16):
                return model.encode(pixels)

        work = {"encode, float32": lambda pixels=pixels: model.encode(pixels), "encode, bfloat16": mixed}
        rows += table_of(f"encode, batches of {images}", work, images, "images", sizes, device)
    return rows


def training(sizes: Sizes, device: torch.device) -> tuple[list[Row], dict[str, float]]:
    """A whole step without judges but for CLIP's similarities, in both precisions, and its share of the matrix rate."""
    steps, operations = {}, 0.0
    for precision in ("float32", "bfloat16"):
        config = dataclasses.replace(configuration(sizes.width, sizes.channels), precision=precision)
        model = SPAE(config.model, tiny_spae.vocabulary(sizes.words, sizes.width)).to(device)
        state, batch = TrainState.create(config, model), random_batch(sizes.batch, config).to(device)
        features = F.normalize(torch.randn(sizes.batch, CLIP_WIDTH, device=device))
        semantics = torch.randn(sizes.words, CLIP_WIDTH, device=device)
        objective = Objective(config.objective, Guidance(lambda _, features=features: features, semantics))
        steps[f"step, {precision}"] = lambda s=state, o=objective, b=batch, c=config: train_step(s, o, b, c)
        operations = operations or step_operations(model, random_batch(4, config).to(device), config) * sizes.batch / 4
    rows = table_of(f"training step, batch {sizes.batch}", steps, sizes.batch, "images", sizes, device)
    rates = {f"step_tflops, {row.name}": operations / 1e3 / row.seconds for row in rows}
    return rows, rates


def table_of(
    title: str, work: dict[str, Callable[[], object]], items: int, unit: str, sizes: Sizes, device: torch.device
) -> list[Row]:
    """Measure, print, return."""
    rows = timed({name: Contestant(run, items) for name, run in work.items()}, sizes.rounds, device.type)
    print_table(title, rows, unit)
    return rows


if __name__ == "__main__":
    main()
