import dataclasses

import pytest
import torch

from spae.clip import image_features, load_clip, prompt_features, semantics_record
from spae.data.records import load_index
from spae.evaluation.baselines import TrainingSplit
from spae.evaluation.judging import Examiner
from spae.evaluation.pictures import EncodedBatch, encoded_batches, first_words
from spae.evaluation.pixels import psnr
from spae.evaluation.reconstruction import SplitMetrics, SplitOptions, WordSimilarity, words_of_classes
from spae.judges.tiny import FIGURES, TinyJudge
from spae.model import unit_pixels
from tests import tiny_spae
from tests.tiny_models import causal_clip
from tests.tiny_shards import CLASSES, samples, write_split


@pytest.fixture(scope="module")
def model():
    return tiny_spae.model()


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    broken = samples(7, seed=1)
    broken[3] = (broken[3][0], b"x", 0)
    return load_index(write_split(tmp_path_factory.mktemp("split"), [samples(10), broken])).shards


@pytest.fixture(scope="module")
def batches(model, shards):
    return list(encoded_batches(model, shards, 4))


def _metrics(model, batches, **options):
    metrics = SplitMetrics(model, SplitOptions(**{"class_words": {}, **options}))
    for batch in batches:
        metrics.update(batch)
    return metrics


def test_pixels_and_usage_are_those_of_the_whole_split(model, batches):
    score = _metrics(model, batches).compute()
    originals = unit_pixels(torch.cat([batch.pixels for batch in batches])).double()
    assert (score.samples, score.errors, len(originals)) == (16, 1, 16)
    for layers in range(1, 5):
        rebuilt = torch.cat([model.decode(batch.pyramid, layers) for batch in batches]).double()
        assert score.pixels[layers].psnr == pytest.approx(psnr(float((rebuilt - originals).square().mean())))
    for layer, usage in enumerate(score.usage):
        words = torch.cat([batch.pyramid.layers[layer].flatten() for batch in batches])
        assert usage.words == len(words.unique())
    assert (score.first_word, score.baselines, score.clip) == (None, None, None)


def test_only_the_layers_asked_for_are_decoded(model, batches):
    assert list(_metrics(model, batches, layers=(1, 3)).compute().pixels) == [1, 3]


def test_parts_merge_to_the_whole(model, batches):
    whole = _metrics(model, batches, class_words={3: 0})
    parts, other = (_metrics(model, part, class_words={3: 0}) for part in (batches[:2], batches[2:]))
    parts.merge(other)
    merged, expected = parts.compute(), whole.compute()
    assert merged.usage == expected.usage
    assert (merged.first_word, merged.errors, merged.samples) == (expected.first_word, 1, 16)
    assert merged.pixels[4].psnr == pytest.approx(expected.pixels[4].psnr)
    assert merged.swapped.pictures == expected.swapped.pictures


def test_exchanged_words_cost_what_the_other_pictures_differ(model):
    """A decoder whose pictures are the originals: exchanging the words of two gives their distance."""
    pixels = torch.stack([torch.zeros(3, 16, 16), torch.full((3, 16, 16), 255)]).to(torch.uint8)
    pyramid = model.encode(pixels)
    batch = EncodedBatch(("a", "b"), pixels, (0, 1), pyramid, 0)
    metrics = SplitMetrics(model, SplitOptions(class_words={}))
    metrics.update(batch)
    rebuilt = model.decode(pyramid).double()
    expected = (rebuilt.flip(0) - unit_pixels(pixels)).square().mean()
    assert metrics.compute().swapped.psnr == pytest.approx(psnr(float(expected)))


def test_a_lone_picture_has_nobody_to_exchange_with(model, batches):
    lone = EncodedBatch(batches[0].keys[:1], batches[0].pixels[:1], batches[0].labels[:1], batches[0].pyramid[:1], 0)
    assert _metrics(model, [lone]).compute().swapped is None


def test_judges_and_codecs_are_asked_and_parts_merge_to_the_whole(model, batches):
    examiners = {"tiny": Examiner(TinyJudge(), (16, 16), 4)}
    options = {
        "examiners": examiners,
        "codecs": ("bicubic",),
        "layers": (1, 4),
        "splits": 2,
        "rival": model,
        "batch": 4,
    }
    whole = _metrics(model, batches, **options)
    parts, other = (_metrics(model, part, **options) for part in (batches[:3], batches[3:]))
    parts.merge(other)
    stored = SplitMetrics(model, SplitOptions(class_words={}, **options))
    stored.restore(parts.state())
    scores = [dataclasses.asdict(one.compute()) for one in (whole, parts, stored)]
    assert scores[1] == scores[2]
    for layers in (1, 4):
        judged, merged = (score["rebuilt"][layers]["judged"]["tiny"] for score in scores[:2])
        assert list(judged) == list(FIGURES.values())
        assert merged == pytest.approx(judged, rel=1e-9)
    assert scores[0]["codecs"]["bicubic"][4]["bits"] == 24 * 3 * 3, "3 x 3 pixels have at most 37 values"
    rival = scores[0]["codecs"]["model"][4]
    assert rival["judged"]["tiny"] == pytest.approx(scores[0]["rebuilt"][4]["judged"]["tiny"])


