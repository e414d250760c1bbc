"""How figures came about: what stands beside them, and what decides the statistics of a run."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from jobs.scoring.flags import EvaluateFlags
from jobs.scoring.parts import identity_of
from jobs.scoring.scorer import judge_description
from spae import __version__
from spae.data.media import MediaError
from spae.data.records import SplitIndex, load_index
from spae.data.tar import read_samples
from spae.data.video import check_video
from spae.evaluation.pictures import CROP
from spae.evaluation.reconstruction import SplitOptions
from spae.model import SPAE

FORMAT_VERSION = 1
_PROBED = 16  # videos whose frame rates are told, of the first shard
_SHARED = ("tokens", "vocabulary", "clip", "clip_weights", "pool_thresholds", "frame_stride", "batch", "seed")
_FLAGS = ("model", "shards", "train_shards", "limit", *_SHARED)
_DECIDING = ("layers", "judged_layers", "codecs", "inception_splits", *_SHARED)


def protocol_of(
    flags: EvaluateFlags,
    index: SplitIndex,
    model: SPAE,
    options: SplitOptions,
    devices: Sequence[str],
    references: Mapping[str, str],
) -> dict[str, Any]:
    """The protocol of a run's figures.

    Args:
        flags, index, model, options: of the run.
        devices: that counted.
        references: of each judge, the hash of its statistics of the originals.
    """
    return {
        "format_version": FORMAT_VERSION,
        "split": index.name,
        **{name: getattr(flags, name) for name in _FLAGS},
        "model_fingerprint": model.fingerprint,
        "words_fingerprint": model.vocabulary.words_fingerprint,
        "vocabulary_words": len(model.vocabulary),
        "source_sha256": {shard.name: shard.sha256 for shard in index.shards},
        "samples": index.samples,
        "input_size": model.config.input_size,
        "crop": CROP,
        "clips": _clips(index, model.config.input_size, flags.frame_stride),
        "psnr": "of the mean squared error over all values of the set, in [0, 1]; psnr_mean: mean over pictures",
        "judges": _judges(options),
        "judged": "pictures as bytes, originals of the same split by the same crop as reference"
        + (
            "; of clips each frame by itself, unless the judge is of clips" if len(model.config.input_size) == 3 else ""
        ),
        "references": dict(references),
        "inception_splits": flags.inception_splits,
        "baseline_model": options.rival and options.rival.fingerprint,
        "weights": "the model folder's, averaged over training (EMA)",
        "dtype": "float32",
        "device": ", ".join(devices),
        "torch": torch.__version__,
        "code_version": __version__,
    }


def run_identity(flags: EvaluateFlags, options: SplitOptions, model: SPAE) -> str:
    """Hash of all that decides what is counted of a shard: who counts it does not."""
    training = None if flags.train_shards is None else load_index(flags.train_shards).sha256
    return identity_of(
        {
            **{name: getattr(flags, name) for name in _DECIDING},
            "device": flags.device,
            "model": model.fingerprint,
            "rival": options.rival and options.rival.fingerprint,
            "class_words": sorted(options.class_words.items()),
            "judges": _judges(options),
            "training": training,
            "torch": torch.__version__,
            "threads": 1 if flags.workers else torch.get_num_threads(),
        }
    )


def _clips(index: SplitIndex, size: tuple[int, ...], stride: int) -> dict[str, Any] | None:
    """Which frames of videos are scored, and how many a second the first videos have; None of pictures."""
    if len(size) == 2:
        return None
    rates = set()
    for sample in read_samples(index.shards[0].url, stop=_PROBED):
        with contextlib.suppress(MediaError):
            rates.add(round(check_video(sample.media).frames_per_second, 3))
    return {
        "choice": "one a video, in its middle",
        "frames": size[0],
        "stride": stride,
        "frames_per_second": [min(rates), max(rates)] if rates else [],
    }


def _judges(options: SplitOptions) -> list[dict[str, Any]]:
    return [judge_description(one.judge.record) for one in options.examiners.values()]
