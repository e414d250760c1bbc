"""Write videos, whole or as clips cut from them, as WebDataset shards, with every video that could not be used named.

    python -m pipelines.videos --source folder --input UCF-101 --split train --output shards
    python -m pipelines.videos --source kinetics --input k600/val --annotations k600/val.csv --split val \\
        --output shards --frames 16 --rate 25 --size 128 --max-error-share 0.2

Without --frames whole videos are kept: original bytes where they are H.264, HEVC, AV1, VP9 or MPEG-4 in an mp4. With
--frames or --size they are encoded as H.264 without audio, decoded again and compared. One planned clip is one input:
inputs = samples + errors. A rerun continues where a killed run ended. Beam's own flags are passed on.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.samples.images import CheckName
from pipelines.samples.videos import VideoSamples
from pipelines.shards.command import ShardFlags, run_command
from spae.data.publishing import absolute
from spae.data.sources import VIDEO_PATTERNS, BrokenContainers, SourceSettings, VideoSourceName


@dataclass(frozen=True, kw_only=True)
class VideosFlags(ShardFlags):
    """What to shard, and how."""

    source: VideoSourceName
    """folder: one folder of videos a class, such as UCF-101. kinetics: --annotations names the clips, which lie below
    --input as {id}_{start:06d}_{end:06d}.mp4, be it in tars (.tar.gz too, where there is room to unpack all of them); 5
    to 20% of Kinetics can no longer be had, see --max-error-share."""
    include: str = ""
    """folder: patterns of the file names that are inputs, such as '*.mp4'; without it the usual ones of videos,
    with '*' all files."""
    annotations: str = ""
    """CSV table with label, youtube_id, time_start, time_end and, where it holds several, split."""
    broken_containers: BrokenContainers = "fail"
    """kinetics: tars that are broken or cut: fail before any work, or skip, that is take what can be read of them."""
    check: CheckName = "header"
    """header: each file's headers, packets and first frame. decode: every frame, some ten times slower."""
    frames: int | None = None
    """Frames of a clip; without it whole videos are kept."""
    rate: float | None = None
    """Frames a second of a clip, by the times of the video's frames; without it, every --stride-th frame."""
    stride: int = 1
    """Without --rate: how many frames further in the video each next frame of a clip lies."""
    size: int | None = None
    """Pixels of the short side, an even number; the centre square is cut. Smaller videos are enlarged."""
    crop: bool = True
    """--no-crop keeps the aspect, and smaller videos their size."""
    clips: int = 1
    """Clips of a video: one lies in its centre, more are evenly spaced from its first frame to its last."""
    crf: int = 18
    """Quality of what is encoded, 0 to 51, less is better."""

    def source_settings(self) -> SourceSettings:
        """Where the videos come from."""
        url, annotations = (absolute(place) if place else "" for place in (self.input, self.annotations))
        include = self.include or (VIDEO_PATTERNS if self.source == "folder" else "")
        return SourceSettings(
            name=self.source,
            url=url,
            split=self.split,
            annotations=annotations,
            include=include,
            broken_containers=self.broken_containers,
        )

    def sample_maker(self) -> VideoSamples:
        """How each clip is stored."""
        return VideoSamples(
            check=self.check,
            frames=self.frames,
            rate=self.rate,
            stride=self.stride,
            size=self.size,
            crop=self.crop,
            clips=self.clips,
            crf=self.crf,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all went well, 1 where work failed, 2 for unusable arguments."""
    return run_command(VideosFlags, "pipelines.videos", __doc__ or "", arguments)


if __name__ == "__main__":
    sys.exit(main())
