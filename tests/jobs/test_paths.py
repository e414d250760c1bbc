import pytest

from jobs import ablate, evaluate, export
from jobs.paths import place, place_or_name


@pytest.mark.parametrize("url", ["runs/first", "file://runs/first"])
def test_a_relative_place_is_refused_in_a_submitted_job_only(url, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert place("--run", url) == f"{tmp_path}/runs/first"
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(ValueError, match=f"--run {url} is relative, and a submitted job works in a temporary folder"):
        place("--run", url)


COMMANDS = {
    ablate: ("--shards", "--scored", "--vocabulary", "--clip"),
    evaluate: ("--model", "--shards"),
    export: ("--run",),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_writes_where_nobody_looks(command, monkeypatch, caplog):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    inputs = [part for flag in COMMANDS[command] for part in (flag, flag[2:])]
    assert command.main([*inputs, "--output", "runs/out"]) == 2
    assert "--output runs/out is relative, and a submitted job" in caplog.text


@pytest.mark.parametrize("url", ["/data/runs", "memory://runs", "file:///data/runs"])
def test_other_places_hold_in_a_submitted_job(url, monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert place("--run", url) == url.removeprefix("file://")


def test_the_name_of_a_hub_is_no_place(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert place_or_name("--model", "owner/model") == "owner/model"
    (tmp_path / "owner/model").mkdir(parents=True)
    with pytest.raises(ValueError, match="--model owner/model is relative"):
        place_or_name("--model", "owner/model")
