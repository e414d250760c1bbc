"""Optional columns of a token table: the same words in other forms, and what samples carry."""

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.tokens.carried import carried_columns
from jobs.tokens.job import TokenJob
from jobs.tokens.views import view_box
from spae.data.sources import Shard
from spae.data.token_table import (
    CROP_COLUMN,
    LLM_IDS_COLUMN,
    TEXT_COLUMN,
    VIEW_COLUMN,
    TokenRows,
)
from spae.vocabulary import Vocabulary


def optional_columns(rows: TokenRows, vocabulary: Vocabulary, job: TokenJob, shard: Shard) -> dict[str, pa.Array]:
    """The columns that a job asks for, by name, in the table's order.

    `text`: the first layers' words, blanks between; `llm_ids`: the language model's own id of every stored word. Both
    go layer by layer, in raster order inside a layer. Then `depth`, which the rows have already, `view` and `crop`, and
    what is carried of the shard's samples.
    """
    flat = [layer.reshape(len(layer), math.prod(layer.shape[1:])) for layer in rows.layers]
    columns: dict[str, pa.Array] = {}
    if job.text_layers:
        texts = word_texts(np.asarray(vocabulary.word_list, object), flat[: job.text_layers], rows.depth)
        columns[TEXT_COLUMN] = pa.array(texts, pa.string())
    if job.llm_ids:
        ids = vocabulary.llm_ids.numpy()[np.concatenate(flat, axis=1)].astype(np.int32)
        columns[LLM_IDS_COLUMN] = pa.FixedSizeListArray.from_arrays(pa.array(ids.ravel()), ids.shape[1])
    columns |= rows.columns
    if job.views > 1:
        views = np.arange(len(rows.keys), dtype=np.int32) % job.views
        boxes = [view_box(job.seed, key, view) for key, view in zip(rows.keys, views.tolist(), strict=True)]
        columns[VIEW_COLUMN] = pa.array(views)
        crops = np.concatenate([np.empty(0, np.float32), *boxes])
        columns[CROP_COLUMN] = pa.FixedSizeListArray.from_arrays(pa.array(crops), 4)
    return columns | carried_columns(shard, rows.keys, job.carry)


def word_texts(
    words: NDArray[np.object_], layers: Sequence[NDArray[np.int32]], depths: NDArray[np.int32] | None
) -> list[str]:
    """The words of each row, blanks between, of flat layers (n, words), as many of these as the row uses."""
    ends, ids = np.cumsum([0, *(layer.shape[1] for layer in layers)]), np.hstack(layers)
    used = np.full(len(ids), len(layers)) if depths is None else np.minimum(depths, len(layers))
    return [" ".join(words[row[: ends[count]]]) for row, count in zip(ids, used, strict=True)]