def test_known_statistics_of_the_originals_are_taken(model, batches):
    examiners = {"tiny": Examiner(TinyJudge(), (16, 16), 4)}
    own = _metrics(model, batches, examiners=examiners)
    known = _metrics(model, batches, examiners=examiners, count_originals=False)
    assert not any(name.startswith("originals") for name in known.state())
    assert known.compute(own.originals).rebuilt == own.compute().rebuilt


def test_first_words_are_scored_by_the_names_of_the_classes(model, batches):
    names = dict(enumerate(CLASSES))
    class_words = words_of_classes(model.vocabulary, names)
    assert class_words == {3: 0, 5: 1}, "mountain is no word of this vocabulary"
    score = _metrics(model, batches, class_words=class_words).compute().first_word
    words = torch.cat([first_words(batch.pyramid) for batch in batches]).tolist()
    labels = [label for batch in batches for label in batch.labels]
    assert score.correct == sum(class_words.get(word) == label for word, label in zip(words, labels, strict=True))
    assert score.samples == 16


def test_class_names_match_in_any_case_and_twins_go_to_the_lowest_label(model):
    assert words_of_classes(model.vocabulary, {4: "Word7", 2: "WORD7", 9: "word8"}) == {7: 2, 8: 9}


def test_baselines_learn_from_train_and_score_another_split(model, batches, tmp_path):
    train = load_index(write_split(tmp_path, [samples(12, seed=5)], "train")).shards
    learner, part, rest = TrainingSplit(), TrainingSplit(), TrainingSplit()
    trained = list(encoded_batches(model, train, 4))
    for number, batch in enumerate(trained):
        learner.update(batch)
        (part if number == 0 else rest).update(batch)
    part.merge(rest)
    score = _metrics(model, batches, baselines=learner.compute()).compute().baselines
    assert score == _metrics(model, batches, baselines=part.compute()).compute().baselines
    known = torch.cat([batch.pixels for batch in trained]).double() / 255
    asked = torch.cat([batch.pixels for batch in batches]).double() / 255
    errors = (asked[:, None] - known[None]).square().mean((2, 3, 4))
    assert score.pictures == 12
    assert score.nearest_psnr == pytest.approx(psnr(float(errors.min(1).values.mean())))
    assert score.mean_psnr == pytest.approx(psnr(float((asked - known.mean(0)).square().mean())))
    assert score.learnt_map.samples == 16


def test_an_empty_training_split_is_an_error():
    with pytest.raises(ValueError, match="no picture"):
        TrainingSplit().compute()


def test_clip_judges_the_words_it_is_given(model, batches, tmp_path):
    guide = load_clip(causal_clip(tmp_path))
    semantics = prompt_features(guide.model, guide.tokenizer, model.vocabulary.word_list, ["a {}."])
    assert semantics_record(guide, "one", ["a {}."]).templates == ("a {}.",)
    score = (
        _metrics(model, batches, similarity=WordSimilarity(guide, semantics), class_words={3: 0, 5: 1}).compute().clip
    )
    pixels = unit_pixels(torch.cat([batch.pixels for batch in batches]))
    cosines = (image_features(guide, pixels) @ semantics.T).double()
    for layer in range(model.depth):
        ids = torch.cat([batch.pyramid.layers[layer].flatten(1) for batch in batches])
        assert score.layers[layer] == pytest.approx(float(cosines.gather(1, ids).mean()), abs=1e-6)
    assert score.zero_shot.samples == 16


def test_scores_are_plain_values(model, batches):
    values = dataclasses.asdict(_metrics(model, batches).compute())
    assert values["rebuilt"][1]["pixels"]["pictures"] == 16


def test_what_is_held_does_not_grow_with_the_split(model, batches):
    examiners = {"tiny": Examiner(TinyJudge(), (16, 16), 4)}
    few, many = (
        _metrics(model, part, examiners=examiners, codecs=("bicubic",)).state() for part in (batches[:1], batches * 3)
    )
    assert {name: tensor.shape for name, tensor in few.items()} == {name: one.shape for name, one in many.items()}
    assert many["rebuilt.4.pixels.pictures"] > few["rebuilt.4.pixels.pictures"]
