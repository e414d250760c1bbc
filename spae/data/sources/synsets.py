"""WordNet ids, their names, and the ground truth of ILSVRC2012's validation images, from the files people have."""

import functools
import importlib.util
import io
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spae.data.publishing import join, list_files, read_bytes

WNID = re.compile(r"n[0-9]{8}")
ANNOTATION_FILES = (
    "meta.mat",
    "ILSVRC2012_validation_ground_truth.txt",
    "LOC_synset_mapping.txt",
    "LOC_val_solution.csv",
    "imagenet_2012_validation_synset_labels.txt",
    "map_clsloc.txt",
    "synset_words.txt",
    "synsets.txt",
    "words.txt",
)
"""What is looked for in an annotations folder and in its folder data, as the development kit has it."""

_NUMBERED = re.compile(r"(n[0-9]{8})\s+([0-9]+)\s+(\S+)")  # map_clsloc.txt: n02119789 1 kit_fox
_NAMED = re.compile(r"(n[0-9]{8})\s+(.+)")  # words.txt, LOC_synset_mapping.txt: n01440764 tench, Tinca tinca
_SOLUTION = re.compile(r"\w+_([0-9]{8}),(n[0-9]{8})\b.*")  # LOC_val_solution.csv
_IMAGE = re.compile(r".*_([0-9]{8})")
_HEADER = "ImageId,PredictionString"


@dataclass(frozen=True)
class Annotations:
    """What the annotation files say."""

    names: dict[str, str] = field(default_factory=dict)
    """First name of each synset, by wnid."""
    ids: dict[int, str] = field(default_factory=dict)
    """wnid of each ILSVRC2012 id, 1 to 1000."""
    truths: dict[int, int | str] = field(default_factory=dict)
    """ILSVRC2012 id or wnid of each validation image, by its number from 1."""

    def truth(self, stem: str) -> str | None:
        """wnid of a validation image by its file name without suffix; None without ground truth, '' for unknown ids."""
        match = _IMAGE.fullmatch(stem)
        value = self.truths.get(int(match[1])) if match else None
        return self.ids.get(value, "") if isinstance(value, int) else value


def load_annotations(url: str) -> Annotations:
    """Read one annotation file, or all known ones of a folder; ValueError where there are none or they do not fit."""
    found = Annotations()
    if url:
        contents = dict(_contents(url))
        if not contents:
            raise ValueError(f"--annotations {url} is none of, nor a folder that holds, {', '.join(ANNOTATION_FILES)}")
        for path, data in contents.items():
            _add_meta(found, path, data) if path.endswith(".mat") else _add_lines(found, path, data)
        if not found.ids and any(isinstance(value, int) for value in found.truths.values()):
            raise ValueError(f"--annotations {url} numbers the classes and does not name them; add meta.mat beside it")
    return found


@functools.lru_cache(maxsize=1)
def shipped_names() -> dict[str, str]:
    """First name of the synsets of ImageNet-1k and -21k by wnid, as the timm package lists them; empty without it.

    open_clip brings timm along. Its table is read as a file: an import of the package would load torch.
    """
    package = importlib.util.find_spec("timm")
    for folder in (package and package.submodule_search_locations) or ():
        path = Path(folder, "data", "_info", "imagenet_synset_to_lemma.txt")
        if path.is_file():
            found = Annotations()
            _add_lines(found, str(path), path.read_bytes())
            return found.names
    return {}


def _contents(url: str) -> Iterator[tuple[str, bytes]]:
    if (data := read_bytes(url)) is not None:
        yield url, data
        return
    for folder in (url, join(url, "data")):
        for name in list_files(folder):
            path = join(folder, name)
            if name in ANNOTATION_FILES and (data := read_bytes(path)) is not None:
                yield path, data


def _add_lines(found: Annotations, path: str, data: bytes) -> None:
    stripped = (line.strip() for line in data.decode("utf-8-sig", "replace").splitlines())
    lines = [line for line in stripped if line and line != _HEADER]
    if len(set(lines)) == len(lines) and all(map(WNID.fullmatch, lines)):  # classes; truths repeat them
        for wnid in lines:
            found.names.setdefault(wnid, shipped_names().get(wnid, wnid))
        return
    for number, line in enumerate(lines, 1):
        if match := _NUMBERED.fullmatch(line):
            found.ids[int(match[2])] = match[1]
            found.names.setdefault(match[1], match[3].replace("_", " "))
        elif match := _NAMED.fullmatch(line):
            found.names[match[1]] = match[2].split(",")[0].strip()
        elif match := _SOLUTION.fullmatch(line):
            found.truths[int(match[1])] = match[2]
        elif WNID.fullmatch(line):
            found.truths[number] = line
        elif re.fullmatch(r"[0-9]{1,6}", line):
            found.truths[number] = int(line)
        else:
            raise ValueError(f"line {number} of {path}, {line[:80]!r}, is none of an annotation file of ImageNet")


def _add_meta(found: Annotations, path: str, data: bytes) -> None:
    """The classes of the development kit's meta.mat; synsets with children are none of the 1000."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ImportError(f"{posixpath.basename(path)} needs scipy; install the extra `spae[imagenet]`") from error
    try:
        rows: Any = loadmat(io.BytesIO(data), squeeze_me=True)["synsets"]
        for row in rows:
            if int(row["num_children"]) == 0:
                wnid = str(row["WNID"])
                found.ids[int(row["ILSVRC2012_ID"])] = wnid
                found.names[wnid] = str(row["words"]).split(",")[0].strip()
    except Exception as error:  # scipy raises many types on other files
        raise ValueError(f"{path} is not the meta.mat of ILSVRC2012's development kit: {error!r}") from error
