"""What the features of a vocabulary will cost: a batch of its words is encoded here, counted and timed."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from pipelines.amounts import bytes_text, time_text
from pipelines.features.encoder import WordEncoder


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of encoding some words.

    Attributes:
        words: how many.
        prompts: prompts a word.
        operations: floating-point operations of all matrix products and attention; a multiply-add counts as two.
        seconds: on the device that was timed.
        device: what was timed.
        bytes: of the features, float32.
    """

    words: int
    prompts: int
    operations: float
    seconds: float
    device: str
    bytes: int

    def lines(self, gpu_teraflops: float) -> Iterator[str]:
        """The cost as text, and what one GPU of that rate (10^12 operations a second) would make of it."""
        hours, gpu_hours = self.seconds / 3600, self.operations / gpu_teraflops / 1e12 / 3600
        yield f"{self.words} words x {self.prompts} prompts to encode: {self.words * self.prompts} prompts"
        yield f"{self.operations / 1e12:.6g} x 10^12 floating-point operations, {bytes_text(self.bytes)} of features"
        rate = self.operations / 1e12 / self.seconds
        yield f"about {time_text(self.seconds)} on {self.device}, {rate:.3g} x 10^12 a second"
        gpu_time = time_text(3600 * gpu_hours)
        yield f"about {gpu_time} on one GPU that does {gpu_teraflops:g} x 10^12 a second (--device cuda)"
        if hours > gpu_hours:
            yield (
                f"the GPU is the cheaper way where an hour of it costs less than {hours / gpu_hours:.3g} hours of "
                f"{self.device}"
            )
        else:
            yield "the GPU is not the cheaper way: it would take longer"


def estimate_cost(encoder: WordEncoder, words: Sequence[str], words_per_batch: int) -> Cost:
    """The cost of encoding words, by a batch of them that lie evenly: short and long words are of other ranks.

    What the prompts of a batch begin with runs once, hence a whole batch and the batch size of the run.
    """
    size = min(words_per_batch, len(words))
    sample = [words[len(words) * row // size] for row in range(size)]
    with FlopCounterMode(display=False) as counter:  # and what a first run does once
        part = encoder.encode(sample)
    begin = time.perf_counter()
    encoder.encode(sample)
    seconds = time.perf_counter() - begin
    device = encoder.guide.device.type
    return Cost(
        words=len(words),
        prompts=len(encoder.templates),
        operations=counter.get_total_flops() * len(words) / size,
        seconds=seconds * len(words) / size,
        device=f"a machine like this ({torch.get_num_threads()} threads)" if device == "cpu" else "this GPU",
        bytes=len(words) * part.vectors.shape[1] * part.vectors.itemsize,
    )
