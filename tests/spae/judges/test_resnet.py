import pickle

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torchvision.models import resnet50

from spae.judges.resnet import load_perceptual


@pytest.fixture(scope="module")
def weights():
    """A ResNet-50 of ten classes with random weights."""
    torch.manual_seed(0)
    return resnet50(num_classes=10).state_dict()


@pytest.fixture(scope="module")
def network(weights, tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(weights, file)
    return load_perceptual(str(file))


def test_logits_are_torchvisions_of_prepared_pictures(network, weights):
    plain = resnet50(num_classes=10)
    plain.load_state_dict(weights)
    pixels = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    resized = F.interpolate(pixels, (224, 224), mode="bilinear", antialias=True)
    torch.testing.assert_close(network(pixels), plain.eval()((resized - mean) / std))


def test_it_is_frozen_and_passes_gradients(network):
    network.train()
    assert not network.classifier.bn1.training
    assert not any(one.requires_grad for one in network.parameters())
    pixels = torch.rand(1, 3, 32, 32).requires_grad_()
    network(pixels).square().sum().backward()
    assert float(pixels.grad.abs().sum()) > 0


def test_the_checksum_tells_weights_apart_and_not_their_files(network, weights, tmp_path):
    safetensors.torch.save_file(weights, tmp_path / "same.safetensors")
    assert load_perceptual(str(tmp_path / "same.safetensors")).sha256 == network.sha256
    other = {**weights, "fc.bias": weights["fc.bias"] + 1}
    safetensors.torch.save_file(other, tmp_path / "other.safetensors")
    assert load_perceptual(str(tmp_path / "other.safetensors")).sha256 != network.sha256


def test_what_is_no_weights_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="neither a file nor one of"):
        load_perceptual("IMAGENET9K")
    (tmp_path / "garbage.pth").write_bytes(b"garbage")
    (tmp_path / "garbage.safetensors").write_bytes(b"garbage")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(print))
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    for name in ("garbage.pth", "garbage.safetensors", "evil.pth"):
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            load_perceptual(str(tmp_path / name))
    with pytest.raises(ValueError, match="not the weights of torchvision's resnet50"):
        load_perceptual(str(tmp_path / "other.pth"))
