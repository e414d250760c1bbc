import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import spae
from spae.config import NetworkConfig, SPAEConfig
from spae.data.media import fit_image
from spae.model import SPAE
from spae.pyramid import TokenPyramid
from tests import tiny_spae


@pytest.fixture(scope="module")
def model():
    return tiny_spae.model()


@pytest.fixture(scope="module")
def pixels():
    return torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(str(tmp_path / "model"))
    return tmp_path / "model"


def test_the_public_face():
    assert {"SPAE", "SPAEConfig", "TokenPyramid", "Vocabulary", "PRESETS"} == set(spae.__all__)
    assert spae.SPAE is SPAE
    assert "digits-32" in spae.PRESETS
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = spae.Nonsense


def test_encode_gives_a_pyramid_of_known_words(model, pixels):
    pyramid = model.encode(pixels)
    assert pyramid.grids == tiny_spae.CONFIG.grids
    words = model.vocabulary.words(pyramid, layers=2)
    assert [len(row) for row in words] == [5] * 5
    assert words[0][0] == f"word{int(pyramid.layers[0][0, 0, 0])}"


def test_the_first_layers_alone_are_those_of_all(model, pixels):
    every = model.encode(pixels)
    for layers in range(1, model.depth + 1):
        assert model.encode(pixels, layers) == every.prefix(layers)
    with pytest.raises(ValueError, match=f"layers={model.depth + 1} is outside"):
        model.encode(pixels, model.depth + 1)


def test_bytes_and_unit_floats_are_the_same_picture(model, pixels):
    as_bytes = (pixels * 255).round().to(torch.uint8)
    assert torch.equal(model.encode(as_bytes).flatten(), model.encode(as_bytes.float() / 255).flatten())


def test_pil_images_are_cropped_and_resized(model):
    array = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    fitted = torch.tensor(fit_image(array, (16, 16))).permute(2, 0, 1)
    ids = model.encode([Image.fromarray(array), Image.fromarray(array[:, ::-1])]).flatten()
    assert torch.equal(ids[:1], model.encode(fitted[None]).flatten())
    assert torch.equal(ids[:1], model.encode(Image.fromarray(array)).flatten())


def test_ids_do_not_depend_on_the_rest_of_the_batch(model, pixels):
    together = model.encode(pixels).flatten()
    alone = torch.cat([model.encode(one[None]).flatten() for one in pixels])
    assert (together == alone).float().mean() > 0.99


@pytest.mark.parametrize("layers", [1, 2, 3, 4, None])
def test_decode_takes_any_number_of_layers(model, pixels, layers):
    pyramid = model.encode(pixels)
    rebuilt = model.decode(pyramid, layers=layers)
    assert rebuilt.shape == pixels.shape
    assert 0 <= float(rebuilt.min()) <= float(rebuilt.max()) <= 1
    if layers:
        assert torch.equal(rebuilt, model.decode(pyramid.prefix(layers)))


