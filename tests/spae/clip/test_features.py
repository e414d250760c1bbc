import hashlib

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES
from PIL import Image

from spae.clip import (
    image_features,
    imagenet_templates,
    prompt_features,
)

TEMPLATES = ("a {}.", "a photo of the {}, a dog", "{}")


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
    monkeypatch.setattr("spae.clip.features._PROMPTS_AT_ONCE", 7)
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


def test_features_of_a_clip_are_the_mean_over_its_frames(guide, monkeypatch):
    clips = torch.rand(3, 3, 5, 32, 32)
    frames = torch.stack([image_features(guide, clips[:, :, frame]) for frame in range(5)])
    torch.testing.assert_close(image_features(guide, clips), frames.mean(0), atol=1e-5, rtol=0)
    monkeypatch.setattr("spae.clip.features._FRAMES_AT_ONCE", 4)
    torch.testing.assert_close(image_features(guide, clips), frames.mean(0), atol=1e-5, rtol=0)
