"""What a token table says of itself: from which shard, by which model and under which conditions its words came."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spae.config import Grid

SCHEMA_VERSION = 1
DEPTH_COLUMN = "depth"
SHARED_KEYS = (
    *("schema_version", "model_fingerprint", "words_fingerprint", "grids", "layers", "columns", "text_layers"),
    *("error_db", "views", "view_seed", "clips", "frame_stride"),
)
"""What all tables of a folder have in common."""
MORE_LAYERS = "; write tables with more layers by `python -m jobs.tokenize_shards` (--layers)"

_PREFIX = "spae."
_ADDED = ("layers", "columns", "text_layers")  # which tables of earlier versions lack
_IF_ANY = {
    "agreement": None,
    "error_db": None,
    "views": 1,
    "view_seed": 0,
    "clips": None,
    "frame_stride": 1,
    "removed": 0,
    "removed_sha256": "",
}
"""What footers leave out, and what that means."""


@dataclass(frozen=True, kw_only=True)
class TokenTableFooter:
    """The spae.* keys of a token table's footer."""

    schema_version: int = SCHEMA_VERSION
    model_fingerprint: str
    words_fingerprint: str
    grids: tuple[Grid, ...]
    """Of all layers of the model."""
    layers: int
    """So many of the first layers are stored; all in tables that are older than this key."""
    columns: tuple[str, ...] = ()
    """Optional columns behind the layers."""
    text_layers: int = 0
    """First layers whose words the column `text` holds; 0 where there is none."""
    source_shard: str
    """Name of the tar without folder and suffix."""
    source_sha256: str
    samples: int
    """Samples of the tar: rows of the table + errors."""
    errors: int
    device: str
    dtype: str
    batch: int
    """Pictures of every pass of the model, the last one filled up."""
    code_version: str
    agreement: float | None = None
    """Share of the words that are float32's, measured on the first shard; None where `dtype` is float32."""
    error_db: float | None = None
    """PSNR in dB that the layers of each picture, `depth` of them, reach; None where all layers are stored."""
    views: int = 1
    """Rows of each picture; several have the columns `view` and `crop`."""
    view_seed: int = 0
    """Of the crops."""
    clips: int | None = None
    """Rows of each video: clips, or frames where the model takes pictures; None where there is one row a sample."""
    frame_stride: int = 1
    """How many frames further in the video each next frame of a clip lies."""
    removed: int = 0
    """Samples whose rows were removed since (`python -m jobs.remove_samples`)."""
    removed_sha256: str = ""
    """Sum of the sha256 of their keys, modulo 2^256."""

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return (self.samples - self.errors - self.removed) * self.views * (self.clips or 1)

    @property
    def is_of_videos(self) -> bool:
        """Whether its rows are clips or frames of videos."""
        return self.clips is not None or len(self.grids[0]) == 3

    def stored_grids(self, url: str, layers: int | None = None) -> tuple[Grid, ...]:
        """Grids of the first layers, or of all that are stored; ValueError, naming the table, where fewer are."""
        if layers is not None and layers > self.layers:
            raise ValueError(f"{url} stores {self.layers} layers of {len(self.grids)}, not {layers}{MORE_LAYERS}")
        return self.grids[: self.layers if layers is None else layers]

    @property
    def shared(self) -> dict[str, Any]:
        """What all tables of a folder have in common."""
        return {key: getattr(self, key) for key in SHARED_KEYS}

    @property
    def identity_columns(self) -> tuple[str, ...]:
        """Columns whose values together no two rows share."""
        return ("key", "clip") if self.views == 1 else ("key", "clip", "view")

    def columns_to_read(self, layers: int, columns: Sequence[str] = ()) -> list[str]:
        """The columns of keys, labels and the first layers, how many of these a row uses, and some optional ones."""
        depth = [name for name in self.columns if name == DEPTH_COLUMN]
        return ["key", "label", *(f"layer_{number}" for number in range(1, layers + 1)), *depth, *columns]

    def to_metadata(self) -> dict[str, str]:
        """Keys and values as they stand in the footer."""
        values = dataclasses.asdict(self)
        return {
            f"{_PREFIX}{name}": value if isinstance(value, str) else json.dumps(value)
            for name, value in values.items()
            if name not in _IF_ANY or value != _IF_ANY[name]
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes]) -> "TokenTableFooter":
        """Undo `to_metadata`; ValueError where a key is missing or makes no sense."""
        values: dict[str, Any] = {}
        for item in dataclasses.fields(cls):
            key = f"{_PREFIX}{item.name}"
            text = metadata.get(key.encode())
            if text is None and item.name in (*_ADDED, *_IF_ANY):
                continue
            if text is None:
                raise ValueError(f"the footer has no {key}")
            values[item.name] = text.decode() if item.type is str else json.loads(text)
        grids = tuple(tuple(grid) for grid in values.pop("grids"))
        columns, layers = tuple(values.pop("columns", ())), values.pop("layers", len(grids))
        if layers not in range(1, len(grids) + 1):
            raise ValueError(f"the footer says {layers} layers of {len(grids)}")
        return cls(**values, grids=grids, layers=layers, columns=columns)
