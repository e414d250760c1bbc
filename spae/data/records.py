"""What a sample and a split of shards are on disk.

A split is a folder of WebDataset tars `{split}-{index:06d}.tar` without gaps. Beside each tar stands its sidecar
`{split}-{index:06d}.json`, written last: a tar without one is unfinished. `errors/{shard}.jsonl` names what could not
be used, `index.json` (the form of the wids library, and sha256) lists the shards, `index.parquet` holds the same rows,
`sizes.json` is what open_clip reads, `classes.parquet` names the labels. How the tars are made is none of this file's
business.
"""

import hashlib
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from spae.data.publishing import absolute, join, publish, read_bytes

MEDIA_SUFFIXES = ("jpg", "png", "mp4")
LABEL_SUFFIX, TEXT_SUFFIX, METADATA_SUFFIX = "cls", "txt", "json"
INDEX_FILE, INDEX_PARQUET, SIZES_FILE, CLASSES_FILE = "index.json", "index.parquet", "sizes.json", "classes.parquet"
PLAN_FILE, ERRORS_FOLDER = "plan.json", "errors"
RECONSTRUCTION = "reconstruction"
"""The only entry in the settings of a shard that was rebuilt from a token table: no plan.json lists its inputs."""

MAX_KEY_LENGTH = 90  # a member's name, suffix included, must fit the 100 bytes of a USTAR header
KEY_PATTERN = rf"[A-Za-z0-9-][A-Za-z0-9_-]{{0,{MAX_KEY_LENGTH - 1}}}"
_KEY = re.compile(KEY_PATTERN)
_SPLIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")

