"""What Prometheus reads of a tokenizing run on a real cluster, and the run's own check of its tables."""

import logging
import re
import time
import urllib.request
from collections import Counter

import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families

from jobs import tokenize_shards
from jobs.cluster import connect

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def cluster():
    connect("local", num_cpus=2, _system_config={"metrics_report_interval_ms": 200})
    yield
    ray.shutdown()


def run(model, split, output, *flags):
    return tokenize_shards.main(["--model", model, "--input", split, "--output", str(output), "--batch", "4", *flags])


def exported():
    """Counts of tokenizing as Ray exports them, by name and tag; the sums and bins of seconds are left out."""
    with urllib.request.urlopen(f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}/metrics") as answer:
        families = text_string_to_metric_families(answer.read().decode())
    found = Counter()
    for sample in (sample for family in families for sample in family.samples):
        if match := re.fullmatch("ray_spae_tokenize_(.*_total|seconds_count)", sample.name):
            tags = [sample.labels[tag] for tag in ("table", "role") if tag in sample.labels]
            found[" ".join([match[1], *tags])] += round(sample.value)
    return found


def test_prometheus_sees_a_run_and_its_check_what_deviates_later(model, split, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    flags = ("--max-error-share", "0.2", "--verify")
    assert run(model, split, tmp_path, *flags) == 0
    assert "3 tables, 20 rows, 1 errors; 0 deviations" in caplog.text
    expected = Counter({"images_total": 20, "errors_total": 1, "shards_total yes": 3})
    expected.update({f"seconds_count {role}": 3 for role in ("decode", "encode", "publish")})
    deadline = time.monotonic() + 30
    while exported() != expected and time.monotonic() < deadline:
        time.sleep(0.2)
    assert exported() == expected
    (tmp_path / "errors" / "test-000001.parquet").unlink()
    assert run(model, split, tmp_path, *flags) == 1
    assert re.search("test-000001.parquet has 1 errors by its footer, and .* has 0 dead letters", caplog.text)
