"""Score a model on a split, and write the figures with the protocol that gave them.

    python -m jobs.evaluate --model runs/demo/model --shards runs/demo/shards/test --output runs/demo/test.json

PSNR for every number of layers, word usage, first words; with --train-shards what the training split alone can do; with
--clip CLIP's own accuracy and its score of the words.
"""

import json
import logging
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import tyro

from jobs.paths import place
from jobs.reporting.comparison import compared_figures, comparison_text
from jobs.reporting.scores import score_document
from spae import __version__
from spae.clip import load_clip, require_same_clip
from spae.data.publishing import publish
from spae.data.records import ShardInfo, SplitIndex, load_class_names, load_index
from spae.data.token_table import open_token_table
from spae.evaluation.baselines import Baselines, TrainingSplit
from spae.evaluation.pictures import CROP, TokenSource, encoded_batches
from spae.evaluation.reconstruction import SplitMetrics, SplitOptions, SplitScore, WordSimilarity, words_of_classes
from spae.model import SPAE
from spae.progress import tracked
from spae.pyramid import TokenPyramid, check_layers
from spae.vocabulary import Vocabulary

FORMAT_VERSION = 1

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EvaluateFlags:
    """What is scored, and against what."""

    model: str
    """Model folder, by path, URL or hub id."""
    shards: str
    """Folder of the split to score; its classes.parquet names the labels."""
    output: str
    """JSON file to write."""
    tokens: str | None = None
    """Folder of token tables of this split by this model; without it the pictures are encoded."""
    train_shards: str | None = None
    """Training split for the baselines: the best map from first words to classes, and the nearest picture. It is held
    in memory."""
    vocabulary: str | None = None
    """Vocabulary folder with the semantics of --clip."""
    clip: str | None = None
    """open_clip model that judged the vocabulary."""
    clip_weights: str | None = None
    """Its weights: an open_clip tag or a file."""
    layers: str = "all"
    """Numbers of layers to decode, such as 1,3,5."""
    batch: int = 64
    """Pictures of every pass of the model, as in the token tables."""
    device: Literal["cpu", "cuda"] = "cpu"
    seed: int = 0
    """Decides whose words are exchanged."""
    limit: int | None = None
    """Score the first shards only."""
    max_error_share: float = 0.01
    """Share of undecodable samples above which the command ends as failed."""

    def __post_init__(self) -> None:
        if self.batch < 1 or (self.limit is not None and self.limit < 1):
            raise ValueError(f"--batch {self.batch} and --limit {self.limit} must be at least 1")
        if (self.clip is None) != (self.vocabulary is None):
            raise ValueError("--vocabulary and --clip belong together: CLIP judges by the features stored there")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all went well, 1 where work failed, 2 for unusable arguments."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for own in (__name__, "jobs", "spae"):  # open_clip tells its steps to the root logger
        logging.getLogger(own).setLevel(logging.INFO)
    try:
        flags = tyro.cli(EvaluateFlags, args=arguments, description=__doc__)
        output = place("--output", flags.output)
        model = SPAE.from_pretrained(flags.model, flags.device)
        index = _first_shards(flags.shards, flags.limit)
        options = make_options(flags, model)
    except (ValueError, OSError, RuntimeError) as error:  # torch raises RuntimeError for a device that is not there
        logger.error("%s", error)
        return 2
    try:
        score = evaluate(model, index, options, flags)
    except (ValueError, OSError) as error:
        logger.error("%s", error)
        return 1
    document = {"protocol": _protocol(flags, index, model), **score_document(score, model)}
    publish(output, json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n")
    sys.stdout.write(comparison_text(compared_figures([document]), [index.name]))
    logger.info("in %d, out %d, failed %d: %s", score.samples + score.errors, score.samples, score.errors, output)
    if score.errors > flags.max_error_share * (score.samples + score.errors):
        logger.error("%d samples cannot be decoded, over --max-error-share %g", score.errors, flags.max_error_share)
        return 1
    return 0


def make_options(flags: EvaluateFlags, model: SPAE) -> SplitOptions:
    """What is to be scored; learns from the training split, if there is one. ValueError where parts do not fit."""
    layers = None
    if flags.layers != "all":
        if not re.fullmatch(r"\d+(,\d+)*", flags.layers):
            raise ValueError(f"--layers {flags.layers} must be all, or numbers such as 1,3,5")
        layers = tuple(check_layers(int(number), model.depth) for number in flags.layers.split(","))
    names = load_class_names(flags.shards.removesuffix("/index.json"))
    return SplitOptions(
        layers=layers,
        class_words=words_of_classes(model.vocabulary, names),
        similarity=_similarity(flags, model),
        baselines=_baselines(flags, model),
        seed=flags.seed,
    )


def evaluate(model: SPAE, index: SplitIndex, options: SplitOptions, flags: EvaluateFlags) -> SplitScore:
    """Score a split."""
    metrics = SplitMetrics(model, options)
    tokens = None if flags.tokens is None else stored_tokens(flags.tokens, model)
    batches = encoded_batches(model, index.shards, flags.batch, tokens)
    for batch in tracked(batches, index.samples, "image", len):
        metrics.update(batch)
    return metrics.compute()


def stored_tokens(folder: str, model: SPAE) -> TokenSource:
    """Words from the token tables in a folder, one shard in memory at a time.

    ValueError where a table is missing, lacks a sample, or comes from another model or shard.
    """
    fingerprint = model.fingerprint
    last: dict[str, tuple[TokenPyramid, dict[str, int]]] = {}

    def find(shard: ShardInfo, keys: Sequence[str]) -> TokenPyramid:
        if shard.name not in last:
            last.clear()
            tokens = open_token_table(folder, shard, fingerprint)
            rows_by_key = {key: row for row, key in enumerate(tokens.keys)}
            last[shard.name] = TokenPyramid.from_arrays(tokens.layers), rows_by_key
        pyramid, rows = last[shard.name]
        if missing := [key for key in keys if key not in rows]:
            raise ValueError(f"the table of {shard.name} in {folder} has no row for {missing[0]}; tokenize it anew")
        chosen = torch.tensor([rows[key] for key in keys])
        return TokenPyramid(tuple(layer[chosen] for layer in pyramid.layers))

    return find


def _protocol(flags: EvaluateFlags, index: SplitIndex, model: SPAE) -> dict[str, Any]:
    """How the figures came about."""
    return {
        "format_version": FORMAT_VERSION,
        "split": index.name,
        **{name: getattr(flags, name) for name in ("model", "shards", "tokens", "train_shards", "vocabulary", "clip")},
        **{name: getattr(flags, name) for name in ("clip_weights", "limit", "batch", "seed")},
        "model_fingerprint": model.fingerprint,
        "words_fingerprint": model.vocabulary.words_fingerprint,
        "source_sha256": {shard.name: shard.sha256 for shard in index.shards},
        "input_size": model.config.input_size,
        "crop": CROP,
        "psnr": "of the mean squared error over all values of the set, in [0, 1]; psnr_mean: mean over pictures",
        "device": model.device_name,
        "torch": torch.__version__,
        "code_version": __version__,
    }


def _first_shards(url: str, limit: int | None) -> SplitIndex:
    index = load_index(url)
    return SplitIndex(index.name, index.shards[:limit])


def _similarity(flags: EvaluateFlags, model: SPAE) -> WordSimilarity | None:
    if flags.clip is None or flags.vocabulary is None:
        return None
    vocabulary = Vocabulary.load(flags.vocabulary)
    if model.config.table_size is not None and len(vocabulary) > len(model.vocabulary):
        vocabulary = vocabulary.first(len(model.vocabulary))
    if vocabulary.words_fingerprint != model.vocabulary.words_fingerprint:
        raise ValueError(
            f"{flags.vocabulary} has words_fingerprint {vocabulary.words_fingerprint}, and {flags.model} has "
            f"{model.vocabulary.words_fingerprint}; give the vocabulary that the model was trained with"
        )
    if vocabulary.semantics is None or vocabulary.record.semantics is None:
        raise ValueError(f"{flags.vocabulary} holds no semantics; build it with --clip")
    guide = load_clip(flags.clip, flags.clip_weights, flags.device)
    require_same_clip(guide, vocabulary.record.semantics)
    return WordSimilarity(guide, vocabulary.semantics)


def _baselines(flags: EvaluateFlags, model: SPAE) -> Baselines | None:
    if flags.train_shards is None:
        return None
    index, training = load_index(flags.train_shards), TrainingSplit()
    logger.info("learning from the %d samples of %s", index.samples, flags.train_shards)
    for batch in tracked(encoded_batches(model, index.shards, flags.batch), index.samples, "image", len):
        training.update(batch)
    return training.compute()


if __name__ == "__main__":
    sys.exit(main())
