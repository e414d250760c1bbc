"""Small real splits for tests: tars of PNG pictures with an index and classes, written without a pipeline."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from webdataset import TarWriter

from spae.data.media import encode_png
from spae.data.records import ClassName, ShardInfo, save_classes, save_index

CLASSES = ("word3", "word5", "mountain")
"""Names of the labels; two are words of tests.tiny_spae's vocabulary."""

Sample = tuple[str, bytes, int | None]


def samples(count: int, seed: int = 0, side: int = 16) -> list[Sample]:
    """Random blocky pictures with keys and labels."""
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    pictures = blocks.repeat(side // 4, axis=1).repeat(side // 4, axis=2)
    return [(f"sample-{seed}-{n:04d}", encode_png(picture), n % len(CLASSES)) for n, picture in enumerate(pictures)]


def write_split(folder: Path, shards: Sequence[Sequence[Sample]], split: str = "test", suffix: str = "png") -> str:
    """Write a split of these shards; its URL."""
    folder.mkdir(parents=True, exist_ok=True)
    infos = []
    for number, shard in enumerate(shards):
        data = tar_bytes(shard, suffix)
        path = folder / f"{split}-{number:06d}.tar"
        path.write_bytes(data)
        infos.append(ShardInfo(str(path), len(shard), len(data), hashlib.sha256(data).hexdigest()))
    save_index(str(folder), split, infos)
    save_classes(str(folder), [ClassName(label, name) for label, name in enumerate(CLASSES)])
    return str(folder)


def tar_bytes(shard: Sequence[Sample], suffix: str = "png") -> bytes:
    """A tar in WebDataset form."""
    sink = io.BytesIO()
    writer = TarWriter(sink, encoder=False, mtime=0)
    for key, media, label in shard:
        labels = {} if label is None else {"cls": str(label).encode()}
        writer.write({"__key__": key, suffix: media, **labels})
    writer.close()
    return sink.getvalue()
