"""What is asked of a server that goes wrong, of closed answers, and what is asked again."""

import json
import tracemalloc
from dataclasses import dataclass
from functools import partial

import pytest
from transformers import LlamaConfig

from jobs import incontext
from jobs.episodes.asking import AskingJob, PromptReader, ask_files
from jobs.episodes.files import EpisodeFile, EpisodesRun, stored_footer
from jobs.episodes.task_flags import TaskFlags, make_task
from spae.incontext import NearestContext
from spae.model import SPAE
from tests.completions_server import serving
from tests.jobs.episodes.runs import SETTING, rows, run
from tests.released_data import save_captions, save_inner_shots
from tests.tiny_causal import SIZES, save_causal

TASK = "few-shot-made-up"


@pytest.fixture
def server():
    with serving() as state:
        yield state


def asked(server, *flags):
    return ("--llm", server.url, "--llm-name", "tiny", "--retries", "0", "--concurrency", "1", *flags)


def test_a_server_that_goes_wrong_costs_rows_with_reasons(folder, model, tmp_path, server, caplog):
    server.faults = ["500", "", "not json", "empty", "long", "hang up", "", "late"]
    assert run(folder, model, tmp_path, *asked(server, "--timeout", "0.5", "--episodes", "8", "--queries", "2")) == 1
    found = rows(tmp_path)
    assert len(found) == 16
    reasons = list({row["prompt"]: row["error"] or "" for row in found}.values())  # the same prompt is asked once
    assert [bool(reason) for reason in reasons[:8]] == [True, False, True, True, True, True, False, True]
    assert not any(reasons[8:])
    assert "InternalServerError" in reasons[0]
    assert all(row["score"] == 0 and row["answer"] == "" for row in found if row["error"])
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary[TASK][SETTING]["errors"] == sum(row["error"] is not None for row in found)
    assert summary["protocol"]["llm_revision"] == "tiny"


def test_only_what_has_no_answer_is_asked_again_and_only_if_wanted(folder, model, tmp_path, server):
    server.faults = ["500"] * 2 + [""] * 60 + ["500"]
    flags = asked(server, "--episodes", "50", "--queries", "2")
    assert run(folder, model, tmp_path, *flags) == 1
    files = sorted(tmp_path.rglob("*.parquet"))
    before, server.requests = [path.stat().st_mtime_ns for path in files], []
    assert run(folder, model, tmp_path, *flags) == 1, "the errors are still there"
    assert server.requests == []
    server.faults = ["500"]
    assert run(folder, model, tmp_path, *flags, "--retry-errors") == 1
    assert len(server.requests) == 3
    assert run(folder, model, tmp_path, *flags, "--retry-errors") == 0
    assert len(server.requests) == 4
    assert [path.stat().st_mtime_ns != time_ns for path, time_ns in zip(files, before, strict=True)] == [True, True]
    assert not any(row["error"] for row in rows(tmp_path))


def test_more_episodes_ask_only_those_that_are_new(folder, model, tmp_path, server):
    assert run(folder, model, tmp_path, *asked(server, "--episodes", "3")) == 0
    first = len(server.requests)
    assert run(folder, model, tmp_path, *asked(server, "--episodes", "5")) == 0
    assert len(server.requests) == len({row["prompt"] for row in rows(tmp_path)})
    assert first < len(server.requests)


def test_a_server_that_says_it_is_another_model_is_recorded(folder, model, tmp_path, server):
    server.model = "another"
    assert run(folder, model, tmp_path, *asked(server)) == 0
    assert stored_footer(str(tmp_path), TASK, SETTING)["llm_revision"] == "another"
    assert run(folder, model, tmp_path, *asked(server, "--episodes", "30")) == 0, "what it said before bars nothing"


def test_kept_answers_are_not_asked_twice(folder, model, tmp_path, server):
    flags = asked(server, "--cache", tmp_path / "kept")
    assert run(folder, model, tmp_path / "one", *flags) == 0
    count = len(server.requests)
    assert run(folder, model, tmp_path / "two", *flags) == 0
    assert len(server.requests) == count
    assert rows(tmp_path / "one") == rows(tmp_path / "two")


def test_closed_answers_are_names_and_said_to_be_closed(folder, model, tmp_path, caplog):
    llm = save_causal(tmp_path / "llm", LlamaConfig(**SIZES))
    flags = ("--llm", llm, "--layers", "1")
    assert run(folder, model, tmp_path / "free", *flags) == 0
    assert run(folder, model, tmp_path / "closed", *flags, "--closed") == 0
    free, closed = rows(tmp_path / "free"), rows(tmp_path / "closed")
    assert [row["prompt"] for row in free] == [row["prompt"] for row in closed]
    for row in closed:
        assert f"'{row['answer']}'" in row["prompt"].split("\n")[0], "one of those that the prompt tells"
    assert not all(f"'{row['answer']}'" in row["prompt"].split("\n")[0] for row in free)
    assert stored_footer(str(tmp_path / "closed"), TASK, SETTING)["closed"] is True
    assert json.loads((tmp_path / "closed/summary.json").read_text())["protocol"]["closed"] is True
    assert run(folder, model, tmp_path / "closed", *flags) == 2
    assert "has closed True, and this run has None" in caplog.text
    assert run(folder, model, tmp_path / "free", *flags, "--closed") == 2


