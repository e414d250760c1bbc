import pytest
import torch

from jobs.training.validation import load_validation, validation_psnr
from spae.model import unit_pixels
from tests import tiny_spae
from tests.tiny_shards import samples, write_split


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


def test_a_picture_that_cannot_be_decoded_is_named_and_left_out(tmp_path, caplog):
    split = samples(4)
    split[1] = (split[1][0], b"broken", 1)
    url = write_split(tmp_path / "val", [split])
    assert load_validation(url, (16, 16)).shape == (3, 3, 16, 16)
    assert f"validation leaves out sample {split[1][0]}, which cannot be decoded (no image" in caplog.text
    assert load_validation(url, (16, 16), most=2).shape == (1, 3, 16, 16)


def test_a_damaged_shard_or_no_picture_at_all_is_one_clear_error(tmp_path):
    url = write_split(tmp_path / "val", [samples(4)])
    tar = tmp_path / "val/test-000000.tar"
    tar.write_bytes(tar.read_bytes()[:700])
    with pytest.raises(ValueError, match=r"test-000000\.tar is damaged: .*pipelines\.verify"):
        load_validation(url, (16, 16))
    url = write_split(tmp_path / "none", [[("a", b"broken", 1)]])
    with pytest.raises(ValueError, match="holds no picture to validate on"):
        load_validation(url, (16, 16))
