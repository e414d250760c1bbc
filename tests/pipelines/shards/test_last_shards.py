"""Short last shards, splits that were cut before there was a rule for them, and shards that are retried for errors."""

import dataclasses
import os
import shutil

import pyarrow.parquet as pq
import pytest

from pipelines.images import main as images
from pipelines.planning.plan import FORMAT_VERSION, making_plan
from pipelines.planning.record import load_plan_record
from pipelines.samples.images import ImageSamples
from pipelines.shards.folder import finish_split, inspect_split, prepare_split
from pipelines.shards.writer import ShardWriter
from pipelines.verify import main as verify
from spae.data.records import load_index
from tests.pipelines.folders import digit_folder, digits, folder, tree_hashes


def listed(source, *flags):
    """Run the command on the images of a folder, by a list: the plan does not depend on what they hold."""
    paths = source / "list.csv"
    if not paths.exists():
        names = sorted(str(path.relative_to(source)) for path in source.glob("*/*.*"))
        paths.write_text("path\n" + "".join(f"{name}\n" for name in names))
    return images(["--source", "list", "--input", str(paths), "--split", "train", *map(str, flags)])


@pytest.mark.parametrize(
    ("size", "counts"), [(100, [100, 100, 70]), (130, [130, 140]), (216, [216, 54]), (217, [270]), (300, [270])]
)
def test_a_last_shard_of_less_than_a_quarter_joins_the_one_before(size, counts, tmp_path):
    assert digits(tmp_path, "--samples-per-shard", str(size)) == 0
    assert [shard.samples for shard in load_index(str(tmp_path / "val")).shards] == counts
    assert verify([str(tmp_path / "val")]) == 0


def test_one_bad_input_at_the_end_leaves_an_index(tmp_path):
    source = digit_folder(tmp_path / "images", 20)
    assert folder(source, tmp_path / "whole", "--samples-per-shard", "19") == 0
    last = pq.read_table(tmp_path / "whole/train/plan/part-00000.parquet").to_pylist()[-1]["path"]
    (source / last).write_bytes(b"no image")
    assert folder(source, tmp_path / "shards", "--samples-per-shard", "19", "--max-error-share", "0.5") == 0
    assert load_index(str(tmp_path / "shards/train")).samples == 19


@pytest.mark.parametrize("limit", [100, 101, 124, 125, 224, 269])
def test_the_full_run_continues_any_pilot(limit, tmp_path):
    assert digits(tmp_path / "whole", "--samples-per-shard", "100") == 0
    assert digits(tmp_path / "piloted", "--samples-per-shard", "100", "--limit", str(limit)) == 0
    assert load_index(str(tmp_path / "piloted/val")).samples == limit
    assert digits(tmp_path / "piloted", "--samples-per-shard", "100") == 0
    assert tree_hashes(tmp_path / "piloted") == tree_hashes(tmp_path / "whole")


def older_split(split, flags):
    """A split of format 3, cut by the old rule."""
    assert digits(split.parent, *flags, "--limit", "1") == 0  # for its settings
    settings = dataclasses.replace(load_plan_record(str(split)).settings, format_version=3)
    shutil.rmtree(split)
    with making_plan(settings) as plan:
        prepare_split(plan, str(split), inspect_split(plan, str(split)), None, replace=False)
    writer = ShardWriter(str(split), settings, plan.classes)
    for number in range(len(plan.shards)):
        writer.write(number)
    return {shard.name: shard.plan for shard in plan.shards}


def test_a_finished_split_of_an_older_format_stays_and_is_repaired_as_it_was(tmp_path, caplog):
    split, flags = tmp_path / "val", ("--samples-per-shard", "130")
    finish_split("val", str(split), older_split(split, flags))
    before = tree_hashes(split)
    assert digits(tmp_path, *flags) == 0
    assert "skipped 270" in caplog.text
    assert [shard.samples for shard in load_index(str(split)).shards] == [130, 130, 10]
    os.remove(split / "val-000002.tar")
    os.remove(split / "plan/part-00000.parquet")
    assert verify([str(split), "--repair"]) == 0
    assert tree_hashes(split) == before
    assert digits(tmp_path, *flags, "--replace") == 0
    assert [shard.samples for shard in load_index(str(split)).shards] == [130, 140]


def test_an_unfinished_split_of_an_older_format_is_not_continued(tmp_path, caplog):
    split, flags = tmp_path / "val", ("--samples-per-shard", "130")
    older_split(split, flags)
    os.remove(split / "val-000001.json")
    before = tree_hashes(split)
    assert digits(tmp_path, *flags) == 2
    assert f"format_version is 3 there, {FORMAT_VERSION} here. Give --replace" in caplog.text
    assert tree_hashes(split) == before


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaterSamples(ImageSamples):
    """A maker of images that got a further field after splits had been made."""

    sharpness: int = 0


def test_a_later_field_leaves_finished_shards_as_they_are(tmp_path):
    assert digits(tmp_path, "--limit", "20") == 0
    settings = load_plan_record(str(tmp_path / "val")).settings
    hashes = []
    for samples in (ImageSamples(), LaterSamples(), LaterSamples(sharpness=1)):
        with making_plan(dataclasses.replace(settings, samples=samples), 20) as plan:
            hashes.append(plan.fingerprint)
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.fixture
def with_errors(tmp_path):
    """Images of which one is missing and one is damaged, in four shards, and the bytes of both."""
    source = digit_folder(tmp_path / "images", 40)
    flags = ("--output", tmp_path / "shards", "--samples-per-shard", "10", "--max-error-share", "0.5")
    assert listed(source, *flags, "--dry-run") == 0
    gone, damaged = sorted(source.glob("*/*.*"))[::39]
    data = {gone: gone.read_bytes(), damaged: damaged.read_bytes()}
    gone.unlink()
    damaged.write_bytes(b"words")
    assert listed(source, *flags) == 0
    return source, flags, data


def inodes(split):
    return {path.name: path.stat().st_ino for path in split.glob("*.tar")}


def test_errors_are_retried_where_their_shards_are(with_errors, tmp_path, caplog):
    source, flags, data = with_errors
    split = tmp_path / "shards/train"
    assert load_index(str(split)).samples == 38
    before, hashes = inodes(split), tree_hashes(split)
    for path, content in data.items():
        path.write_bytes(content)
    assert listed(source, *flags) == 0
    assert inodes(split) == before
    assert listed(source, *flags, "--retry-errors", "no  image") == 2
    assert "there are cannot be read, no image" in caplog.text
    assert tree_hashes(split) == hashes
    assert listed(source, *flags, "--retry-errors", "no image") == 0
    assert load_index(str(split)).samples == 39
    assert sum(inodes(split)[name] != inode for name, inode in before.items()) == 1
    assert listed(source, *flags, "--retry-errors") == 0
    assert load_index(str(split)).samples == 40
    assert not any((split / "errors").iterdir())
    assert verify([str(split)]) == 0
    assert listed(source, "--output", tmp_path / "anew", *flags[2:]) == 0
    anew = {name: value for name, value in tree_hashes(tmp_path / "anew/train").items() if not name.startswith("plan")}
    assert anew.items() <= tree_hashes(split).items()


def test_a_retry_that_finds_less_than_before_leaves_the_shard(with_errors, tmp_path, caplog):
    source, flags, _ = with_errors
    before = tree_hashes(tmp_path / "shards")
    for path in source.glob("*/*.*"):
        path.unlink()
    assert listed(source, *flags, "--retry-errors") == 0
    assert "stays: now 10 of its inputs cannot be used" in caplog.text
    assert tree_hashes(tmp_path / "shards") == before
