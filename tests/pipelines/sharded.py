"""Shards made by the command, and what became of their inputs."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import webdataset

from pipelines.images import main
from pipelines.verify import main as verify
from spae.data.records import load_index


def images(
    source: str, url: Path | str, output: Path | str, *flags: Any, split: str = "train", status: int = 0
) -> dict[str, Any]:
    """Run the command and the verification; the samples by key."""
    arguments = ["--source", source, "--input", str(url), "--split", split, "--output", str(output)]
    assert main([*arguments, "--samples-per-shard", "7", *map(str, flags)]) == status
    assert verify([f"{output}/{split}"]) == 0
    shards = load_index(f"{output}/{split}").shards
    if "://" in str(output):
        return {}
    urls = [shard.url for shard in shards]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
    assert len({sample["__key__"] for sample in samples}) == len(samples)
    return {sample["__key__"]: sample for sample in samples}


def dead_letters(folder: Path | str) -> Counter[str]:
    """Unusable inputs a reason."""
    rows = [json.loads(line) for path in Path(folder).glob("errors/*") for line in path.read_text().splitlines()]
    return Counter(row["reason"] for row in rows)


def tar_hashes(folder: Path | str) -> list[str]:
    """sha256 of each tar, in order."""
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path(folder).glob("*.tar"))]
