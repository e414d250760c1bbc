"""Pictures of a split by their keys, each read by its range of a tar."""

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import fsspec
import numpy as np
from numpy.typing import NDArray

from spae.data.media import decode_image, fit_image
from spae.data.records import MEDIA_SUFFIXES, load_index
from spae.data.tar import MEND


@dataclass(frozen=True)
class _Range:
    url: str
    start: int
    stop: int


class SplitPictures:
    """The pictures of a split; where each lies is held in memory, the pictures are not.

    Args:
        shards: the split's folder.
        size: (height, width) to which a picture is brought.

    Raises:
        ValueError: there is no split, or a tar is damaged.
    """

    def __init__(self, shards: str, size: tuple[int, int]) -> None:
        self.shards, self.size = shards, size
        self._ranges = {key: place for shard in load_index(shards).shards for key, place in _ranges(shard.url)}

    @property
    def keys(self) -> list[str]:
        """Of all pictures, in the order of the shards."""
        return list(self._ranges)

    def read(self, keys: Sequence[str]) -> NDArray[np.uint8]:
        """Pictures uint8 (n, H, W, 3); MediaError for one that cannot be decoded."""
        places = [self._ranges[key] for key in keys]
        file_system = fsspec.url_to_fs(places[0].url)[0]
        paths = [file_system._strip_protocol(place.url) for place in places]
        found = file_system.cat_ranges(paths, [place.start for place in places], [place.stop for place in places])
        return np.stack([fit_image(decode_image(data), self.size) for data in found])


def _ranges(url: str) -> Iterator[tuple[str, _Range]]:
    try:
        with fsspec.open(url, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                if suffix in MEDIA_SUFFIXES:
                    yield key, _Range(url, member.offset_data, member.offset_data + member.size)
    except tarfile.TarError as error:
        raise ValueError(f"{url} is damaged: {error}; {MEND}") from error
