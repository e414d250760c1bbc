import dataclasses
import hashlib
import json

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES
from PIL import Image
from safetensors.torch import load_file, save_file

from spae.clip.guide import (
    golden_cosine,
    image_features,
    imagenet_templates,
    load_clip,
    prompt_features,
    require_same_clip,
    semantics_record,
)
from tests.tiny_models import CAUSAL_TEXT, VISION, causal_clip, hugging_face_clip, save_bert, save_clip

TEMPLATES = ("a {}.", "a photo of the {}, a dog", "{}")


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    return load_clip(causal_clip(tmp_path_factory.mktemp("causal")))


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return load_clip(hugging_face_clip(folder / "clip", save_bert(folder / "bert")))


@pytest.fixture(params=["causal", "hugging_face"])
def guide(request):
    return request.getfixturevalue(request.param)


def test_the_templates_are_openais_eighty():
    assert tuple(render("{}") for render in OPENAI_IMAGENET_TEMPLATES) == imagenet_templates()
    assert len(imagenet_templates()) == len(set(imagenet_templates())) == 80
    assert (imagenet_templates()[0], imagenet_templates()[-1]) == ("a bad photo of a {}.", "a tattoo of the {}.")
    assert (
        hashlib.sha256("\n".join(imagenet_templates()).encode()).hexdigest()
        == "4f976686fb651bb5803d4689dcd849f75efe0ef19a3c801355bc9a6f03c8a5af"
    )


def test_prompt_features_are_equation_5(guide):
    words = ["cat", "dog", "seven", "the king of a dog"]
    expected = []
    for word in words:
        ids = guide.tokenizer([template.format(word) for template in TEMPLATES])
        with torch.no_grad():
            features = guide.model.encode_text(ids).double()
        expected.append((features / features.norm(dim=1, keepdim=True)).mean(0))
    features = prompt_features(guide.model, guide.tokenizer, words, TEMPLATES)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features.double(), torch.stack(expected), atol=1e-5, rtol=0)
    assert (features.norm(dim=1) < 0.9999).all(), "the mean is not brought back to unit length"


def test_prompt_features_point_where_open_clips_classifier_points(guide):
    words = ["zero", "one", "two"]
    classifier = open_clip.build_zero_shot_classifier(guide.model, guide.tokenizer, words, imagenet_templates())
    features = torch.nn.functional.normalize(prompt_features(guide.model, guide.tokenizer, words), dim=1)
    torch.testing.assert_close(features.T, classifier, atol=1e-5, rtol=0)


def test_prompt_features_do_not_depend_on_batches_or_neighbours(guide):
    words = ["cat", "a very long word of the king", "two"]
    together = prompt_features(guide.model, guide.tokenizer, words, TEMPLATES)
    for batch_size in (1, 2, 7):
        other = prompt_features(guide.model, guide.tokenizer, words, TEMPLATES, batch_size=batch_size)
        torch.testing.assert_close(other, together, atol=1e-6, rtol=0)
    alone = torch.cat([prompt_features(guide.model, guide.tokenizer, [word], TEMPLATES) for word in words])
    torch.testing.assert_close(alone, together, atol=1e-6, rtol=0)


def test_chunks_of_prompts_join_without_a_seam(causal, monkeypatch):
    words = [f"word {number}" for number in range(5)]
    whole = prompt_features(causal.model, causal.tokenizer, words, TEMPLATES)
    monkeypatch.setattr("spae.clip.guide._PROMPTS_AT_ONCE", 7)
    torch.testing.assert_close(
        prompt_features(causal.model, causal.tokenizer, words, TEMPLATES), whole, atol=1e-6, rtol=0
    )


def test_a_prompt_of_exactly_the_context_is_kept_and_a_longer_one_refused(guide):
    context = guide.tokenizer([""]).shape[1]
    fits = " ".join(["dog"] * (context - 2))  # start and end take two
    features = prompt_features(guide.model, guide.tokenizer, [fits], ["{}"])
    assert torch.isfinite(features).all()
    with pytest.raises(ValueError, match=f"'dog cat dog .* has more than {context} tokens"):
        prompt_features(guide.model, guide.tokenizer, ["one", f"dog cat {fits[:-4]}"], ["{}"])


