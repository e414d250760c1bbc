import re

from tests.pipelines.folders import digits


def test_a_run_with_one_large_shard_shows_movement(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("pipelines.shards.attempts.SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr("spae.progress.LOG_INTERVAL", 0.01)
    assert digits(tmp_path) == 0
    shown = [int(done) for done in re.findall(r"(\d+)/270 ", caplog.text)]
    between = [done for done in shown if 0 < done < 270]
    assert len(between) > 3
    assert between == sorted(between)
