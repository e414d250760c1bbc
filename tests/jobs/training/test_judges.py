import dataclasses

import pytest
import torch
from torchvision.models import resnet50

from jobs.training.judges import JudgeSource, load_judges
from spae.clip import load_clip, prompt_features, semantics_record
from spae.clip.pools import similarity
from tests import tiny_models, tiny_spae

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return tiny_models.causal_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def vocabulary(clip):
    """A small one that this CLIP judged."""
    guide, made = load_clip(clip), tiny_spae.vocabulary(words=5)
    features = prompt_features(guide.model, guide.tokenizer, made.word_list, ["a {}"])
    record = dataclasses.replace(made.record, semantics=semantics_record(guide, "one", ["a {}"]))
    return dataclasses.replace(made, semantics=features, record=record)


def test_the_stand_in_is_clips_own_opinion_of_the_words_and_passes_gradients(clip, vocabulary):
    judges = load_judges(JudgeSource(clip, None, "clip"), vocabulary, True, CPU)
    pixels = torch.rand(3, 3, 32, 32).requires_grad_()
    logits = judges.perceptual(pixels)
    guidance = judges.guidance
    torch.testing.assert_close(
        similarity(guidance.image_features(pixels), guidance.semantics), similarity(logits / logits.std(), torch.eye(5))
    )
    logits.square().sum().backward()
    assert float(pixels.grad.abs().sum()) > 0


def test_only_what_is_named_is_loaded(clip, vocabulary, tmp_path, caplog):
    assert load_judges(JudgeSource(None, None, None), vocabulary, False, CPU).perceptual is None
    unguided = load_judges(JudgeSource(clip, None, "clip"), vocabulary, False, CPU)
    assert unguided.guidance is None
    assert unguided.perceptual is not None
    caplog.set_level("INFO", "jobs")
    torch.save(resnet50(num_classes=10).state_dict(), tmp_path / "weights.pth")
    judges = load_judges(JudgeSource(None, None, str(tmp_path / "weights.pth")), vocabulary, False, CPU)
    assert f"(sha256 {judges.perceptual.sha256})" in caplog.text


def test_a_real_classifier_of_imagenet_can_be_the_perceptual_network(vocabulary):
    judges = load_judges(JudgeSource(None, None, "efficientnet-lite0"), vocabulary, False, CPU)
    small = load_judges(JudgeSource(None, None, "efficientnet-lite0@96"), vocabulary, False, CPU)
    pixels = torch.rand(1, 3, 32, 32).requires_grad_()
    assert not torch.allclose(small.perceptual(pixels), judges.perceptual(pixels))
    with pytest.raises(ValueError, match="at least 32 pixels a side"):
        load_judges(JudgeSource(None, None, "efficientnet-lite0@big"), vocabulary, False, CPU)
    logits = judges.perceptual(pixels)
    assert logits.shape == (1, 1000)
    logits.square().sum().backward()
    assert float(pixels.grad.abs().sum()) > 0


def test_another_clip_than_the_vocabularys_is_refused(vocabulary, tmp_path):
    other = tiny_models.causal_clip(tmp_path, seed=1)
    with pytest.raises(ValueError, match="weights_sha256"):
        load_judges(JudgeSource(other, None, None), vocabulary, True, CPU)
