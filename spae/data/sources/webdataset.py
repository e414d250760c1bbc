"""Tars in WebDataset form that others wrote, img2dataset among them, as a source."""

import dataclasses
import logging
import posixpath
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from spae.data.media import MediaError
from spae.data.records import ClassName
from spae.data.sources.base import Entry
from spae.data.sources.containers import BrokenContainers, Containers
from spae.data.sources.files import NOT_TEXT, Place, counted, is_text, path_key, readable
from spae.data.sources.labels import MAX_TEXT_BYTES, Labels, named_classes, parse_label
from spae.data.sources.patterns import matching_files
from spae.data.sources.tars import TarMember, TarRange, map_in_order, open_tar
from spae.data.sources.unpacked import TAR_SUFFIXES, read_packed, room

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "avif", "heic", "gif", "bmp", "tif", "tiff", "ppm")
TEXT_SUFFIXES = ("cls", "txt", "json")
CAME_BEFORE = "a key that came before"
_NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")  # as webdataset parts names: key, suffix from the first dot on
_TAR = re.compile(rf".*?(?:{'|'.join(map(re.escape, TAR_SUFFIXES))})(?=#)", re.DOTALL)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WebDatasetSource:
    """Samples of tars: a folder, one tar, or a pattern with `*` or braces such as 'shards/{000..099}.tar'.

    Members that follow each other under one key, the name up to the first dot of its last part, are one sample: its
    image, its label (`cls`), its caption (`txt`) and what else was known of it (`json`); other members are counted in
    the log. Where the first tar with samples has no label, the source has none, and a label in another is an error.
    `annotations` names the classes; without, all tars are listed once more to find the labels.

    Compressed tars are unpacked by each process to its temporary folder, as far as all of them have room there.
    """

    url: str
    annotations: str = ""
    broken_containers: BrokenContainers = "fail"

    def classes(self) -> tuple[ClassName, ...]:
        """The given classes, or those that occur; none without labels."""
        return self._labels.classes

    def entries(self) -> Iterator[Entry]:
        """Every sample, and every member that belongs to none."""
        containers, dropped = Containers(self.broken_containers), Counter[str]()
        for listed in self._listed():
            containers.note(listed.tar, listed.damage)
            dropped += listed.dropped
            for sample in listed.samples:
                if sample.label and not self._labels.classes:
                    raise ValueError(
                        f"{sample.tar} has labels (cls) and the first tar of {self.url} has none; give --annotations, "
                        "a file of the class names, to use them, or tars that are alike"
                    )
                yield sample.entry(self._labels)
        containers.close()
        if dropped:
            logger.info("%s: members that no sample takes over: %s", self.url, counted(dropped))

    def read(self, entry: Entry, limit: int) -> bytes:
        """The image's bytes, cut after `limit`."""
        tar = _TAR.match(entry.path)
        if tar is None or entry.size is None:
            raise MediaError("cannot be read", "no member of a tar")
        return read_packed(Place(self._root, tar[0]), entry.offset or 0, entry.size, limit)

    @cached_property
    def _labels(self) -> Labels:
        if self.annotations:
            return Labels.given(named_classes(self.annotations))
        if not any(sample.label for sample in next((found.samples for found in self._listed() if found.samples), [])):
            return Labels.occurring(())
        return Labels.occurring(sample.label for found in self._listed() for sample in found.samples if sample.label)

    @cached_property
    def _root(self) -> str:
        return matching_files(self.url, *TAR_SUFFIXES)[0]

    def _listed(self) -> Iterator["_ListedTar"]:
        """Each tar; ValueError where all compressed ones have no room on the disk."""
        root, names = matching_files(self.url, *TAR_SUFFIXES)
        unpacked = 0
        for listed in map_in_order(_listed_tar, [TarRange(Place(root, name), name) for name in names]):
            unpacked += listed.unpacked
            if unpacked > room():
                raise ValueError(
                    f"the compressed tars of {self.url} hold over {room() / 1e9:.1f} GB, more than a process can keep "
                    f"in {tempfile.gettempdir()}; unpack them first (gunzip, zstd -d): plain tars are read as they are"
                )
            yield listed


