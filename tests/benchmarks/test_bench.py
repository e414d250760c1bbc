import json
import time

import numpy as np
import pytest

from tests.benchmarks import bench_vocabulary
from tests.benchmarks.bench import Contestant, peak_memory, print_table, timed, write_json


def test_contestants_take_turns_and_are_compared_by_the_item(tmp_path, capsys):
    turns = []

    def contestant(name, pause):
        return lambda: (turns.append(name), time.sleep(pause))

    work = {"slow": Contestant(contestant("slow", 0.02), 2), "fast": Contestant(contestant("fast", 0.01), 10)}
    slow, fast = rows = timed(work, rounds=3)
    assert turns == ["slow", "fast"] * 4, "a round for memory, three for time"
    assert slow.ratio == 1
    assert fast.ratio > 2, "ten, but for what else the machine does"
    assert slow.fastest <= slow.seconds <= slow.slowest
    print_table("pauses", rows, "pauses")
    assert "slow" in capsys.readouterr().out
    write_json(str(tmp_path / "new" / "pauses.json"), "pauses", rows, pauses=2)
    document = json.loads((tmp_path / "new" / "pauses.json").read_text())
    assert [row["name"] for row in document["rows"]] == ["slow", "fast"]
    assert document["pauses"] == 2


def test_peak_memory_is_what_a_run_holds_beyond_what_was_held():
    def run():
        held = np.ones(8_000_000)
        time.sleep(0.05)
        return held.sum()

    for _ in range(2):
        assert peak_memory(run) == pytest.approx(64, rel=0.2), "again: pages that were freed count once more"


@pytest.mark.slow
def test_a_part_of_both_vocabularies_goes_all_the_way(tmp_path, capsys):
    small = ("--limit", "60", "--width", "32", "--layers", "1", "--bookkeeping", "500")
    bench_vocabulary.main([*small, "--device", "cpu", "--folder", str(tmp_path / "vocabularies")])
    printed = capsys.readouterr().out
    assert "open_clip's BPE: 49408 tokens" in printed
    assert "MiniLM's WordPieces: 30522 tokens" in printed
    document = json.loads((tmp_path / "vocabularies/vocabulary.json").read_text())
    assert [row["items"] for row in document["rows"]] == [80 * 60, 80 * 60, 500, 500, 500, 500]
