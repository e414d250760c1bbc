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
    """Of a shard: seconds of an actor's fastest batch so far, and most memory of the processes that had the shard."""

    batch_seconds: float
    encoder_bytes: int
    decoder_bytes: int


class UsageWatch:
    """Gathers what shards tell, for the line at the end of a run.

    Args:
        batch: pictures of a pass of the model.
        actors: that encode beside each other.
    """

    def __init__(self, batch: int, actors: int) -> None:
        self._batch, self._actors, self._images = batch, actors, 0
        self._begin, self._fastest, self._encoder, self._decoder = 0.0, float("inf"), 0, 0

    def note(self, images: int, usage: Usage) -> None:
        """Take note of a shard; the first one begins the time, so that no start of a process counts."""
        if self._begin:
            self._images += images
        self._begin = self._begin or time.monotonic()
        self._fastest = min(self._fastest, usage.batch_seconds or self._fastest)
        self._encoder = max(self._encoder, usage.encoder_bytes)
        self._decoder = max(self._decoder, usage.decoder_bytes)

    def log(self) -> None:
        """The line, where there were shards."""
        if not self._begin:
            return
        memory = "driver {:.2f}, an encoder {:.2f}, a decoder {:.2f}".format(
            *(taken / 1e9 for taken in (peak_memory(), self._encoder, self._decoder))
        )
        if not self._images or self._fastest == float("inf"):
            logger.info("peak GB: %s", memory)
            return
        rate, ceiling = self._images / (time.monotonic() - self._begin), self._actors * self._batch / self._fastest
        logger.info(
            "after the first shard %.1f images/s, %.0f%% of the %.1f that %d actors encode alone; peak GB: %s",
            *(rate, 100 * rate / ceiling, ceiling, self._actors, memory),
        )
