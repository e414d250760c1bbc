"""What the processes of a run took, and how near encoding came to what the model alone can do."""

import logging
import resource
import time
from dataclasses import dataclass

logger = logging.getLogger(__name__)


def peak_memory() -> int:
    """Bytes of main memory that this process has taken at most, those that it shares with others too."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclass(frozen=True)
class Usage:
    """Of a shard: its actor, seconds of this one's fastest batch so far, most memory of the processes that had it."""

    actor: str
    batch_seconds: float
    encoder_bytes: int
    decoder_bytes: int


class UsageWatch:
    """Gathers what shards tell, for the line at the end of a run.

    Args:
        batch: pictures of a pass of the model.
    """

    def __init__(self, batch: int) -> None:
        self._batch, self._images, self._begin, self._encoder, self._decoder = batch, 0, 0.0, 0, 0
        self._fastest: dict[str, float] = {}

    def note(self, images: int, usage: Usage) -> None:
        """Take note of a shard; the first one begins the time, so that no start of a process counts."""
        if self._begin:
            self._images += images
        self._begin = self._begin or time.monotonic()
        if usage.batch_seconds:
            self._fastest[usage.actor] = usage.batch_seconds
        self._encoder = max(self._encoder, usage.encoder_bytes)
        self._decoder = max(self._decoder, usage.decoder_bytes)

    def log(self) -> None:
        """The line, where there were shards."""
        if not self._begin:
            return
        memory = "driver {:.2f}, an encoder {:.2f}, a decoder {:.2f}".format(
            *(taken / 1e9 for taken in (peak_memory(), self._encoder, self._decoder))
        )
        if not self._images or not self._fastest:
            logger.info("peak GB: %s", memory)
            return
        rate = self._images / (time.monotonic() - self._begin)
        ceiling = sum(self._batch / seconds for seconds in self._fastest.values())
        logger.info(
            "after the first shard %.1f images/s, %.0f%% of the %.1f that %d actors encode alone; peak GB: %s",
            *(rate, 100 * rate / ceiling, ceiling, len(self._fastest), memory),
        )
