"""Optional columns of a token table: the same words in other forms, and what samples carry."""

import math

import numpy as np
import pyarrow as pa

from jobs.tokens.carried import carried_columns
from jobs.tokens.job import TokenJob
from spae.data.sources import Shard
from spae.data.token_table import LLM_IDS_COLUMN, TEXT_COLUMN, TokenRows
from spae.vocabulary import Vocabulary


def optional_columns(rows: TokenRows, vocabulary: Vocabulary, job: TokenJob, shard: Shard) -> dict[str, pa.Array]:
    """The columns that a job asks for, by name, in the table's order.

    `text`: the first layers' words, blanks between; `llm_ids`: the language model's own id of every stored word. Both
    go layer by layer, in raster order inside a layer. Then what is carried of the shard's samples.
    """
    flat = [layer.reshape(len(layer), math.prod(layer.shape[1:])) for layer in rows.layers]
    columns: dict[str, pa.Array] = {}
    if job.text_layers:
        words = np.asarray(vocabulary.word_list, object)
        texts = [" ".join(words[ids]) for ids in np.concatenate(flat[: job.text_layers], axis=1)]
        columns[TEXT_COLUMN] = pa.array(texts, pa.string())
    if job.llm_ids:
        ids = vocabulary.llm_ids.numpy()[np.concatenate(flat, axis=1)].astype(np.int32)
        columns[LLM_IDS_COLUMN] = pa.FixedSizeListArray.from_arrays(pa.array(ids.ravel()), ids.shape[1])
    return columns | carried_columns(shard, rows.keys, job.carry)