_INDEX_SCHEMA = pa.schema(
    [
        pa.field("url", pa.string(), nullable=False),
        pa.field("nsamples", pa.int64(), nullable=False),
        pa.field("filesize", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("nerrors", pa.int64(), nullable=False),
    ]
)
_CLASSES_SCHEMA = pa.schema(
    [pa.field("label", pa.int32(), nullable=False), ("wnid", pa.string()), ("name", pa.string())]
)


@dataclass(frozen=True)
class ClassName:
    """A label, its WordNet id where it has one, and what people call it."""

    label: int
    name: str
    wnid: str | None = None


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """One finished shard: its tar's URL, how many samples it holds and how many inputs it lost, size and checksum."""

    url: str
    samples: int
    bytes: int
    sha256: str
    errors: int = 0

    @property
    def name(self) -> str:
        """The tar's name without folder and suffix, such as train-000000."""
        return self.url.rsplit("/", 1)[-1].removesuffix(".tar")


@dataclass(frozen=True)
class SplitIndex:
    """The shards of a split, in order."""

    name: str
    shards: tuple[ShardInfo, ...]

    @property
    def samples(self) -> int:
        """Samples in all shards."""
        return sum(shard.samples for shard in self.shards)

    @property
    def sha256(self) -> str:
        """Of the shards' own, in order: the same for the same samples wherever they lie."""
        return hashlib.sha256("".join(shard.sha256 for shard in self.shards).encode()).hexdigest()


@dataclass(frozen=True)
class Sidecar:
    """What `{shard}.json` says of its tar; the mark that the shard is finished.

    `plan` is the hash of all that determines the tar's bytes: settings, entries and their order.
    """

    shard: str
    samples: int
    errors: int
    bytes: int
    sha256: str
    plan: str
    classes: dict[str, int] = field(default_factory=dict)
    """Samples a label, labels as text because JSON has no other keys."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Errors a reason."""
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def is_reconstructed(self) -> bool:
        """Whether a token table was its input."""
        return RECONSTRUCTION in self.settings

    def to_json(self) -> str:
        """The file's content."""
        return _json_text({**asdict(self), "inputs": self.samples + self.errors})

    @classmethod
    def from_json(cls, text: str) -> "Sidecar":
        """Read the file's content; ValueError where it is none or its counts disagree."""
        try:
            values = json.loads(text)
            inputs = values.pop("inputs")
            sidecar = cls(**values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a sidecar of a shard: {error}; delete it and rerun the sharding") from error
        if inputs != sidecar.samples + sidecar.errors:
            raise ValueError(f"{inputs} inputs are not {sidecar.samples} samples + {sidecar.errors} errors")
        return sidecar


def check_key(key: str) -> str:
    """The key itself, if every reader of tars takes it: ASCII letters, digits, '-', '_', not first '_', at most 90."""
    if not _KEY.fullmatch(key):
        raise ValueError(
            f"key {key!r} must be 1 to {MAX_KEY_LENGTH} ASCII letters, digits, '-' or '_', not beginning with '_': "
            "readers of tars split names at the first dot and drop those beginning with '_'"
        )
    return key


def safe_key(text: str) -> str:
    """A text as a key: itself where it is one, else its safe letters and a hash of the whole."""
    if _KEY.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    kept = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[: MAX_KEY_LENGTH - 13]
    return f"{kept}-{digest}" if kept else digest


def check_split(name: str) -> str:
    """The split's name itself, if it can name folders and shards."""
    if not _SPLIT.fullmatch(name):
        raise ValueError(f"split {name!r} must be ASCII letters, digits, '-' or '_', such as train")
    return name


def shard_name(split: str, index: int) -> str:
    """Name of a shard without suffix, such as train-000000."""
    return f"{split}-{index:06d}"


def shard_number(split: str, name: str) -> int | None:
    """The index in a shard's name; None where the name is no shard of this split."""
    match = re.fullmatch(rf"{re.escape(split)}-(\d{{6,}})", name)
    return int(match[1]) if match else None


def find_split(url: str) -> str:
    """The folder of a split: the given one, or the only split directly below it; ValueError where that holds several.

    Where there is none the given folder is returned: whoever reads it says what it lacks.
    """
    folders = find_splits(url)
    if len(folders) > 1:
        names = ", ".join(folder.rsplit("/", 1)[-1] for folder in folders)
        raise ValueError(f"{url} holds the splits {names}; give one of them, such as {folders[0]}")
    return folders[0] if folders else absolute(url)


def find_splits(url: str) -> list[str]:
    """The given folder where it is a split, else the splits directly below it, sorted by name; none where none is."""
    file_system, path = fsspec.url_to_fs(absolute(url))
    path = path.rstrip("/")
    if _is_split(file_system, path):
        return [absolute(url)]
    try:
        file_system.invalidate_cache(path)
        rows = file_system.ls(path, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    folders = sorted(row["name"].rstrip("/") for row in rows if row["type"] == "directory")
    splits = (folder for folder in folders if folder != path and _is_split(file_system, folder))
    return [absolute(join(url, folder.rsplit("/", 1)[-1])) for folder in splits]


def _is_split(file_system: Any, path: str) -> bool:
    return any(file_system.exists(f"{path}/{name}") for name in (INDEX_FILE, PLAN_FILE, CLASSES_FILE))


def load_index(url: str) -> SplitIndex:
    """The index of a split, from its folder, the root above or its index.json; the shards' URLs are absolute.

    ValueError where there is none, or where the root holds several splits.
    """
    path = absolute(url) if url.endswith(".json") else join(find_split(url), INDEX_FILE)
    data = read_bytes(path)
    if data is None:
        raise ValueError(
            f"{path} does not exist; give the folder of a finished split, or finish it: rerun `python -m "
            "pipelines.images` as before, or `python -m pipelines.verify URL --repair`"
        )
    folder = path.rsplit("/", 1)[0]
    try:
        values = json.loads(data)
        rows = values["shardlist"]
        shards = tuple(
            ShardInfo(join(folder, row["url"]), row["nsamples"], row["filesize"], row["sha256"], row.get("nerrors", 0))
            for row in rows
        )
        return SplitIndex(values["name"], shards)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no index of shards ({error!r}); write it anew with `python -m pipelines.verify URL --repair`"
        ) from error


def index_files(name: str, shards: Sequence[ShardInfo]) -> dict[str, bytes]:
    """The content of index.json, index.parquet and sizes.json, by file name."""
    rows = [
        {
            "url": f"{shard.name}.tar",
            "nsamples": shard.samples,
            "filesize": shard.bytes,
            "sha256": shard.sha256,
            "nerrors": shard.errors,
        }
        for shard in shards
    ]
    index = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "name": name, "shardlist": rows}
    return {
        SIZES_FILE: _json_text({f"{shard.name}.tar": shard.samples for shard in shards}).encode(),
        INDEX_PARQUET: parquet_bytes(pa.Table.from_pylist(rows, schema=_INDEX_SCHEMA)),
        INDEX_FILE: _json_text(index).encode(),
    }


def save_index(folder: str, name: str, shards: Sequence[ShardInfo]) -> None:
    """Write index.json and its two forms for other readers into a split's folder, index.json last."""
    for file_name, content in index_files(name, shards).items():
        publish(join(folder, file_name), content)


def save_classes(folder: str, classes: Iterable[ClassName]) -> None:
    """Write classes.parquet into a split's folder."""
    publish(
        join(folder, CLASSES_FILE),
        parquet_bytes(pa.Table.from_pylist([asdict(row) for row in classes], schema=_CLASSES_SCHEMA)),
    )


def load_classes(url: str) -> tuple[ClassName, ...]:
    """The classes of a split, from its folder, the root above or its classes.parquet, by label; ValueError for none."""
    path = absolute(url) if url.endswith(".parquet") else join(find_split(url), CLASSES_FILE)
    data = read_bytes(path)
    if data is None:
        raise ValueError(f"{path} does not exist; give the folder of a finished split")
    table = read_parquet(data)
    if set(table.column_names) != set(_CLASSES_SCHEMA.names):
        raise ValueError(
            f"{path} has the columns {', '.join(table.column_names)}, not those of classes: label, wnid, name"
        )
    return tuple(sorted((ClassName(**row) for row in table.to_pylist()), key=lambda row: row.label))


def load_class_names(url: str) -> dict[int, str]:
    """Name of each label of a split, as `load_classes` finds them."""
    return {row.label: row.name for row in load_classes(url)}


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as the content of one zstd Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def read_parquet(data: bytes) -> pa.Table:
    """The table of one small Parquet file.

    Without Arrow's threads: one that starts just as the process ends aborts it (2 of 42 verifications, on busy cores).
    """
    with pq.ParquetFile(io.BytesIO(data)) as file:
        return file.read(use_threads=False)


def _json_text(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
