import re
import time

import psutil
import pytest

from jobs.tokens.cost import decoder_memory, encoder_memory
from jobs.tokens.plan import TokenPlan
from jobs.tokens.usage import Usage, UsageWatch, peak_memory
from spae.data.records import ShardInfo, load_index
from tests import tiny_spae
from tests.tiny_tokens import token_job, tokenize_shard


@pytest.fixture
def line(caplog):
    caplog.set_level("INFO")

    def logged(watch):
        caplog.clear()
        watch.log()
        return caplog.text

    return logged


def test_the_line_tells_rate_share_of_the_ceiling_and_the_most_memory(line):
    watch = UsageWatch(batch=10)
    watch.note(1000, Usage("a", 0.5, 2_000_000_000, 1_000_000_000))
    time.sleep(0.2)
    watch.note(2, Usage("b", 0.4, 1_000_000_000, 3_000_000_000))
    said = line(watch)
    rate, share = (float(number) for number in re.findall(r"([\d.]+) images/s, (\d+)%", said)[0])
    assert rate <= 10, "2 pictures in 0.2 s; the first shard's began before the time"
    assert share == pytest.approx(100 * rate / 45, abs=1), "of 20 + 25, the fastest batches of 10 on two actors"
    assert re.search(r"of the 45\.0 that 2 actors encode alone; peak GB: driver [\d.]+, an encoder 2\.00, a dec", said)
    assert "a decoder 3.00" in said


def test_one_shard_or_none_have_no_rate(line):
    watch = UsageWatch(batch=10)
    assert line(watch) == ""
    watch.note(5, Usage("a", 0.0, 1, 1))
    watch.note(5, Usage("a", 0.0, 1, 1))
    assert "images/s" not in line(watch), "no batch was encoded"


def test_peak_memory_is_in_bytes():
    assert 0.9 * psutil.Process().memory_info().rss < peak_memory() < psutil.virtual_memory().total


def test_a_shard_tells_its_fastest_batch_and_memory(model, split, tmp_path):
    usage = tokenize_shard(token_job(model, tmp_path), load_index(split).shards[0]).usage
    assert 0 < usage.batch_seconds < 10
    assert min(usage.encoder_bytes, usage.decoder_bytes) > 100_000_000


def test_memory_that_is_reserved_grows_with_batch_and_shard(model, tmp_path):
    made, jobs = tiny_spae.model(), [token_job(model, tmp_path, batch) for batch in (4, 4_000)]
    small, large = (encoder_memory(made, job) for job in jobs)
    assert 1e9 < small < 1.2e9
    assert large - small == pytest.approx(6 * 3_996 * 16 * 16 * 8 * 4)
    shards = tuple(ShardInfo(f"s{count}.tar", count, 1, "") for count in (10, 10**6, 10**9))
    plans = [TokenPlan(shards[:number], ()) for number in (0, 1, 2, 3)]
    reserved = [decoder_memory(plan, jobs[0]) for plan in plans]
    assert reserved[1] - reserved[0] == 2 * 10 * 16 * 16 * 3
    assert reserved[2] == reserved[3], "larger ones are decoded in parts"
