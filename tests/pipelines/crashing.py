"""A decoder that some inputs crash; apart from the command, so that what it kills starts fast."""

import os
import signal

from pipelines.samples.images import ImageSamples
from pipelines.samples.maker import Media
from spae.data.sources import Entry, Source

DEADLY = b"a picture that kills"


class CrashingSamples(ImageSamples):
    """Images, of which some end the process as a segmentation fault in a decoder does."""

    def media(self, source: Source, entry: Entry) -> Media:
        if source.read(entry, len(DEADLY)) == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().media(source, entry)
