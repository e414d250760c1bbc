import pytest
import torch

from jobs.training.validation import validation_psnr
from spae.model import unit_pixels
from tests import tiny_spae


@pytest.mark.parametrize("batch", [1, 3, 10, 64])
def test_batches_give_the_psnr_of_one_pass(batch):
    model = tiny_spae.model()
    pixels = torch.randint(0, 256, (10, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = (model.decode(model.encode(pixels)) - unit_pixels(pixels)).double().square().mean()
    assert validation_psnr(model, pixels, batch) == pytest.approx(float(-10 * whole.log10()), abs=1e-4)


def test_no_more_than_a_batch_passes_through_the_model():
    model, seen = tiny_spae.model(), []
    model.encoder.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    validation_psnr(model, torch.zeros(10, 3, 16, 16, dtype=torch.uint8), 4)
    assert seen == [4, 4, 2]
