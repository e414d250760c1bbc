"""Whether a split holds what a model takes, seen by its first samples before anything is started."""

import itertools

from spae.config import TrainConfig
from spae.data.media import MediaError, check_image
from spae.data.records import SplitIndex
from spae.data.tar import read_samples
from spae.data.video import ClipShape, VideoHeader, check_video

PROBED = 16
"""Samples, of the first shard."""


def check_media(index: SplitIndex, config: TrainConfig) -> None:
    """ValueError where not one of the first samples is an image, or a video, that the model could train on.

    Videos of different frame rates are refused unless the configuration says which rate counts.
    """
    media = [sample.media for sample in itertools.islice(read_samples(index.shards[0].url), PROBED)]
    if len(config.model.input_size) == 2:
        if media and not any(_is_image(one) for one in media) and _headers(media)[0]:
            raise ValueError(
                f"{index.shards[0].url} holds videos, and the model takes pictures of {config.model.input_size}; use a "
                "preset for clips, such as digits-video or video-128"
            )
        return
    _check_videos(index.shards[0].url, media, config)


def _check_videos(url: str, media: list[bytes], config: TrainConfig) -> None:
    headers, reason = _headers(media)
    if not headers:
        raise ValueError(
            f"none of the first {len(media)} samples of {url} is a video ({reason}), and the model takes clips of "
            f"{config.model.input_size}; use a preset for pictures, or shards of pipelines.videos"
        )
    frames, stride = config.model.input_size[0], config.data.frame_stride
    span, longest = ClipShape(frames, stride).span, max(len(header.times) for header in headers)
    if longest < span:
        fits = f"frame_stride {(longest - 1) // (frames - 1)}" if frames <= longest else f"clips of {longest} frames"
        raise ValueError(
            f"the first {len(media)} videos of {url} have at most {longest} frames; {frames} at data.frame_stride "
            f"{stride} need {span}: {fits} would fit"
        )
    rates = sorted(header.frames_per_second for header in headers)
    if config.data.frame_rate is None and rates[-1] / rates[0] > 1.01:
        raise ValueError(
            f"the first {len(media)} videos of {url} have {rates[0]:.6g} to {rates[-1]:.6g} frames a second, so that "
            "a stride means different times; shard them with pipelines.videos --frames and --rate, or give "
            f"--data.frame-rate {rates[len(rates) // 2]:.6g}, which leaves others out, or 0, which takes any"
        )


def _headers(media: list[bytes]) -> tuple[list[VideoHeader], str]:
    """Of the videos among them, and the last reason why one is none."""
    headers, reason = [], "the shard is empty"
    for one in media:
        try:
            headers.append(check_video(one))
        except MediaError as error:
            reason = str(error)
    return headers, reason


def _is_image(data: bytes) -> bool:
    try:
        check_image(data)
    except MediaError:
        return False
    return True