@pytest.mark.parametrize("templates", [(), ("a photo",), ("a {} and a {}",)])
def test_templates_without_one_place_for_the_word_are_refused(causal, templates):
    with pytest.raises(ValueError, match=r"must hold \{\} once"):
        prompt_features(causal.model, causal.tokenizer, ["cat"], templates)


def test_words_with_braces_are_taken_as_they_are(causal):
    features = prompt_features(causal.model, causal.tokenizer, ["{0}", "{}"], TEMPLATES)
    assert not torch.equal(features[0], features[1])


def test_image_features_are_those_of_open_clips_own_preparation(causal):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    prepare = image_transform_v2(PreprocessCfg(**causal.model.visual.preprocess_cfg), is_train=False)
    expected = causal.model.encode_image(prepare(Image.fromarray(pixels))[None], normalize=True)
    ours = image_features(causal, torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)
    assert float((expected * ours).sum()) > 0.9999, "PIL rounds to 8 bits between its two passes"


def test_image_features_have_unit_norm_and_no_gradient(guide):
    pixels = torch.rand(3, 3, 40, 24, requires_grad=True)
    features = image_features(guide, pixels)
    assert features.shape == (3, guide.model.visual.output_dim)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(3))
    assert not features.requires_grad
    assert not any(parameter.requires_grad for parameter in guide.model.parameters())
    assert not guide.model.training


@pytest.mark.parametrize(
    "pixels", [torch.zeros(3, 8, 8), torch.zeros(1, 1, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)]
)
def test_pixels_of_another_form_are_refused(causal, pixels):
    with pytest.raises(ValueError, match=r"must be float \(B, 3, H, W\)"):
        image_features(causal, pixels)


def test_a_record_knows_its_clip_again(causal, hugging_face):
    record = semantics_record(causal, "three", TEMPLATES)
    require_same_clip(causal, record)
    assert record.templates == TEMPLATES
    assert record.golden_cosine == pytest.approx(golden_cosine(causal), abs=1e-6)
    with pytest.raises(ValueError, match="architecture_sha256"):
        require_same_clip(hugging_face, record)
    with pytest.raises(ValueError, match="weights_sha256"):
        require_same_clip(causal, dataclasses.replace(record, weights_sha256="0" * 64))
    with pytest.raises(ValueError, match="fixed picture and sentence"):
        require_same_clip(causal, dataclasses.replace(record, golden_cosine=record.golden_cosine + 0.1))


def test_the_same_weights_have_one_checksum_wherever_they_lie(tmp_path):
    names = [causal_clip(tmp_path / folder) for folder in ("here", "there")]
    first, second = (load_clip(name) for name in names)
    assert first.weights_sha256 == second.weights_sha256
    assert first.architecture_sha256 == second.architecture_sha256
    assert load_clip(causal_clip(tmp_path / "other", seed=1)).weights_sha256 != first.weights_sha256


def test_a_hugging_face_folder_may_be_moved_after_it_was_written(tmp_path):
    bert = save_bert(tmp_path / "bert")
    before = load_clip(hugging_face_clip(tmp_path / "clip", bert))
    for file in bert.iterdir():
        file.unlink()
    (tmp_path / "clip").rename(tmp_path / "moved")
    after = load_clip(f"local-dir:{tmp_path / 'moved'}")
    assert after.weights_sha256 == before.weights_sha256
    assert after.architecture_sha256 == before.architecture_sha256