def tar_entries(place: Place, url: str) -> list[Entry]:
    """The samples of one tar under the keys that it gives them; their labels are the numbers in `cls`, no other texts.

    ValueError where the tar cannot be read whole, which `url` names there.
    """
    listed = _listed_tar(TarRange(place, posixpath.basename(place.locate()[1])))
    if listed.damage:
        raise ValueError(f"{url} cannot be read whole: {listed.damage}")
    unnamed, seen, entries = Labels((), {}), set[str](), list[Entry]()
    for sample in listed.samples:
        entry = sample.entry(unnamed)
        problem = entry.problem or (CAME_BEFORE if sample.key in seen else "")  # in another of the tars of one file
        seen.add(sample.key)
        entries.append(dataclasses.replace(entry, key=sample.key, label=parse_label(sample.label), problem=problem))
    return entries


@dataclass
class _Sample:
    """The members of one key."""

    tar: str
    key: str
    part: int = 0
    images: list[TarMember] = field(default_factory=list)
    suffixes: set[str] = field(default_factory=set)
    label: str = ""
    text: str = ""
    original: str = ""
    problem: str = ""

    def add(self, suffix: str, member: TarMember) -> None:
        """Take a member in; texts are read by the caller."""
        if suffix in self.suffixes:
            self.problem = self.problem or "two members of one suffix"
        self.suffixes.add(suffix)
        self.problem = self.problem or member.problem
        if suffix in IMAGE_SUFFIXES:
            self.images.append(member)

    def entry(self, labels: Labels) -> Entry:
        """The sample as an input."""
        label, label_problem = labels.find(self.label)
        image = self.images[0] if self.images else None
        problem = self.problem or ("" if image else "no image member")
        if not problem and len(self.images) > 1:
            problem = "two images in a sample"
        path = f"{self.tar}#{image.name if image else self.key}"
        size, offset = (image.size, image.offset) if image else (None, None)
        return Entry(path_key(self.key), path, label, size, problem or label_problem, offset, self.text, self.original)

    def read(self, suffix: str, text: str) -> str:
        """Take a text in; why it is left out, where it is."""
        if len(text.encode()) > MAX_TEXT_BYTES:
            if suffix == "json":
                return f"json of over {MAX_TEXT_BYTES} bytes"
            self.problem = self.problem or f"a text of over {MAX_TEXT_BYTES} bytes"
        elif suffix == "cls":
            self.label = text.strip()
        elif suffix == "txt":
            self.text = text.strip()
        else:
            self.original = text
        return ""


@dataclass
class _ListedTar:
    """What one tar holds."""

    tar: str
    samples: list[_Sample] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    """Members that no sample takes over, a suffix."""
    damage: str = ""
    unpacked: int = 0
    """Bytes on disk, of a compressed one."""


def _listed_tar(tar: TarRange) -> _ListedTar:
    """The samples of a tar in their order; a key that comes again after others is a problem."""
    found = _ListedTar(readable(tar.name))
    if not is_text(tar.name):
        found.damage = NOT_TEXT
        found.samples.append(_Sample(found.tar, posixpath.splitext(found.tar)[0], problem=NOT_TEXT))
        return found
    seen: set[tuple[int, str]] = set()
    with open_tar(tar, unpack=True) as reader:
        for member in reader:
            match = _NAME.fullmatch(member.name)
            if not match:
                problem = member.problem or "a name without suffix"
                key = member.name or posixpath.splitext(tar.name)[0]
                found.samples.append(_Sample(tar.name, key, member.part, problem=problem))
                continue
            place, suffix = (member.part, match[1]), match[2].lower()
            if not found.samples or (found.samples[-1].part, found.samples[-1].key) != place:
                problem = CAME_BEFORE if place in seen else ""
                found.samples.append(_Sample(tar.name, match[1], member.part, problem=problem))
                seen.add(place)
            sample = found.samples[-1]
            sample.add(suffix, member)
            if suffix in TEXT_SUFFIXES and not member.problem:
                text = reader.read(member, MAX_TEXT_BYTES + 1).decode("utf-8", "replace")
                found.dropped.update(filter(None, [sample.read(suffix, text)]))
            elif suffix not in IMAGE_SUFFIXES:
                found.dropped[suffix[:40]] += 1
        found.damage, found.unpacked = reader.damage, reader.unpacked
    return found
