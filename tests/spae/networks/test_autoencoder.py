import pytest
import torch

from spae.config import NetworkConfig, SPAEConfig
from spae.networks.autoencoder import Decoder, Encoder
from spae.networks.layers import ResidualBlock, convolution, recompute_activations
from spae.presets import PRESETS

SMALL = NetworkConfig(base_channels=8, channel_multipliers=(1, 2), residual_blocks=1, middle_blocks=1)
IMAGE = SPAEConfig(input_size=(8, 8), grids=((1, 1), (4, 4)), embedding_width=6, network=SMALL)
CLIP = SPAEConfig(input_size=(4, 8, 8), grids=((1, 1, 1), (2, 4, 4)), embedding_width=6, network=SMALL)


def parameters(config):
    with torch.device("meta"):
        halves = Encoder(config), Decoder(config)
    return sum(parameter.numel() for half in halves for parameter in half.parameters())


@pytest.mark.parametrize(
    ("width", "millions"), [(256, 52.84), (512, 54.15), (1024, 56.78), (1536, 59.40), (2048, 62.02)]
)
def test_the_papers_image_model_has_its_parameters(width, millions):
    assert parameters(SPAEConfig(embedding_width=width)) / 1e6 == pytest.approx(millions, abs=0.005)


def test_the_papers_video_model_has_its_parameters():
    """175.9 million at width 1,536 (facts 2.2)."""
    assert parameters(PRESETS["video-128"].model) / 1e6 == pytest.approx(175.90, abs=0.005)


@pytest.mark.parametrize("config", [IMAGE, CLIP], ids=["image", "clip"])
def test_shapes_and_gradients(config):
    pixels = torch.randn(2, 3, *config.input_size)
    encoder, decoder = Encoder(config), Decoder(config)
    z = encoder(pixels)
    assert z.shape == (2, 6, *config.latent_grid)
    rebuilt = decoder(z)
    assert rebuilt.shape == pixels.shape
    rebuilt.square().mean().backward()
    assert all(p.grad is not None for half in (encoder, decoder) for p in half.parameters())


@pytest.mark.parametrize("config", [IMAGE, CLIP], ids=["image", "clip"])
def test_recomputed_activations_give_the_same_gradients_and_hold_less(config):
    torch.manual_seed(0)
    network, pixels = torch.nn.Sequential(Encoder(config), Decoder(config)), torch.randn(2, 3, *config.input_size)
    found, held = [], []

    def note(tensor):
        held.append(tensor.numel())
        return tensor

    for block in (module for module in network.modules() if isinstance(module, ResidualBlock)):
        block.register_forward_pre_hook(lambda module, inputs: (note(inputs[0]),))  # what a block keeps that recomputes
    for recomputes in (False, True):
        recompute_activations(network, recomputes)
        network.zero_grad()
        held.clear()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = network(pixels).square().mean()
        count = sum(held)
        loss.backward()
        found.append((count, loss.detach(), [p.grad.clone() for p in network.parameters()]))
    (plain, loss, gradients), (fewer, again, others) = found
    assert fewer < 0.7 * plain
    assert torch.equal(loss, again)
    assert all(torch.equal(one, other) for one, other in zip(gradients, others, strict=True))


def test_gradients_of_two_frames_are_sound_in_bfloat16():
    """oneDNN's are not, where a kernel has more frames than the clip: they hold what lay in memory before."""
    layer, pixels = convolution(3, (48, 48)), torch.randn(4, 48, 2, 8, 8)
    layer(pixels).square().mean().backward()
    expected = layer.weight.grad.clone()
    for _ in range(8):
        layer.zero_grad()
        waste = [torch.full((4_000_000,), 1e30) for _ in range(3)]
        del waste
        with torch.autocast("cpu", torch.bfloat16):
            out = layer(pixels)
        out.float().square().mean().backward()
        torch.testing.assert_close(layer.weight.grad, expected, atol=1e-3, rtol=0.1)


def test_grids_that_do_not_end_at_the_latent_are_refused():
    with pytest.raises(ValueError, match=r"last grid \(2, 2\) must be the latent grid \(4, 4\)"):
        SPAEConfig(input_size=(8, 8), grids=((1, 1), (2, 2)), network=SMALL)
    with pytest.raises(ValueError, match=r"divisible by \(2, 2\), as \(8, 8\) is"):
        SPAEConfig(input_size=(9, 8), grids=((1, 1),), network=SMALL)
    with pytest.raises(ValueError, match=r"divisible by \(4, 8, 8\), as \(12, 128, 128\) is"):
        SPAEConfig(input_size=(15, 128, 128), grids=((1, 1, 1),))