def test_decoding_tokens_is_the_forward_pass(model, pixels):
    forward = model(pixels)
    reconstruction, quantized = forward.reconstruction, forward.quantized
    torch.testing.assert_close(
        model.decode(quantized.tokens), reconstruction.clamp(0, 1).detach(), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("wrong", [torch.zeros(1, 3, 8, 16), torch.zeros(3, 16, 16), torch.zeros(1, 3, 16, 16).long()])
def test_unusable_pixels_are_named(model, wrong):
    with pytest.raises(ValueError, match=r"must be \(B, 3, 16, 16\)|use uint8"):
        model.encode(wrong)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_any_width_are_the_same_picture(model, pixels, dtype):
    rounded = pixels.to(dtype)
    assert model.encode(rounded) == model.encode(rounded.float())


@pytest.mark.parametrize(
    "wrong", [lambda pixels: pixels * 255, lambda pixels: pixels - 1, lambda pixels: pixels * torch.nan]
)
def test_floats_outside_the_unit_interval_are_named(model, pixels, wrong):
    with pytest.raises(ValueError, match=r"must be finite and in \[0, 1\]"):
        model.encode(wrong(pixels))


def test_an_empty_batch_is_an_empty_pyramid(model, pixels):
    for nothing in (pixels[:0], (pixels[:0] * 255).to(torch.uint8), []):
        pyramid = model.encode(nothing)
        assert (len(pyramid), pyramid.grids) == (0, tiny_spae.CONFIG.grids)
        assert model.decode(pyramid).shape == (0, 3, 16, 16)


def test_words_are_those_of_the_stored_statistics_in_training_mode_too(model, pixels):
    training = copy.deepcopy(model).train()
    before = {name: tensor.clone() for name, tensor in training.state_dict().items()}
    assert training.encode(pixels) == model.encode(pixels)
    assert torch.equal(training.decode(model.encode(pixels)), model.decode(model.encode(pixels)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in training.state_dict().items())
    assert training.training


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_whose_words_were_rounded_is_refused(model, pixels, dtype):
    rounded = copy.deepcopy(model).to(dtype)
    for use in (lambda: rounded.encode(pixels), lambda: rounded.decode(model.encode(pixels)), lambda: rounded(pixels)):
        with pytest.raises(ValueError, match=r"converted to torch\..*load it again"):
            use()


def test_words_that_nothing_tells_apart_are_refused():
    one = tiny_spae.vocabulary(words=1)
    with pytest.raises(ValueError, match="1 words of one embedding"):
        SPAE(tiny_spae.CONFIG, one)
    two = dataclasses.replace(tiny_spae.vocabulary(words=2), embeddings=one.embeddings.repeat(2, 1))
    with pytest.raises(ValueError, match="2 words of one embedding"):
        SPAE(tiny_spae.CONFIG, two)


def test_an_unknown_quantizer_is_named():
    with pytest.raises(ValueError, match="quantizer='pyramids' must be one of pyramid, residual, vector"):
        SPAE(dataclasses.replace(tiny_spae.CONFIG, quantizer="pyramids"), tiny_spae.vocabulary())


def test_ids_outside_the_vocabulary_are_named(model, pixels):
    layers = model.encode(pixels).layers
    with pytest.raises(ValueError, match=r"layer 4 holds ids 40\.\.40, outside 0 to 39"):
        model.decode(TokenPyramid((*layers[:3], torch.full_like(layers[3], 40))))


def test_a_model_folder_gives_back_the_same_model(model, pixels, folder):
    loaded = SPAE.from_pretrained(str(folder))
    assert not loaded.training
    assert loaded.fingerprint == model.fingerprint
    pyramid = loaded.encode(pixels)
    assert torch.equal(pyramid.flatten(), model.encode(pixels).flatten())
    assert torch.equal(loaded.decode(pyramid), model.decode(pyramid))
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "vocabulary"]


def test_a_model_lives_in_any_file_system(model, pixels):
    model.save_pretrained("memory://models/tiny")
    assert torch.equal(
        SPAE.from_pretrained("memory://models/tiny").encode(pixels).flatten(), model.encode(pixels).flatten()
    )


def test_a_loaded_model_resumes_training_mode_on_request(folder, pixels):
    loaded = SPAE.from_pretrained(str(folder)).train()
    loaded(pixels).reconstruction.mean().backward()
    assert all(p.grad is not None for p in loaded.parameters())


def test_a_missing_folder_is_named():
    with pytest.raises(ValueError, match=r"neither a folder nor a hub id"):
        SPAE.from_pretrained("/nowhere/at/all")


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        SPAE.from_pretrained(str(tmp_path))


def test_weights_that_do_not_fit_are_named(folder):
    weights = load_file(folder / "model.safetensors")
    weights.pop("encoder.head.bias")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"(?s)does not fit.*encoder\.head\.bias"):
        SPAE.from_pretrained(str(folder))


def test_truncated_weights_are_named(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cannot be read"):
        SPAE.from_pretrained(str(folder))


def test_a_foreign_vocabulary_is_refused(folder):
    record = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**record, "words_fingerprint": "0" * 64}))
    with pytest.raises(ValueError, match="not the one that the model was trained with"):
        SPAE.from_pretrained(str(folder))


def test_an_unknown_setting_is_named(folder):
    record = json.loads((folder / "config.json").read_text())
    record["model"]["colour"] = "blue"
    (folder / "config.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"no field.*colour"):
        SPAE.from_pretrained(str(folder))


def test_a_vocabulary_of_another_width_is_named():
    with pytest.raises(ValueError, match="embedding_width=12"):
        SPAE(SPAEConfig(), tiny_spae.vocabulary())


@pytest.mark.parametrize("clip", [False, True])
def test_channels_last_changes_speed_alone(clip, tmp_path):
    network = NetworkConfig(base_channels=16, channel_multipliers=(1, 1, 2), residual_blocks=1, middle_blocks=1)
    grids = ((1, 1, 1), (1, 4, 4)) if clip else ((1, 1), (4, 4))
    config = SPAEConfig(input_size=(4, 16, 16) if clip else (16, 16), grids=grids, embedding_width=12, network=network)
    model = SPAE(config, tiny_spae.vocabulary()).eval()
    plain = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    plain.layout = torch.contiguous_format
    assert not model.encoder.body[1].conv1.weight.is_contiguous()
    pixels = torch.rand(2, 3, *config.input_size)
    torch.testing.assert_close(model.latents(pixels), plain.latents(pixels), rtol=1e-4, atol=1e-5)
    model.save_pretrained(str(tmp_path))
    loaded = SPAE.from_pretrained(str(tmp_path))
    assert loaded.fingerprint == model.fingerprint == plain.fingerprint
    assert torch.equal(loaded.encode(pixels).flatten(), model.encode(pixels).flatten())
    assert dataclasses.asdict(loaded.config) == dataclasses.asdict(config)


@pytest.mark.slow
def test_compiled_networks_compute_the_same(pixels):
    model, compiled = tiny_spae.model(), tiny_spae.model()
    compiled.compile_networks()
    assert list(compiled.state_dict()) == list(model.state_dict())
    for one in (model, compiled):
        one.train()(pixels).reconstruction.square().mean().backward()
    for (name, mine), theirs in zip(model.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-5, msg=name)
