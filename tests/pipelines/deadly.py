"""`pipelines.images` with a decoder that some inputs crash: a process that makes one of them dies at once."""

import sys
from dataclasses import dataclass

from pipelines.images import ImagesFlags
from pipelines.shards.command import run_command
from tests.pipelines.crashing import CrashingSamples


@dataclass(frozen=True, kw_only=True)
class CrashingFlags(ImagesFlags):
    """Those of the command."""

    def sample_maker(self) -> CrashingSamples:
        return CrashingSamples()


def main(arguments: list[str] | None = None) -> int:
    return run_command(CrashingFlags, "tests.pipelines.deadly", "", arguments)


if __name__ == "__main__":
    sys.exit(main())
