import json

import pytest

from spae.incontext.tasks import RELEASED_TASKS, ReleasedData
from spae.incontext.tasks.coco_captions import caption_words, corpus_scores
from tests.released_data import save_captions
from tests.spae.incontext.tasks.paths_as_words import PathsAsWords


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("coco")
    save_captions(made)
    return made


def task(folder, **values):
    return RELEASED_TASKS["coco-captions"](ReleasedData(folder=str(folder), words=PathsAsWords(), layers=2, **values))


def test_ten_captioned_pictures_then_one_without(folder):
    one, asked = task(folder), set()
    for number in range(5):
        episode = one.episode("6-layers", number)
        (question,) = episode.questions
        asked.add(question.key)
        lines = question.prompt.text.split("\n")
        assert lines[0] == "Generate a caption sentence based on words describing an image."
        assert lines[1::2] == [f"Q: {name} at 6" for name in (*episode.support_keys, question.key)]
        assert all(line.startswith("A: A p") for line in lines[2:-1:2])
        assert lines[-1] == "A:"
        assert len(set(episode.support_keys)) == 10
        assert all((folder / name).exists() for name in (*episode.support_keys, question.key))
        first, second = question.target.split("\n")
        assert (first.split()[1], second.split()[1]) == ("photograph", "picture")
    assert len(asked) == 5
    assert (one.limits("6-layers").most_tokens, one.limits("6-layers").stop) == (20, ("\n",))


def test_cider_and_bleu_are_highest_for_the_references_and_0_for_nothing():
    right = [("A dog runs on the grass.", "A dog runs on the grass.\nOne dog"), ("Two red cups", "two red cups!")]
    best, worst = corpus_scores(right), corpus_scores([("", target) for _, target in right])
    assert [best["BLEU-1"], best["BLEU-2"]] == pytest.approx([1, 1])
    assert worst == pytest.approx(dict.fromkeys(best, 0.0), abs=1e-6)
    mixed = corpus_scores([right[0], ("Two blue cups", right[1][1])])
    assert all(worst[name] <= mixed[name] <= best[name] for name in best)
    assert mixed["CIDEr"] < best["CIDEr"]
    swapped = corpus_scores([(right[1][0], right[0][1]), (right[0][0], right[1][1])])
    assert swapped["CIDEr"] == pytest.approx(0, abs=1e-6)


def test_a_row_has_the_bleu_1_of_its_caption_alone(folder):
    one = task(folder)
    target = "a dog runs\na hound"
    assert one.score(one.parse("A dog runs.\nQ: more"), target) == pytest.approx(1)
    assert one.score("a dog sits", target) == pytest.approx(2 / 3)
    assert one.score("", target) == pytest.approx(0, abs=1e-6)
    pairs = [("a dog runs", target), ("x", "two cups")]
    assert one.corpus_scores(pairs) == corpus_scores(pairs)


def test_words_are_lower_case_without_punctuation():
    assert caption_words("A man's T-shirt, red -- (and) “blue”.\n") == "a man 's t-shirt red and blue"


def change(folder, split, **values):
    file = folder / "annotations" / f"captions_{split}.json"
    document = json.loads(file.read_text())
    for key, value in values.items():
        document[key] = value(document[key]) if callable(value) else value
    file.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("split", "values", "message"),
    [
        ("train2014", {"images": lambda rows: rows[:9]}, "has 9 pictures with captions to train; 10 are needed"),
        ("val2014", {"images": {}}, "under 'images', is not a list of objects"),
        ("val2014", {"annotations": [{"image_id": [1], "caption": "x"}]}, r"annotation 0, field 'image_id', holds no"),
        (
            "val2014",
            {"annotations": [{"image_id": 1, "caption": ["x"]}]},
            "annotation 0, field 'caption', holds no text",
        ),
        ("val2014", {"annotations": [{"image_id": 1, "caption": "x" * 3000}]}, "3000 letters"),
        ("train2014", {"images": [{"id": 1}]}, "image 0, field 'file_name', holds no text"),
    ],
)
def test_files_of_another_shape_are_named(tmp_path, split, values, message):
    save_captions(tmp_path)
    change(tmp_path, split, **values)
    with pytest.raises(ValueError, match=message):
        task(tmp_path).episode("2-layers", 0)


def test_two_years_or_none_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds 0 files captions_valYEAR\.json"):
        task(tmp_path).episode("2-layers", 0)
    save_captions(tmp_path)
    (tmp_path / "annotations" / "captions_val2017.json").write_text("[]")
    with pytest.raises(ValueError, match=r"holds 2 files captions_valYEAR\.json"):
        task(tmp_path).episode("2-layers", 0)
