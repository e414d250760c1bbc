import pytest

from jobs.stages import Stage, run_stages


def test_stages_run_after_those_they_need(capfd):
    """`python -m this` and its like: real processes, whose order their output tells."""
    stages = [
        Stage("last", "platform", (), ("first", "second")),
        Stage("second", "this", (), ("first",)),
        Stage("first", "no_such_module", ()),
    ]
    with pytest.raises(RuntimeError, match="first failed with status 1"):
        run_stages(stages)
    assert "Zen of Python" not in capfd.readouterr().out
    seconds = run_stages([stages[0], stages[1], Stage("first", "sysconfig", ())])
    printed = capfd.readouterr().out
    assert set(seconds) == {"first", "second", "last"}
    assert printed.index("first ") < printed.index("second ") < printed.index("last ")
    assert "second            | The Zen of Python" in printed


def test_a_failing_stage_ends_the_demo(capfd):
    with pytest.raises(RuntimeError, match="export nothing failed with status 2"):
        Stage("export nothing", "jobs.export", ("--run", "/nowhere", "--output", "/nowhere")).run()
    assert "python -m jobs.export --run /nowhere" in capfd.readouterr().out
