import io
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from spae.judges.weights import fit_weights, read_weights, weights_sha256


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Linear(3, 2), nn.BatchNorm1d(2)
        self.scales: list[float] = [1.0, 2.0]

    def forward(self, x):
        return self.norm(self.layer(x)) * self.scales[1]


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Inner(), nn.Conv2d(2, 2, 1)

    def forward(self, x):
        return self.first(x)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Outer()


def test_the_tensors_of_a_torchscript_archive_are_read_without_its_program(network, tmp_path, monkeypatch):
    torch.jit.script(network).save(tmp_path / "scripted.pt")

    def refused(*arguments, **options):
        raise AssertionError("torch.jit.load runs what the archive says")

    monkeypatch.setattr(torch.jit, "load", refused)
    found = read_weights(str(tmp_path / "scripted.pt")).tensors
    expected = network.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_an_archive_that_names_a_function_is_refused(network, tmp_path):
    torch.jit.script(network).save(tmp_path / "scripted.pt")
    target = io.BytesIO()
    with zipfile.ZipFile(tmp_path / "scripted.pt") as source, zipfile.ZipFile(target, "w") as changed:
        for name in source.namelist():
            evil = name.endswith("/data.pkl")
            changed.writestr(name, pickle.dumps(print, 2) if evil else source.read(name))
    (tmp_path / "evil.pt").write_bytes(target.getvalue())
    with pytest.raises(ValueError, match="print is no tensor"):
        read_weights(str(tmp_path / "evil.pt"))


def test_one_checksum_is_of_the_file_and_others_are_refused(network, tmp_path):
    save_file(network.state_dict(), tmp_path / "a.safetensors")
    read = read_weights(str(tmp_path / "a.safetensors"))
    assert read_weights(f"file://{tmp_path}/a.safetensors", read.sha256[:8]).sha256 == read.sha256
    with pytest.raises(ValueError, match="00000000 is wanted"):
        read_weights(str(tmp_path / "a.safetensors"), "00000000")


def test_weights_fit_by_name_in_any_order_and_else_layer_by_layer(network):
    other = Outer()
    fit_weights(other, dict(reversed(network.state_dict().items())), "it")
    assert weights_sha256(other) == weights_sha256(network)
    renamed = {f"a.{name.replace('first', 'erst')}": tensor for name, tensor in network.state_dict().items()}
    fit_weights(other := Outer(), renamed, "it")
    assert weights_sha256(other) == weights_sha256(network)


def test_weights_of_other_layers_are_named(network):
    with pytest.raises(ValueError, match=r"not the weights of it: they have nothing \{\} where it has second\."):
        fit_weights(Outer(), {n: t for n, t in network.state_dict().items() if "second" not in n}, "it")
    with pytest.raises(ValueError, match=r"\(9, 2\)"):
        fit_weights(Outer(), {**network.state_dict(), "first.layer.weight": torch.zeros(9, 2)}, "it")
