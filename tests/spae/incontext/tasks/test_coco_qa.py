import pytest

from spae.incontext.tasks import RELEASED_TASKS, ReleasedData
from tests.released_data import save_coco_qa
from tests.spae.incontext.tasks.paths_as_words import PathsAsWords


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("coco")
    save_coco_qa(made)
    return made


def task(folder, depth=6, **values):
    return RELEASED_TASKS["coco-qa"](ReleasedData(folder=str(folder), words=PathsAsWords(depth), layers=2, **values))


def test_ten_examples_have_ten_answers_one_of_them_the_query_s(folder):
    one, asked = task(folder), set()
    for number in range(12):
        episode = one.episode("4-layers", number)
        (question,) = episode.questions
        asked.add(question.key)
        lines = question.prompt.text.split("\n")
        answers = lines[3:-1:3]
        assert lines[0] == "Answer with a single word."
        assert len(answers) == len(set(answers)) == 10
        assert f"A: {question.target}" in answers
        assert lines[-2:] == ["Q: what is shown in place 0 ?", "A:"]
        assert lines[-3] == f"C: {question.key} at 4"
        for key, line in zip(episode.support_keys, answers, strict=True):
            assert line == f"A: thing{int(key[-16:-4]) % 100}", "an answer belongs to its picture"
            assert key.startswith("train2014/COCO_train2014_")
        assert question.key.startswith("val2014/COCO_val2014_0000000")
        assert (folder / question.key).exists()
        assert one.episode("4-layers", number) == episode
    assert len(asked) == 12
    assert task(folder, seed=1).episode("4-layers", 0) != one.episode("4-layers", 0)


def test_settings_are_layers_and_a_baseline(folder):
    assert task(folder).settings == ("2-layers", "4-layers", "6-layers")
    assert task(folder, depth=3).settings == ("2-layers", "3-layers")
    compared = task(folder, baseline=PathsAsWords(1, "other"))
    assert compared.settings[-1] == "baseline"
    assert compared.provenance == {"baseline_fingerprint": "other"}
    plain, baseline = (compared.episode(setting, 0) for setting in ("2-layers", "baseline"))
    assert plain.support_keys == baseline.support_keys, "settings ask the same"
    assert " at 1\n" in baseline.questions[0].prompt.text
    for setting in ("baseline", "7-layers", "0-layers", "10-shot", "02-layers"):
        with pytest.raises(ValueError, match=f"{setting!r} is none of 1-layers to 6-layers"):
            task(folder).episode(setting, 0)


def test_a_question_whose_answer_no_example_has_is_not_asked(folder, tmp_path):
    save_coco_qa(tmp_path)
    (tmp_path / "test" / "answers.txt").write_text("".join(f"{'two' if n else 'unheard'}\n" for n in range(12)))
    (tmp_path / "train" / "answers.txt").write_text("".join(f"{n % 12}\n" for n in range(36)))
    one = task(tmp_path)
    assert {one.episode("2-layers", n).questions[0].target for n in range(11)} == {"two"}
    with pytest.raises(ValueError, match="has 11 questions"):
        one.episode("2-layers", 11)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train/answers.txt", b"one\n" * 36, "train has 1 different answers; 10 are needed"),
        ("train/answers.txt", b"one\n", r"img_ids.txt 36, train/questions.txt 36, train/answers.txt 1"),
        ("train/img_ids.txt", b"../1\n" * 36, r"train, line 1, has '../1' for a picture's number"),
        ("test/questions.txt", b"\xff\n" * 12, "codec can't decode"),
        ("test/questions.txt", b"\n" * 12, "test, line 1, holds no text"),
    ],
)
def test_files_of_another_shape_are_named(tmp_path, name, content, message):
    save_coco_qa(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        task(tmp_path).episode("2-layers", 0)


def test_a_folder_without_the_files_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"/img_ids.txt: cannot be read.*--data names the folder"):
        task(tmp_path).episode("2-layers", 0)