def test_closed_answers_of_a_server_are_checked(folder, model, tmp_path, server):
    assert run(folder, model, tmp_path, *asked(server, "--closed")) == 1
    assert all(row["error"].startswith("'OUTPUT:' came out, which is none of the 2 allowed") for row in rows(tmp_path))


@dataclass
class Breaking:
    """Answers, but raises for the episodes that are named."""

    broken: range
    revision = "real"

    def answer(self, asked, limits):
        if asked[0].episode.number in self.broken:
            raise ValueError("no such luck")
        return PromptReader(NearestContext()).answer(asked, limits)


@pytest.fixture
def job(folder, model, tmp_path):
    flags = {"model": model, "shards": f"{folder}/test", "support_shards": f"{folder}/train", "output": str(tmp_path)}
    task = make_task(TaskFlags(**flags, layers=1), SPAE.from_pretrained(model))
    return AskingJob(EpisodesRun(str(tmp_path), TASK, {}), task, 0)


def makers(job, answerer, count=1):
    return [partial(job.ask, answerer=answerer)] * count


FILES = [EpisodeFile(SETTING, number, number, number + 1) for number in range(20)]


def test_a_file_that_fails_costs_itself_and_is_named(job, tmp_path, caplog):
    outcomes = list(ask_files(makers(job, Breaking(range(0, 20, 3)), 3), FILES))
    failed = {outcome.file.index for outcome in outcomes if outcome.reason == "no such luck"}
    assert failed == set(range(0, 20, 3))
    assert {row["episode"] for row in rows(tmp_path)} == set(range(20)) - failed
    assert caplog.text.count("gets no rows: no such luck") == 7


def test_files_that_fail_one_after_the_other_end_the_run(job, tmp_path):
    with pytest.raises(RuntimeError, match="8 files of episodes in a row have failed, the last by: no such luck"):
        list(ask_files(makers(job, Breaking(range(5, 20))), FILES))
    assert {row["episode"] for row in rows(tmp_path)} == set(range(5))


def test_several_who_answer_make_the_rows_of_one(job, tmp_path):
    list(ask_files(makers(job, Breaking(range(0))), FILES))
    alone = rows(tmp_path)
    for file in tmp_path.rglob("*.parquet"):
        file.unlink()
    assert sorted(outcome.file.index for outcome in ask_files(makers(job, Breaking(range(0)), 4), FILES)) == list(
        range(20)
    )
    assert rows(tmp_path) == alone


@pytest.mark.slow
def test_memory_does_not_grow_with_episodes(folder, model, tmp_path):
    """Rows of 350 more episodes would take 7 MB; what is kept of them is their files' names."""
    assert run(folder, model, tmp_path / "first", "--episodes", "25") == 0
    tracemalloc.start()
    peaks = []
    for episodes in (50, 400):
        tracemalloc.reset_peak()
        assert run(folder, model, tmp_path / str(episodes), "--episodes", episodes) == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1e6


def released(task, data, model, output, *flags):
    places = {"--model": model, "--data": data, "--output": output, "--task": task, "--llm": "nearest-context"}
    return incontext.main([str(part) for pair in places.items() for part in pair] + list(flags))


def test_closed_answers_mean_nothing_where_there_are_no_names(model, tmp_path, caplog):
    save_captions(tmp_path)
    assert released("coco-captions", tmp_path, model, tmp_path / "output", "--episodes", "2", "--closed") == 2
    assert "--closed: answers to coco-captions are free text" in caplog.text
    assert not (tmp_path / "output").exists()


def test_closed_answers_to_released_questions_are_their_names(model, tmp_path):
    save_inner_shots(tmp_path, "real_name_mi", 1, 2, questions=6)
    flags = ("--episodes", "6", "--closed", "--settings", SETTING)
    assert released("mini-imagenet-real", tmp_path, model, tmp_path / "output", *flags) == 0
    assert len(rows(tmp_path / "output")) == 6
    assert json.loads((tmp_path / "output/summary.json").read_text())["protocol"]["closed"] is True


def test_places_that_a_submitted_job_cannot_find_are_refused(folder, model, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    for flag in ("--output", "--shards", "--support-shards", "--tokens", "--compare"):
        assert run(folder, model, tmp_path, flag, "runs/incontext") == 2
        assert f"{flag} runs/incontext is relative" in caplog.text
    with serving() as server:
        assert run(folder, model, tmp_path, *asked(server, "--cache", "kept")) == 2
    assert "--cache kept is relative" in caplog.text
