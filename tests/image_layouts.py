"""ImageNet's layouts, and tars and tables as others write them, made of real digits and photographs."""

import io
import tarfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from spae.data.sources.digits import DigitsSource
from tests.photographs import crops

SYNSETS = {
    "n01440764": "tench, Tinca tinca",
    "n01443537": "goldfish, Carassius auratus",
    "n02119789": "kit fox, Vulpes macrotis",
    "n03995372": "power drill",
}
"""wnid -> synonyms, as the development kit has them."""
IDS = {"n02119789": 1, "n01440764": 449, "n01443537": 450, "n03995372": 677}
"""ILSVRC2012 ids: in another order than the wnids."""
Pictures = dict[str, bytes]


@lru_cache
def jpegs(count: int) -> tuple[bytes, ...]:
    """Different pictures as JPEG: crops of photographs and digits in turn."""
    source = DigitsSource("val", 0)
    digits = [Image.open(io.BytesIO(source.read(entry, 1 << 20))) for entry in list(source.entries())[:count]]
    photographs = [Image.fromarray(crop.permute(1, 2, 0).numpy()) for crop in crops(64, 8)]
    chosen = [photographs[i // 2 % len(photographs)] if i % 2 else digits[i] for i in range(count)]
    return tuple(_jpeg(picture, quality=60 + i % 37) for i, picture in enumerate(chosen))


def train_pictures(each: int = 3) -> Pictures:
    """n01440764/n01440764_10026.JPEG and so on."""
    names = [f"{wnid}/{wnid}_{10026 + 5 * i}.JPEG" for wnid in SYNSETS for i in range(each)]
    return dict(zip(names, jpegs(len(names)), strict=True))


def val_pictures() -> tuple[Pictures, list[str]]:
    """ILSVRC2012_val_00000001.JPEG and so on, and the wnid of each."""
    wnids = [list(SYNSETS)[i * 7 % 4] for i in range(8)]
    return {f"ILSVRC2012_val_{i:08d}.JPEG": data for i, data in enumerate(jpegs(8), 1)}, wnids


def tar_bytes(members: Iterable[tuple[str, bytes]], **options) -> bytes:
    """A tar as tarfile writes it."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", **options) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def img2dataset(count: int) -> Iterator[tuple[str, bytes]]:
    """Members as img2dataset writes them, one picture in another format."""
    webp = io.BytesIO()
    Image.open(io.BytesIO(jpegs(1)[0])).save(webp, format="WEBP", lossless=True)
    for number, data in enumerate([*jpegs(count - 1), webp.getvalue()]):
        yield f"{number:09d}.{'jpg' if number < count - 1 else 'webp'}", data
        yield f"{number:09d}.txt", f"picture {number}".encode()
        yield f"{number:09d}.json", b'{"status": "success"}'


def add_links(path: Path) -> None:
    """Append what is no regular file: a folder, links of both kinds, a device."""
    with tarfile.open(path, "a") as tar:
        for name, kind in (
            ("d", tarfile.DIRTYPE),
            ("s", tarfile.SYMTYPE),
            ("h", tarfile.LNKTYPE),
            ("c", tarfile.CHRTYPE),
        ):
            info = tarfile.TarInfo(f"{name}.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)


def synset_tars(pictures: Pictures) -> dict[str, bytes]:
    """n01440764.tar and so on, holding their images flat."""
    wnids = sorted({name.split("/")[0] for name in pictures})
    groups = {wnid: [(n.split("/")[1], data) for n, data in pictures.items() if n.startswith(wnid)] for wnid in wnids}
    return {f"{wnid}.tar": tar_bytes(group) for wnid, group in groups.items()}


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    """Files below a folder, by their path there."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def development_kit(folder: Path, wnids: list[str]) -> Path:
    """ILSVRC2012_devkit_t12: meta.mat with the classes and a synset above them, and the ground truth."""
    fields = (
        "ILSVRC2012_ID",
        "WNID",
        "words",
        "gloss",
        "num_children",
        "children",
        "wordnet_height",
        "num_train_images",
    )
    rows = [(IDS[wnid], wnid, words, "a thing", 0, np.zeros(0), 0, 1300) for wnid, words in SYNSETS.items()]
    rows.append((1001, "n00001740", "entity", "that which is", 2, np.array([1, 449]), 19, 0))
    synsets = np.array(rows, dtype=[(name, object) for name in fields]).reshape(-1, 1)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    savemat(folder / "data" / "meta.mat", {"synsets": synsets})
    truths = "".join(f"{IDS[wnid]}\n" for wnid in wnids)
    (folder / "data" / "ILSVRC2012_validation_ground_truth.txt").write_text(truths)
    return folder


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    sink = io.BytesIO()
    picture.convert("RGB").save(sink, format="JPEG", quality=quality)
    return sink.getvalue()
