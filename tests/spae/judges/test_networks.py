"""Our judges beside those who made them, on random weights, and the real one on real photographs."""

import lpips
import numpy as np
import pytest
import torch
from PIL import Image
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchmetrics.functional.image.lpips import _LPIPS
from torchvision import models

from spae.judges.base import DISTANCE, FRECHET
from spae.judges.catalogue import CATALOGUE, load_judge
from spae.judges.i3d import I3DNetwork
from spae.judges.inception import inception_network
from spae.judges.tiny import TinyJudge
from tests.photographs import photographs

PALACE, DAISY, MILITARY_UNIFORM = 698, 985, 652


def pixels(count=2, side=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def test_inception_is_torch_fidelitys_from_the_pixels_on(tmp_path):
    torch.manual_seed(0)
    head = torch.nn.Linear(2048, 1008)
    state = {**inception_network().state_dict(), "fc.weight": head.weight, "fc.bias": head.bias}
    torch.save(state, tmp_path / "inception.pth")
    view = load_judge(f"inception-v3={tmp_path / 'inception.pth'}")(pixels())
    theirs = FeatureExtractorInceptionV3("name", ["2048", "logits_unbiased"], str(tmp_path / "inception.pth"))
    for ours, expected in zip((view.features, view.logits), theirs(pixels()), strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "maker"), [("alex", models.alexnet), pytest.param("vgg", models.vgg16, marks=pytest.mark.slow)]
)
def test_lpips_is_that_of_its_package_and_of_torchmetrics(name, maker, tmp_path):
    torch.manual_seed(0)
    state = {f"features.{key}": tensor for key, tensor in maker().features.state_dict().items()}
    torch.save({**state, "classifier.bias": torch.zeros(3)}, tmp_path / "backbone.pth")
    judge = load_judge(f"lpips-{name}={tmp_path / 'backbone.pth'}")
    one, other = pixels(), pixels(seed=1)
    ours = judge.distances(judge(one), judge(other))
    assert ours.shape == (2,)
    for theirs in (lpips.LPIPS(net=name, pnet_rand=True, verbose=False), _LPIPS(net=name, pnet_rand=True)):
        theirs.net.load_state_dict(judge.network.net.state_dict())
        expected = theirs(one / 255, other / 255, normalize=True).flatten()
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)
    assert judge.record.figures[DISTANCE].startswith("LPIPS (")


class _Renamed(torch.nn.Module):
    """I3D's layers under other names."""

    def __init__(self, network):
        super().__init__()
        self.body, self.end = torch.nn.Sequential(*list(network.children())[:-1]), network.logits["conv3d"]

    def forward(self, clips):
        return self.end(self.body(clips).mean((2, 3, 4), keepdim=True))


@pytest.mark.slow
def test_i3d_takes_the_tensors_of_a_torchscript_archive_whatever_its_names(tmp_path):
    torch.manual_seed(0)
    network = I3DNetwork().eval()
    clips = torch.randint(0, 256, (1, 3, 16, 32, 40), dtype=torch.uint8)
    torch.jit.trace(_Renamed(network), torch.rand(1, 3, 9, 224, 224), check_trace=False).save(tmp_path / "i3d.pt")
    judge = load_judge(f"i3d-kinetics-400={tmp_path / 'i3d.pt'}")
    features = judge(clips).features
    frames = torch.nn.functional.interpolate(clips[0].transpose(0, 1).float(), (224, 224), mode="bilinear")
    assert features.shape == (1, 400)
    assert judge.record.figures == {FRECHET: "FVD"}
    # TensorFlow 1 takes other places of the picture than torch does: near, and not the same
    near = judge.network((frames / 127.5 - 1).transpose(0, 1)[None])
    assert 0 < float((features - near).abs().max()) < 0.2 * float(near.std())


def test_efficientnet_knows_real_photographs():
    judge, found = load_judge("efficientnet-lite0"), []
    for photograph in photographs():
        image = Image.fromarray(photograph)
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
        found.append(judge(torch.from_numpy(np.array(square)).permute(2, 0, 1)[None]))
    tops = [view.logits[0].topk(5).indices.tolist() for view in found]
    assert tops[0][0] == PALACE
    assert tops[1][0] == DAISY
    assert MILITARY_UNIFORM in tops[2]
    assert found[0].features.shape == (1, 1280)
    assert [tuple(one.shape[2:]) for one in found[0].maps] == [(112, 112), (56, 56), (28, 28), (14, 14), (7, 7)]


@pytest.mark.parametrize("name", ["efficientnet-lite0", "tiny"])
def test_a_picture_is_at_no_distance_from_itself_and_noise_moves_it_away(name):
    judge = load_judge(name)
    picture = torch.from_numpy(photographs()[1].copy()).permute(2, 0, 1)[None, :, :256, :256].contiguous()
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    view = judge(picture)
    distances = [
        float(judge.distances(view, judge((picture + strength * noise).clamp(0, 255).byte())))
        for strength in (0, 5, 20, 60)
    ]
    assert distances[0] == 0
    assert distances == sorted(distances)
    assert distances[1] > 0


def test_gradients_reach_the_pixels_through_efficientnet():
    judge, values = load_judge("efficientnet-lite0"), torch.rand(1, 3, 32, 32, requires_grad=True)
    logits = judge.logits(values)
    torch.testing.assert_close(logits, judge.network(255 * values).logits)
    logits.square().sum().backward()
    assert float(values.grad.abs().sum()) > 0


def test_every_judge_stays_frozen_and_tells_whence_it_comes():
    judge = TinyJudge()
    judge.train()
    assert not judge.training
    assert not any(one.requires_grad for one in judge.parameters())
    assert judge.record.sha256 == TinyJudge().record.sha256
    assert not judge.record.comparable
    for entry in CATALOGUE.values():
        assert all((entry.licence, entry.source, entry.preprocessing, entry.figures, entry.remedy))
