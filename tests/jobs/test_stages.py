import contextlib

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


def test_stages_on_the_cluster_wait_for_it_from_the_first_on(monkeypatch, capfd):
    """The variables of the lent cluster reach them, and no others."""
    monkeypatch.setattr("jobs.stages.lend_cluster", lambda num_cpus: contextlib.nullcontext({"LENT": str(num_cpus)}))
    statement = ("-n", "1", "-r", "1", "import os; print('lent', os.environ.get('LENT'))")
    run_stages([Stage("ray", "timeit", statement, on_cluster=True), Stage("other", "timeit", statement)], cpus=3)
    printed = capfd.readouterr().out
    assert f"{'ray':17} | lent 3" in printed
    assert f"{'other':17} | lent None" in printed


def test_nobody_waits_for_a_cluster_that_does_not_start(monkeypatch):
    def lend_cluster(num_cpus):
        raise ValueError("no cluster")

    monkeypatch.setattr("jobs.stages.lend_cluster", lend_cluster)
    with pytest.raises(ValueError, match="no cluster"):
        run_stages([Stage("ray", "platform", (), on_cluster=True)], cpus=1)
