"""What `jobs.evaluate` counts, from its flags: in its own process, and again wherever shards are scored."""

import logging
import re
from collections.abc import Sequence

import torch

from jobs.scoring.flags import EvaluateFlags
from spae.clip import load_clip, require_same_clip
from spae.data.records import ShardInfo, load_class_names, load_index
from spae.data.token_table import open_token_table
from spae.evaluation.baselines import Baselines, TrainingSplit
from spae.evaluation.judging import Examiner
from spae.evaluation.pictures import TokenSource, encoded_batches
from spae.evaluation.reconstruction import SplitOptions, WordSimilarity, words_of_classes
from spae.judges.catalogue import load_judge
from spae.model import SPAE
from spae.progress import tracked
from spae.pyramid import TokenPyramid, check_layers
from spae.vocabulary import Vocabulary

logger = logging.getLogger(__name__)


def make_options(flags: EvaluateFlags, model: SPAE) -> SplitOptions:
    """What is to be scored, but for `learnt_baselines`. ValueError where parts do not fit."""
    if flags.codecs and len(model.config.input_size) == 3:
        raise ValueError(f"--codecs {' '.join(flags.codecs)} code pictures, and the model takes clips; leave them away")
    names = load_class_names(flags.shards.removesuffix("/index.json"))
    return SplitOptions(
        layers=_layers("--layers", flags.layers, model),
        judged_layers=_layers("--judged-layers", flags.judged_layers, model),
        class_words=words_of_classes(model.vocabulary, names),
        similarity=_similarity(flags, model),
        thresholds=flags.pool_thresholds,
        examiners=_examiners(flags, model),
        splits=flags.inception_splits,
        codecs=flags.codecs,
        rival=_rival(flags, model),
        batch=flags.batch,
        seed=flags.seed,
    )


def _layers(flag: str, text: str, model: SPAE) -> tuple[int, ...] | None:
    if text == "all":
        return None
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise ValueError(f"{flag} {text} must be all, or numbers such as 1,3,5")
    return tuple(check_layers(int(number), model.depth) for number in text.split(","))


def learnt_baselines(flags: EvaluateFlags, model: SPAE) -> Baselines:
    """What the training split --train-shards alone can do."""
    index, training = load_index(flags.train_shards or ""), TrainingSplit()
    logger.info("learning from the %d samples of %s", index.samples, flags.train_shards)
    batches = encoded_batches(model, index.shards, flags.batch, frame_stride=flags.frame_stride)
    for pictures in tracked(batches, index.samples, "image", len):
        training.update(pictures)
    return training.compute()


def stored_tokens(folder: str, model: SPAE, frame_stride: int = 1) -> TokenSource:
    """Words from the token tables in a folder, one shard in memory at a time.

    ValueError where a table is missing, lacks a sample, or comes from another model, shard or frame stride.
    """
    fingerprint = model.fingerprint
    last: dict[str, tuple[TokenPyramid, dict[str, int]]] = {}

    def find(shard: ShardInfo, keys: Sequence[str]) -> TokenPyramid:
        if shard.name not in last:
            last.clear()
            tokens = open_token_table(folder, shard, fingerprint, frame_stride=frame_stride)
            rows_by_key = {key: row for row, key in enumerate(tokens.keys)}
            last[shard.name] = TokenPyramid.from_arrays(tokens.layers), rows_by_key
        pyramid, rows = last[shard.name]
        if missing := [key for key in keys if key not in rows]:
            raise ValueError(
                f"the table of {shard.name} in {folder} has no row for {missing[0]}; tokenize it anew, or take the "
                "samples that were removed from it out of the shard too"
            )
        chosen = torch.tensor([rows[key] for key in keys])
        return TokenPyramid(tuple(layer[chosen] for layer in pyramid.layers))

    return find


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
    guide = load_clip(flags.clip, flags.clip_weights, model.device)
    require_same_clip(guide, vocabulary.record.semantics)
    return WordSimilarity(guide, vocabulary.semantics)


def _examiners(flags: EvaluateFlags, model: SPAE) -> dict[str, Examiner]:
    found = {}
    for asked in flags.judges:
        judge = load_judge(asked, model.device)
        if judge.record.name in found:
            raise ValueError(f"--judges names {judge.record.name} twice; give each once")
        found[judge.record.name] = Examiner(judge, model.config.input_size, flags.batch)
    return found


def _rival(flags: EvaluateFlags, model: SPAE) -> SPAE | None:
    if flags.baseline_model is None:
        return None
    rival = SPAE.from_pretrained(flags.baseline_model, model.device)
    if rival.config.input_size != model.config.input_size:
        raise ValueError(
            f"--baseline-model takes pictures of {rival.config.input_size}, and --model of {model.config.input_size}; "
            "give one of the same size"
        )
    return rival
