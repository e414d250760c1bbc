import dataclasses
import itertools

import pytest

from pipelines import images, videos, vocabulary
from pipelines.amounts import bytes_text, time_text
from pipelines.flags import split_flags
from tests.pipelines.folders import digit_folder, digits, folder

COMMANDS = [images, videos, vocabulary]
REQUIRED = ["--source", "digits", "--split", "val", "--output", "nowhere"]


@pytest.mark.parametrize(
    ("written", "meant"), [("--ouput", "--output"), ("--splitt", "--split"), ("--sorce", "--source")]
)
def test_a_misspelt_flag_that_is_required_gets_its_suggestion(written, meant, caplog):
    arguments = [written if part == meant else part for part in REQUIRED]
    assert images.main(arguments) == 2
    assert f"unknown argument '{written}'; did you mean {meant}?" in caplog.text


def test_underscores_and_values_with_hyphens_are_no_misspellings(tmp_path):
    assert digits(tmp_path, "--samples_per_shard=100", "--no-replace", "--dry-run") == 0
    arguments = ["--seed", "-3", "--runner", "x", "--limit=2"]
    assert split_flags(arguments) == (["--seed", "-3", "--limit=2"], ["--runner", "x"])


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("columns", ["80", "120"])
def test_help_fills_its_lines(command, columns, capsys, monkeypatch):
    """No line of a flag's help ends early: its next word would not have fitted."""
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()  # without a terminal no box is drawn around them
    begin = next(number for number, line in enumerate(lines) if "show this help" in line)
    column = lines[begin].index("show this help")
    for line, following in itertools.pairwise(lines[begin:]):
        text, next_word = line[column:].rstrip(), following[column:].split(" ")[0]
        is_help = line[column - 2 : column] == "  " and text  # else a long flag that stands on a line of its own
        continues = is_help and not following[:column].strip() and next_word
        if continues:
            assert len(text) + 1 + len(next_word) > len(line) - column, f"{line!r} breaks before {next_word!r}"


def test_every_flag_has_its_help(capsys):
    for command, flags in ((images, images.ImagesFlags), (videos, videos.VideosFlags)):
        with pytest.raises(SystemExit):
            command.main(["--help"])
        shown = capsys.readouterr().out
        for field in dataclasses.fields(flags):
            assert f"--{field.name.replace('_', '-')}" in shown


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1234, "1.23 kB"), (999_600, "1 MB"), (150e9, "150 GB")]
)
def test_bytes_have_three_digits(count, text):
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.01, "less than a second"),
        (1.5, "1 second"),
        (90, "90 seconds"),
        (200, "3.33 minutes"),
        (7200, "2 hours"),
        (1e6, "11.6 days"),
    ],
)
def test_times_have_the_unit_that_fits(seconds, text):
    assert time_text(seconds) == text


def test_a_dry_run_prints_no_zeros_and_says_what_it_assumes(tmp_path, caplog):
    source = digit_folder(tmp_path / "images", 12)
    assert folder(source, tmp_path / "shards", "--dry-run") == 0
    told = [record.getMessage().replace(str(tmp_path), "") for record in caplog.records]
    assert any("kB to read, less than a second of one worker process if it reads 300 MB" in line for line in told)
    assert not any(word.startswith("0") for line in told for word in line.split())
    assert folder(source, tmp_path / "shards") == 0
    caplog.clear()
    assert folder(source, tmp_path / "shards", "--dry-run") == 0
    assert "1 shards are finished" in caplog.text
    assert "to be written" not in caplog.text
