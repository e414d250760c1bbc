import os

import pytest
import torch
import torch.multiprocessing

from spae.config import NetworkConfig, SPAEConfig
from spae.networks.autoencoder import Decoder, Encoder, LatentNormalisation
from tests.clusters import free_port

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


def test_grids_that_do_not_end_at_the_latent_are_refused():
    with pytest.raises(ValueError, match=r"last grid \(2, 2\) must be the latent grid \(4, 4\)"):
        SPAEConfig(input_size=(8, 8), grids=((1, 1), (2, 2)), network=SMALL)
    with pytest.raises(ValueError, match="divisible by"):
        SPAEConfig(input_size=(9, 8), grids=((1, 1),), network=SMALL)


@pytest.mark.parametrize("statistics", ["position", "channel"])
def test_normalisation_gives_the_tables_mean_and_spread(statistics):
    table = torch.randn(200, 6) * 3 + 1
    norm = LatentNormalisation(statistics, table, (4, 4)).train()
    z = norm(torch.randn(64, 6, 4, 4) * torch.rand(6, 1, 1) * 9 - 4)
    axes = (0,) if statistics == "position" else (0, 2, 3)
    spread = (table - table.mean(0)).square().sum(1).mean().div(6).sqrt()
    mean = z.mean(axes)
    torch.testing.assert_close(
        mean, table.mean(0).reshape(6, *[1] * (mean.ndim - 1)).expand_as(mean), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(z.var(axes, correction=0).sqrt(), spread.expand_as(mean), atol=1e-3, rtol=1e-3)


def test_in_evaluation_a_latent_does_not_depend_on_the_batch():
    norm = LatentNormalisation("position", torch.randn(50, 6), (4, 4))
    raw = torch.randn(16, 6, 4, 4)
    norm.train()(raw)
    norm.eval()
    assert torch.equal(norm(raw)[3:4], norm(raw[3:4]))
    remembered = norm.mean.clone()
    norm(raw + 5)
    assert torch.equal(norm.mean, remembered)


def test_none_passes_the_latents_through():
    raw = torch.randn(2, 6, 4, 4)
    assert torch.equal(LatentNormalisation("none", torch.randn(50, 6), (4, 4)).train()(raw), raw)


def _normalise_on_rank(rank, port, raw, table, queue):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    norm = LatentNormalisation("position", table, (2, 2)).train()
    mine = raw[rank * 3 : rank * 3 + 3].clone().requires_grad_()
    norm(mine).pow(3).sum().backward()
    queue.put((rank, mine.grad.numpy(), norm.mean.numpy()))
    torch.distributed.destroy_process_group()


def test_two_ranks_use_the_statistics_and_gradients_of_the_whole_batch():
    generator = torch.Generator().manual_seed(0)
    raw, table = torch.randn(6, 3, 2, 2, generator=generator), torch.randn(9, 3, generator=generator)
    context = torch.multiprocessing.get_context("spawn")
    queue, port = context.SimpleQueue(), free_port()
    workers = [context.Process(target=_normalise_on_rank, args=(r, port, raw, table, queue)) for r in (0, 1)]
    for worker in workers:
        worker.start()
    found = {rank: rest for rank, *rest in (queue.get() for _ in workers)}
    for worker in workers:
        worker.join()
    norm, whole = LatentNormalisation("position", table, (2, 2)).train(), raw.clone().requires_grad_()
    norm(whole).pow(3).sum().backward()
    gradient = torch.cat([torch.from_numpy(found[rank][0]) for rank in (0, 1)])
    torch.testing.assert_close(gradient, whole.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.from_numpy(found[1][1]), norm.mean, rtol=1e-5, atol=1e-6)
