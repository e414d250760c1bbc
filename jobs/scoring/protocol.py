"""How figures came about: what stands beside them, and what decides the statistics of a run."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from jobs.scoring.flags import EvaluateFlags
from jobs.scoring.parts import identity_of
from jobs.scoring.scorer import judge_description
from spae import __version__
from spae.data.records import SplitIndex, load_index
from spae.evaluation.pictures import CROP
from spae.evaluation.reconstruction import SplitOptions
from spae.model import SPAE

FORMAT_VERSION = 1
_SHARED = ("tokens", "vocabulary", "clip", "clip_weights", "frame_stride", "batch", "seed")
_FLAGS = ("model", "shards", "train_shards", "limit", *_SHARED)
_DECIDING = ("layers", "codecs", "inception_splits", *_SHARED)


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
        "psnr": "of the mean squared error over all values of the set, in [0, 1]; psnr_mean: mean over pictures",
        "judges": _judges(options),
        "judged": "pictures as bytes, originals of the same split by the same crop as reference",
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


def _judges(options: SplitOptions) -> list[dict[str, Any]]:
    return [judge_description(one.judge.record) for one in options.examiners.values()]
