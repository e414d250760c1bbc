import importlib
import sys

import pytest

from jobs import cli


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_stage_exists_and_takes_arguments(name):
    module = importlib.import_module(cli.COMMANDS[name].module)
    with pytest.raises(SystemExit) as stopped:
        module.main(["--help"])
    assert stopped.value.code == 0


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["spae", *arguments])
    return cli.main()


def test_help_lists_the_stages(monkeypatch, capsys):
    assert run(monkeypatch) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in cli.COMMANDS)


def test_an_unknown_stage_is_named(monkeypatch, capsys):
    assert run(monkeypatch, "trian") == 2
    assert "no stage 'trian'" in capsys.readouterr().err


def test_a_missing_extra_is_named(monkeypatch, capsys):
    def missing(name):
        raise ModuleNotFoundError("No module named 'ray'", name="ray")

    monkeypatch.setattr(importlib, "import_module", missing)
    assert run(monkeypatch, "train") == 2
    assert "pip install 'spae[ray]'" in capsys.readouterr().err
