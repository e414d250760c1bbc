"""Files inside of the tars of a folder, as sources that look for files by their names take them."""

import re
import tempfile
from collections.abc import Iterator, Sequence

from spae.data.media import MediaError
from spae.data.sources.containers import BrokenContainers, Containers
from spae.data.sources.files import Place
from spae.data.sources.tars import TarMember, TarRange, map_in_order, open_tar
from spae.data.sources.unpacked import TAR_SUFFIXES, read_packed, room

_MEMBER = re.compile(rf"(.*?(?:{'|'.join(map(re.escape, TAR_SUFFIXES))}))#(\d+)#.*", re.DOTALL)


def archived_files(url: str, tars: Sequence[str], broken: BrokenContainers) -> Iterator[tuple[str, str, int]]:
    """Name, path and size of the sound members of tars below a folder; a path is `{tar}#{place in it}#{member}`.

    Compressed tars are unpacked once a process to its temporary folder. ValueError where all of them have no room
    there, and for tars that cannot be read whole unless `broken` is skip.
    """
    containers, unpacked = Containers(broken), 0
    for name, members, damage, size in map_in_order(_listed, [TarRange(Place(url, name), name) for name in tars]):
        unpacked += size
        if unpacked > room():
            raise ValueError(
                f"the compressed tars of {url} hold over {room() / 1e9:.1f} GB, more than a process can keep in "
                f"{tempfile.gettempdir()}; make plain tars of them (gunzip): these are read as they are"
            )
        containers.note(name, damage)
        yield from ((member.name, f"{name}#{member.offset}#{member.name}", member.size) for member in members)
    containers.close()


def read_archived(url: str, path: str, size: int, limit: int) -> bytes:
    """The bytes of a member by its path, cut after `limit`; MediaError where they are lost."""
    match = _MEMBER.fullmatch(path)
    if match is None:
        raise MediaError("cannot be read", "no member of a tar")
    return read_packed(Place(url, match[1]), int(match[2]), size, limit)


def is_archived(path: str) -> bool:
    """Whether a path is one of a tar's members."""
    return _MEMBER.fullmatch(path) is not None


def _listed(tar: TarRange) -> tuple[str, list[TarMember], str, int]:
    with open_tar(tar, unpack=True) as reader:
        members = [member for member in reader if member.name and not member.problem]
    return tar.name, members, reader.damage, reader.unpacked
