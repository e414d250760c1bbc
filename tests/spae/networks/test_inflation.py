"""What an inflated network owes the image network it comes from."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spae.config import DiscriminatorConfig
from spae.model import SPAE
from spae.networks.discriminator import Discriminator
from spae.networks.inflation import inflate_weights
from tests import tiny_spae

FRAMES = 8
VIDEO = dataclasses.replace(
    tiny_spae.CONFIG, input_size=(FRAMES, 16, 16), grids=((1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 4, 4))
)


@pytest.fixture
def image():
    """An image model whose norms are not those of its first step."""
    model = tiny_spae.model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def still(pictures, frames=FRAMES):
    return pictures.unsqueeze(2).repeat(1, 1, frames, 1, 1)


class ReplicateFrames(nn.Module):
    """A convolution whose first and last frame are padded with copies of themselves."""

    def __init__(self, convolution):
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias

    def forward(self, x):
        before = self.weight.shape[2] // 2
        x = F.pad(x, (0, 0, 0, 0, before, before), mode="replicate")
        return F.conv3d(x, self.weight, self.bias, padding=(0, before, before))


def replicating(module):
    """The network with every convolution over frames made so."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv3d):
            setattr(module, name, ReplicateFrames(child))
        else:
            replicating(child)
    return module


def test_with_central_kernels_a_still_clip_has_the_pictures_latents_at_every_frame(image):
    pictures = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        latents = image.inflate(VIDEO).latents(still(pictures))
        expected = still(image.latents(pictures), VIDEO.latent_grid[0])
    torch.testing.assert_close(latents, expected, atol=1e-4, rtol=1e-4)


def test_with_central_kernels_repeated_latents_become_the_picture_at_every_frame(image):
    latents = torch.randn(3, 12, 4, 4)
    with torch.no_grad():
        clip = image.inflate(VIDEO).reconstruct(still(latents, VIDEO.latent_grid[0]))
        expected = still(image.reconstruct(latents))
    torch.testing.assert_close(clip, expected, atol=1e-4, rtol=1e-4)


def test_a_still_clip_has_the_pictures_words(image):
    """Those of the layers that one frame of the latent holds: there both pyramids take the same positions."""
    pictures = torch.rand(3, 3, 16, 16)
    words, of_clip = image.encode(pictures), image.inflate(VIDEO).encode(still(pictures))
    for layer in range(3):
        assert torch.equal(of_clip.layers[layer][:, 0], words.layers[layer])


def test_an_averaged_kernel_gives_frames_inside_the_pictures_value_and_two_thirds_at_the_borders():
    """Exact for a convolution without bias: one of its three frames is zeros at the first and last."""
    flat, deep = nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.Conv3d(2, 3, 3, padding=1, bias=False)
    deep.load_state_dict(inflate_weights(flat.state_dict(), deep.state_dict(), "averaged"))
    pictures = torch.randn(2, 2, 5, 5)
    with torch.no_grad():
        frames, expected = deep(still(pictures, 4)), flat(pictures)
    shares = torch.tensor([2 / 3, 1, 1, 2 / 3]).view(1, 1, 4, 1, 1)
    torch.testing.assert_close(frames, still(expected, 4) * shares)


def test_averaged_kernels_are_exact_where_frames_are_padded_with_copies_of_the_border(image):
    pictures, latents = torch.rand(3, 3, 16, 16), torch.randn(3, 12, 4, 4)
    model = image.inflate(VIDEO, "averaged")
    model.encoder, model.decoder = replicating(model.encoder), replicating(model.decoder)
    with torch.no_grad():
        torch.testing.assert_close(
            model.latents(still(pictures)), still(image.latents(pictures), 2), atol=1e-4, rtol=1e-4
        )
        torch.testing.assert_close(
            model.reconstruct(still(latents, 2)), still(image.reconstruct(latents)), atol=1e-4, rtol=1e-4
        )


def test_with_zeros_as_padding_averaged_kernels_are_not_exact_at_any_frame(image):
    """The group norms, whose statistics run over all frames, spread the darker borders to the frames between them."""
    pictures = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        frames = image.inflate(VIDEO, "averaged").encoder(still(pictures))
        expected = image.encoder(pictures)
    assert all(not torch.allclose(frames[:, :, frame], expected, atol=1e-2) for frame in range(frames.shape[2]))


@pytest.mark.parametrize("frames", [8, 6])
def test_the_discriminator_judges_a_still_clip_like_its_picture(frames):
    config = DiscriminatorConfig(base_channels=4, channel_multipliers=(2, 4))
    flat, deep = Discriminator(config, (16, 16)), Discriminator(config, (frames, 16, 16))
    deep.load_inflated(flat.state_dict(), "central")
    pictures = torch.rand(3, 3, 16, 16)
    torch.testing.assert_close(deep(still(pictures, frames)), flat(pictures), atol=1e-4, rtol=1e-4)


def test_what_cannot_be_inflated_is_named(image):
    with pytest.raises(ValueError, match=r"inputs \(8, 32, 32\) cannot begin from one of \(16, 16\)"):
        image.inflate(dataclasses.replace(VIDEO, input_size=(8, 32, 32), grids=((1, 1, 1), (2, 8, 8))))
    network = dataclasses.replace(VIDEO.network, base_channels=16)
    with pytest.raises(ValueError, match=r"\(8, 3, 3, 3\) in the image model and \(16, 3, 3, 3, 3\)"):
        image.inflate(dataclasses.replace(VIDEO, network=network))
    with pytest.raises(ValueError, match="only one of image and video model has"):
        image.inflate(dataclasses.replace(VIDEO, network=dataclasses.replace(VIDEO.network, middle_blocks=2)))
    with pytest.raises(ValueError, match="inflate an image model"):
        SPAE(VIDEO, tiny_spae.vocabulary()).inflate(VIDEO)