@pytest.fixture(scope="module")
def small_vit(tmp_path_factory):
    """open_clip's model configurations are a registry: two small ones that differ in their activation alone."""
    folder = tmp_path_factory.mktemp("registry")
    config = json.loads((folder_of(causal_clip(folder / "model")) / "open_clip_config.json").read_text())["model_cfg"]
    for name, quick in (("tiny-vit", False), ("tiny-vit-quickgelu", True)):
        (folder / f"{name}.json").write_text(json.dumps({**config, "quick_gelu": quick}))
        open_clip.add_model_config(folder / f"{name}.json")
    return folder / "model" / "open_clip_model.safetensors"


def folder_of(name):
    from pathlib import Path

    return Path(name.removeprefix("local-dir:"))


def test_a_plain_name_takes_a_weights_file(small_vit):
    guide = load_clip("tiny-vit", str(small_vit))
    assert guide.weights == "open_clip_model.safetensors"
    assert guide.activation == "gelu"
    quick = load_clip("tiny-vit-quickgelu", str(small_vit))
    assert quick.activation == "quick_gelu"
    assert quick.weights_sha256 == guide.weights_sha256
    assert quick.architecture_sha256 != guide.architecture_sha256, "the activation decides what the weights mean"


def test_weights_trained_with_the_other_activation_are_refused(small_vit, tmp_path, monkeypatch):
    for name, tag, twin in (
        ("ViT-L-14", "openai", "ViT-L-14-quickgelu"),
        ("ViT-B-32", "openai", "ViT-B-32-quickgelu"),
    ):
        with pytest.raises(ValueError, match=f"other activation .* use {twin}"):
            load_clip(name, tag)
    checksum = hashlib.sha256(small_vit.read_bytes()).hexdigest()
    tags = {"openai": {"url": f"https://example.org/{checksum}/ViT.pt", "quick_gelu": True}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-vit", tags)
    with pytest.raises(ValueError, match=r"other activation .* use tiny-vit-quickgelu"):
        load_clip("tiny-vit", str(small_vit))
    tags["openai"]["url"] = ""
    assert load_clip("tiny-vit", str(small_vit)).activation == "gelu", "nothing is known of this file"
    (tmp_path / "models--tiny.openai").mkdir()
    renamed = tmp_path / "models--tiny.openai" / "model.safetensors"
    renamed.write_bytes(small_vit.read_bytes())
    with pytest.raises(ValueError, match="other activation"):
        load_clip("tiny-vit", str(renamed))


def test_what_cannot_be_loaded_is_one_clear_error(small_vit, tmp_path):
    tensors = load_file(small_vit)
    save_file(
        {name: tensor for name, tensor in tensors.items() if name != "ln_final.weight"}, tmp_path / "part.safetensors"
    )
    (tmp_path / "cut.safetensors").write_bytes(small_vit.read_bytes()[:1000])
    (tmp_path / "pickle.pt").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    (tmp_path / "empty").mkdir()
    for name, weights, reason in (
        ("tiny-vit", None, "needs weights"),
        (f"local-dir:{tmp_path}", "openai", "give none"),
        ("no-such-model", "openai", "knows no model 'no-such-model'"),
        ("tiny-vit", "no-such-tag", "not a known tag"),
        ("tiny-vit", str(tmp_path / "part.safetensors"), "ln_final.weight"),
        ("tiny-vit", str(tmp_path / "cut.safetensors"), "cannot be loaded"),
        ("tiny-vit", str(tmp_path / "pickle.pt"), "cannot be loaded"),
        (f"local-dir:{tmp_path / 'empty'}", None, "open_clip_config.json"),
        (f"local-dir:{tmp_path / 'absent'}", None, "open_clip_config.json"),
    ):
        with pytest.raises(ValueError, match=f"(?s)CLIP .*{reason}"):
            load_clip(name, weights)


def test_a_clip_of_oblong_pictures_is_refused(tmp_path):
    config = {"embed_dim": 24, "vision_cfg": {**VISION, "image_size": [32, 16]}, "text_cfg": CAUSAL_TEXT}
    with pytest.raises(ValueError, match="only square ones"):
        load_clip(save_clip(tmp_path, config))
