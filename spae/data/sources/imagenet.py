"""ImageNet as people have it: ILSVRC2012 in tars or folders, and the 21k synsets in one tar each."""

import logging
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import fsspec

from spae.data.records import ClassName, safe_key
from spae.data.sources.base import Entry
from spae.data.sources.containers import BrokenContainers, Containers
from spae.data.sources.files import NOT_TEXT, FileItem, Place, find_files, is_text, list_folder, read_part, readable
from spae.data.sources.synsets import WNID, Annotations, load_annotations, shipped_names
from spae.data.sources.tars import TRUNCATED, TarRange, TarReader, map_in_order, open_tar

ILSVRC_CLASSES = 1000
_SYNSET_TAR = re.compile(rf"({WNID.pattern})\.(?:tar|tgz|tar\.\w+)")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageNetSource:
    """Images by synset: labels count the sorted WordNet ids from 0, so that the 1000 of ILSVRC2012 get the usual ones.

    `url` is one of: the train tar (a tar of one tar a synset), a folder of such tars, the validation tar or a folder of
    its images (`annotations` then hold the ground truth), a folder of one folder a synset, or that folder as a tar.
    Tars are read by range and must be uncompressed. In all forms an image has the same key and path, so that they give
    the same shards.

    Where `annotations` name the classes, these are all classes, and other synsets are problems; else the classes are
    the synsets found, with the names that timm ships, or else their ids.
    """

    url: str
    annotations: str = ""
    all_named: bool = True
    """Whether `annotations` name all classes there are, 1000; else the synsets found are the classes."""
    broken_containers: BrokenContainers = "fail"

    def classes(self) -> tuple[ClassName, ...]:
        """The synsets, sorted by id."""
        said = self._annotations
        wnids = set(said.ids.values()) or set(said.names) if self.all_named else set()
        wnids = wnids or self._present()
        if not wnids:
            raise ValueError(
                f"{self.url} holds no n01440764.tar, no folder n01440764 and no image with a ground truth; give "
                "--input ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar or the folder they were unpacked to, and for "
                "validation images --annotations, the folder of the unpacked development kit"
            )
        names = shipped_names() | said.names
        return tuple(ClassName(label, names.get(wnid, wnid), wnid) for label, wnid in enumerate(sorted(wnids)))

    def entries(self) -> Iterator[Entry]:
        """Every file, synset by synset."""
        labels = {row.wnid: row.label for row in self.classes()}
        if self.all_named and len(labels) != ILSVRC_CLASSES:
            message = "%s: ILSVRC2012 has %d classes, these are %d; labels count those that are here"
            logger.warning(message, self.url, ILSVRC_CLASSES, len(labels))
        containers = Containers(self.broken_containers)
        for entry in self._files(containers):
            if entry.problem:
                yield entry
                continue
            wnid = self._synset(entry)
            label = labels.get(wnid)
            problem = "no synset" if wnid is None else "unknown synset" if label is None else ""
            yield replace(entry, label=label, problem=problem)
        containers.close()

    def read(self, entry: Entry, limit: int) -> bytes:
        """The image's bytes, cut after `limit`."""
        if entry.offset is None:
            return read_part(Place(self.url, entry.path), 0, entry.size, limit)
        tar = f"{entry.path.split('/')[0]}.tar" if self._is_folder else ""
        return read_part(Place(self.url, tar), entry.offset, entry.size, limit)

    @cached_property
    def _annotations(self) -> Annotations:
        return load_annotations(self.annotations)

    @cached_property
    def _is_folder(self) -> bool:
        file_system, path = fsspec.url_to_fs(self.url)
        if not file_system.exists(path):
            raise ValueError(f"--input {self.url} does not exist")
        return bool(file_system.isdir(path))

    @cached_property
    def _synset_tars(self) -> tuple[tuple[TarRange, ...], tuple[Entry, ...], tuple[tuple[str, str], ...]]:
        """The tars of one synset each, what lies beside them, and the damages of the tar that holds them all.

        No tars where the images are stored otherwise.
        """
        tars, others, damages = list[TarRange](), list[Entry](), list[tuple[str, str]]()
        if self._is_folder:
            for item in list_folder(self.url):
                if item.kind == "file" and (match := _SYNSET_TAR.fullmatch(item.name)):
                    tars.append(TarRange(Place(self.url, item.name), match[1]))
                else:
                    others.append(_file_entry(item, item.name, "beside the tars of the synsets"))
                    if _is_synset_folder(item):
                        damages.append((item.name, "a folder beside the tars of the synsets: nothing of it was read"))
        else:
            with open_tar(TarRange(Place(self.url), "")) as reader:
                for member in reader:
                    match = _SYNSET_TAR.fullmatch(posixpath.basename(member.name))
                    if match and member.problem in ("", TRUNCATED):
                        tars.append(TarRange(Place(self.url), match[1], member.offset, member.size))
                    elif member.problem or tars:
                        path = member.name or posixpath.basename(self.url)
                        problem = member.problem or "beside the tars of the synsets"
                        others.append(Entry(_key(path), path, None, member.size, problem))
                    else:
                        break
                damages.append((posixpath.basename(self.url), reader.damage))
        return tuple(tars), tuple(others), tuple(damages)

    def _present(self) -> set[str]:
        """The synsets that the input holds, empty ones too where they are tars or folders."""
        found = {value for value in self._annotations.truths.values() if isinstance(value, str)}
        if self._synset_tars[0]:
            return found | {tar.name for tar in self._synset_tars[0]}
        if self._is_folder:
            return found | {item.name for item in list_folder(self.url) if _is_synset_folder(item)}
        files = self._files(Containers("skip"))
        return found | {wnid for entry in files if not entry.problem and (wnid := self._synset(entry))}

    def _synset(self, entry: Entry) -> str | None:
        """The synset that the innermost folder names, or else the ground truth."""
        *folders, name = entry.path.split("/")
        wnid = next((folder for folder in reversed(folders) if WNID.fullmatch(folder)), None)
        return wnid or self._annotations.truth(posixpath.splitext(name)[0])

    def _files(self, containers: Containers) -> Iterator[Entry]:
        """Every input, still without label."""
        tars, others, damages = self._synset_tars
        if tars:
            for name, damage in damages:
                containers.note(name, damage)
            yield from others
            for tar, (entries, damage) in zip(tars, map_in_order(_listed_tar, tars), strict=True):
                containers.note(f"{tar.name}.tar", damage)
                yield from entries
        elif self._is_folder:
            for item in list_folder(self.url):
                yield from self._folder_entries(item)
        else:
            tar = TarRange(Place(self.url), "")
            with open_tar(tar) as reader:
                yield from _tar_entries(tar, reader)
                containers.note(posixpath.basename(self.url), reader.damage)

    def _folder_entries(self, item: FileItem) -> Iterator[Entry]:
        if item.kind != "directory":
            yield _file_entry(item, item.name, item.problem)
            return
        for child in find_files(self.url, item.path):
            problem = child.problem if _is_synset_folder(item) else "no synset folder"
            yield _file_entry(child, f"{item.name}/{child.path.removeprefix(item.path + '/')}", problem)


def _is_synset_folder(item: FileItem) -> bool:
    return item.kind == "directory" and WNID.fullmatch(item.name) is not None


def _listed_tar(tar: TarRange) -> tuple[list[Entry], str]:
    """Every member, and what damage the tar has."""
    with open_tar(tar) as reader:
        return list(_tar_entries(tar, reader)), reader.damage


def _tar_entries(tar: TarRange, reader: TarReader) -> Iterator[Entry]:
    for member in reader:
        path = "/".join(name for name in (tar.name, member.name) if name) or posixpath.basename(tar.file.url)
        yield Entry(_key(path), path, None, member.size, member.problem, member.offset)


def _file_entry(item: FileItem, path: str, problem: str) -> Entry:
    return Entry(_key(path), readable(path), None, item.size, problem if is_text(path) else NOT_TEXT)


def _key(path: str) -> str:
    """The file's own name: those of ImageNet carry their synset or their number."""
    return safe_key(posixpath.splitext(posixpath.basename(path))[0])
