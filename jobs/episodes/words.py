"""The words of labelled pictures, from shards or from token tables."""

import numpy as np

from spae.data.records import load_index
from spae.evaluation.pictures import TokenSource, encoded_batches
from spae.incontext.tasks import LabelledWords
from spae.incontext.text import WordText
from spae.model import SPAE
from spae.progress import tracked


def labelled_words(
    model: SPAE, shards: str, layers: int, batch: int, tokens: TokenSource | None = None
) -> LabelledWords:
    """The first layers' words of a split's labelled pictures, a text each; all texts are held in memory.

    ValueError where no picture has a label.
    """
    index, writer = load_index(shards), WordText(model.vocabulary)
    keys: list[str] = []
    labels: list[int] = []
    texts: list[str] = []
    for encoded in tracked(encoded_batches(model, index.shards, batch, tokens), index.samples, "image", len):
        if encoded.pyramid is None:
            continue
        rows = encoded.pyramid.flatten(layers).tolist()
        for key, label, row in zip(encoded.keys, encoded.labels, rows, strict=True):
            if label is not None:
                keys.append(key)
                labels.append(label)
                texts.append(writer.write(row))
    if not keys:
        raise ValueError(f"{shards} holds no picture with a label; classification needs some")
    return LabelledWords(tuple(keys), np.asarray(labels, np.int64), tuple(texts))
