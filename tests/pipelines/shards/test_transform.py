import tracemalloc

import numpy as np
from apache_beam.metrics import MetricsFilter

from pipelines.flags import beam_options
from pipelines.planning.plan import ShardSettings, making_plan
from pipelines.samples.images import ImageSamples
from pipelines.shards.folder import inspect_split, prepare_split
from pipelines.shards.transform import shards_pipeline
from pipelines.shards.writer import ShardWriter
from spae.data.media import encode_png
from spae.data.sources import SourceSettings
from tests.pipelines.folders import add_garbage, digit_folder


def planned_writer(source, folder, samples_per_shard):
    """A writer and the numbers of its shards, of which the plan stands in the folder."""
    settings = ShardSettings(
        source=SourceSettings(name="folder", url=str(source), split="train"),
        samples=ImageSamples(),
        seed=0,
        samples_per_shard=samples_per_shard,
    )
    with making_plan(settings) as plan:
        state = inspect_split(plan, str(folder))
        prepare_split(plan, str(folder), state, None, replace=False)
    return ShardWriter(str(folder), settings, plan.classes), [shard.number for shard in state.todo]


def test_metrics_count_what_was_done(tmp_path):
    source = digit_folder(tmp_path / "images", 40)
    garbage = add_garbage(source)
    writer, numbers = planned_writer(source, tmp_path / "train", 10)
    result = shards_pipeline(writer, numbers, beam_options([])).run()
    result.wait_until_finish()
    counters = {
        (row.key.metric.namespace, row.key.metric.name): row.committed
        for row in result.metrics().query(MetricsFilter())["counters"]
    }
    reasons = list(garbage.values())
    expected = {("errors", reason): reasons.count(reason) for reason in reasons}
    expected |= {("shards", "samples"): 40}
    expected |= {("shards", "bytes"): sum(path.stat().st_size for path in (tmp_path / "train").glob("*.tar"))}
    assert counters == expected
    (seconds,) = result.metrics().query(MetricsFilter().with_name("milliseconds"))["distributions"]
    assert seconds.committed.count == len(numbers) == 5


def test_a_shard_is_streamed_and_never_held(tmp_path):
    noise = encode_png(np.random.default_rng(0).integers(0, 255, (700, 700, 3), dtype=np.uint8))
    peaks = []
    for count in (10, 60):
        source = tmp_path / f"{count} images"
        (source / "noise").mkdir(parents=True)
        for number in range(count):
            (source / f"noise/{number}.png").write_bytes(noise)
        writer, (number,) = planned_writer(source, tmp_path / f"shards of {count}/train", 1000)
        tracemalloc.start()
        writer.write(number)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < len(noise), "fifty images more, and no more memory"
