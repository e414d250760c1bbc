"""Tars in WebDataset form that others wrote, img2dataset among them, as a source."""

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from spae.data.records import ClassName
from spae.data.sources.base import Entry
from spae.data.sources.files import NOT_TEXT, Place, is_text, path_key, read_part, readable
from spae.data.sources.labels import MAX_TEXT_BYTES, Labels, named_classes
from spae.data.sources.patterns import matching_files
from spae.data.sources.tars import TarMember, TarRange, map_in_order, open_tar

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm")
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""Compressed ones are listed to be named as problems."""
_NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")  # as webdataset parts names: key, suffix from the first dot on


@dataclass(frozen=True)
class WebDatasetSource:
    """Samples of tars: a folder, one tar, or a pattern with `*` or braces such as 'shards/{000..099}.tar'.

    Members that follow each other under one key, the name up to the first dot of its last part, are one sample: its
    image, its label (`cls`) and its caption (`txt`). Where the first tar with samples has no label, the source has
    none. `annotations` names the classes; without, all tars are listed once more to find the labels.
    """

    url: str
    annotations: str = ""

    def classes(self) -> tuple[ClassName, ...]:
        """The given classes, or those that occur; none without labels."""
        return self._labels.classes

    def entries(self) -> Iterator[Entry]:
        """Every sample, and every member that belongs to none."""
        for samples in self._samples():
            for sample in samples:
                yield sample.entry(self._labels)

    def read(self, entry: Entry, limit: int) -> bytes:
        """The image's bytes, cut after `limit`."""
        tar = entry.path[: entry.path.index(".tar#") + len(".tar")]
        return read_part(Place(self._root, tar), entry.offset or 0, entry.size, limit)

    @cached_property
    def _labels(self) -> Labels:
        if self.annotations:
            return Labels.given(named_classes(self.annotations))
        if not any(sample.label for sample in next((found for found in self._samples() if found), [])):
            return Labels.occurring(())
        return Labels.occurring(sample.label for found in self._samples() for sample in found if sample.label)

    @cached_property
    def _root(self) -> str:
        return matching_files(self.url, *TAR_SUFFIXES)[0]

    def _samples(self) -> Iterator[list["_Sample"]]:
        """The samples of each tar."""
        root, names = matching_files(self.url, *TAR_SUFFIXES)
        return map_in_order(_samples_of, [TarRange(Place(root, name), name) for name in names])


@dataclass
class _Sample:
    """The members of one key."""

    tar: str
    key: str
    images: list[TarMember] = field(default_factory=list)
    suffixes: set[str] = field(default_factory=set)
    label: str = ""
    text: str = ""
    problem: str = ""

    def add(self, suffix: str, member: TarMember) -> None:
        """Take a member in; label and caption are read by the caller."""
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
        return Entry(path_key(self.key), path, label, size, problem or label_problem, offset, self.text)


def _samples_of(tar: TarRange) -> list[_Sample]:
    """The samples of a tar in their order; a key that comes again after others is a problem."""
    if not is_text(tar.name):
        name = readable(tar.name)
        return [_Sample(name, posixpath.splitext(name)[0], problem=NOT_TEXT)]
    found: list[_Sample] = []
    seen: set[str] = set()
    with open_tar(tar) as reader:
        for member in reader:
            match = _NAME.fullmatch(member.name)
            if not match:
                problem = member.problem or "a name without suffix"
                found.append(_Sample(tar.name, member.name or posixpath.splitext(tar.name)[0], problem=problem))
                continue
            key, suffix = match[1], match[2].lower()
            if not found or found[-1].key != key:
                found.append(_Sample(tar.name, key, problem="a key that came before" if key in seen else ""))
                seen.add(key)
            sample = found[-1]
            sample.add(suffix, member)
            if suffix in ("cls", "txt") and not member.problem:
                text = reader.read(member, MAX_TEXT_BYTES + 1).decode("utf-8", "replace")
                if member.size > MAX_TEXT_BYTES:
                    sample.problem = sample.problem or f"a text of over {MAX_TEXT_BYTES} bytes"
                elif suffix == "cls":
                    sample.label = text.strip()
                else:
                    sample.text = text.strip()
    return found
