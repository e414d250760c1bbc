"""The plan on disk against the same plan made in memory by plain Python."""

import hashlib
import json
import random
import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.planning.entry_rows import PlanHasher, determining, entries_to_rows, rows_to_entries
from pipelines.planning.files import SHARDS_PER_PART, PlanFiles, PlanWriter, cut, join_short_last
from pipelines.planning.order import ordered_entries
from pipelines.planning.plan import ShardSettings, making_plan
from pipelines.samples.images import ImageSamples
from spae.data.records import MAX_KEY_LENGTH, ClassName, check_key
from spae.data.sources import Entry, SourceSettings

CLASSES = (ClassName(0, "zero", "n0"), ClassName(1, "one"), ClassName(2, "two"))


def entries(count, keys=None):
    """Synthetic inputs, listed in no order, of which several share a key if there are fewer keys than inputs."""
    rows = [
        Entry(
            f"key-{index % (keys or count)}",
            f"folder/{index}",
            index % 3,
            index % 7 or None,
            "" if index % 5 else "bad",
        )
        for index in range(count)
    ]
    random.Random(0).shuffle(rows)
    return rows


def planned(rows, seed=0, limit=None, **options):
    return [entry for batch in ordered_entries(rows, seed, limit, **options) for entry in rows_to_entries(batch)]


def reference(rows, seed):
    """What `ordered_entries` promises, by sorted() over everything."""

    def position(entry):
        return hashlib.sha256(f"{seed}|{entry.key}".encode()).digest()

    result, taken = [], set()
    for entry in sorted(rows, key=lambda entry: (position(entry), entry.path)):
        values = vars(entry)
        if entry.key in taken:
            values = {**values, "key": f"{entry.key[:77]}-{hashlib.sha256(entry.path.encode()).hexdigest()[:12]}"}
        taken.add(entry.key)
        result.append(Entry(**values))
    return result


@pytest.mark.parametrize(("count", "keys"), [(70_000, 68_000), (5000, 3000), (2000, 10), (1, None)])
def test_the_order_is_that_of_a_sort_in_memory(count, keys):
    rows = entries(count, keys)
    found = planned(rows, seed=3)
    assert found == reference(rows, 3)
    assert len({entry.key for entry in found}) == count
    assert planned(rows[::-1], seed=3) == found
    assert planned(rows, seed=3, limit=count // 2 or 1) == found[: count // 2 or 1]


def test_copies_of_one_input_get_keys_of_their_own():
    rows = [Entry("key", "same"), Entry("key", "same"), Entry("key", "same"), Entry("key", "x", offset=1)]
    rows += [Entry("key", "x", offset=2), Entry("key", "x", offset=2, label=3), Entry("k" * MAX_KEY_LENGTH, "a")]
    rows += [Entry("k" * MAX_KEY_LENGTH, "b")]
    found = planned(rows)
    assert len({check_key(entry.key) for entry in found}) == len(rows)
    assert planned(rows[::-1]) == found
    assert sorted((entry.path, entry.offset or 0, entry.label or 0) for entry in found) == sorted(
        (entry.path, entry.offset or 0, entry.label or 0) for entry in rows
    )


@pytest.mark.slow
def test_little_memory_sorts_on_disk_to_the_same_order():
    rows = entries(600_000)
    little, much = (pa.Table.from_batches(ordered_entries(rows, 0, None, memory=size)) for size in ("100MB", "2GB"))
    assert little.equals(much)


def test_an_unsafe_key_is_refused():
    with pytest.raises(ValueError, match=r"key 'a\.b' must be"):
        planned([Entry("fine", "a"), Entry("a.b", "b")])


@pytest.mark.parametrize("rows", [1, 7, 100, 1000])
def test_cut_keeps_every_row_in_order(rows):
    batches = [entries_to_rows(entries(size)).to_batches()[0] for size in (3, 50, 1, 7, 101)]
    tables = list(cut(batches, rows))
    assert pa.concat_tables(tables).equals(pa.Table.from_batches(batches))
    assert {table.num_rows for table in tables[:-1]} <= {rows}
    assert 0 < tables[-1].num_rows <= rows


@pytest.mark.parametrize("size", range(1, 13))
def test_no_last_shard_has_a_single_input_where_the_others_have_more(size):
    for count in range(1, 3 * size + 2):
        rows = entries_to_rows(entries(count))
        shards = list(join_short_last(cut(rows.to_batches(), size), size))
        assert pa.concat_tables(shards).equals(rows)
        counts = [shard.num_rows for shard in shards]
        assert all(shard_count == size for shard_count in counts[:-1])
        assert counts[-1] > 1 or size == 1 or count == 1
        assert counts[-1] <= max(1.25 * size, size + 1)


def test_files_hold_every_shard(tmp_path):
    shards = [entries_to_rows(entries(3)[:size]) for size in [2] * (SHARDS_PER_PART + 4) + [1]]
    files = PlanFiles(str(tmp_path))
    with PlanWriter(str(tmp_path)) as writer:
        for rows in shards:
            writer.add(rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part-00000.parquet", "part-00001.parquet"]
    for number, rows in enumerate(shards):
        assert files.read(number).equals(rows)
    with pytest.raises(ValueError, match="does not hold shard"):
        files.read(len(shards))


def settings(seed=0):
    source = SourceSettings(name="digits", url="", split="val")
    return ShardSettings(source=source, samples=ImageSamples(), seed=seed, samples_per_shard=100)


def test_every_value_changes_the_plan_hash():
    hasher = PlanHasher(settings(), CLASSES)
    base = {"key": "k", "path": "ab", "label": 1, "size": 2, "problem": "", "offset": 3, "text": "c"}
    changes = [
        {},
        {"key": "q"},
        {"path": "a", "problem": "b"},
        {"label": 0},
        {"label": None},
        {"size": None},
        {"size": 0},
    ]
    changes += [{"problem": "c", "text": ""}, {"offset": 0}, {"offset": None}, {"text": ""}, {"label": 7}]
    hashes = [hasher.hash_of(entries_to_rows([Entry(**{**base, **change}), Entry("z", "z")])) for change in changes]
    hashes.append(hasher.hash_of(entries_to_rows([Entry("z", "z"), Entry(**base)])))
    hashes.append(hasher.hash_of(entries_to_rows([Entry(**base)])))
    table = entries_to_rows([Entry(**base), Entry("z", "z")])
    hashes.append(PlanHasher(settings(seed=1), CLASSES).hash_of(table))
    hashes.append(PlanHasher(settings(), (CLASSES[0], ClassName(1, "uno"), CLASSES[2])).hash_of(table))
    hashes.append(PlanHasher(settings(), (CLASSES[0], ClassName(1, "one", "n1"), CLASSES[2])).hash_of(table))
    assert len(set(hashes)) == len(hashes)
    assert PlanHasher(settings(), (*CLASSES, ClassName(3, "three"))).hash_of(table) == hashes[0]
    parts = pa.concat_tables([entries_to_rows([Entry(**base)]), entries_to_rows([Entry("z", "z")])])
    assert hasher.hash_of(parts) == hasher.hash_of(pa.concat_tables([table, table]).slice(2)) == hashes[0]


def test_the_plan_hash_is_one_of_values_alone():
    """The same in plain Python. Another hash would mean that finished shards of all users are written again."""
    rows = [Entry("a", "x/ä.jpg", 1, 5), Entry("b", "y", None, None, "broken link", 7, "caption"), Entry("c", "z", 0)]
    columns = {name: [getattr(row, name) for row in rows] for name in vars(rows[0]) if name != "original"}
    columns |= {"class name": ["one", None, "zero"], "class wnid": [None, None, "n0"]}
    digest = hashlib.sha256(json.dumps(determining(settings()), sort_keys=True).encode())
    for name, values in columns.items():
        digest.update(f"\n{name} 3\n".encode() + bytes(value is not None for value in values))
        if any(isinstance(value, str) for value in values):
            texts = [(value or "").encode() for value in values]
            digest.update(struct.pack("<3i", *map(len, texts)) + b"".join(texts))
        else:
            digest.update(struct.pack("<3q", *(value or 0 for value in values)))
    assert PlanHasher(settings(), CLASSES).hash_of(entries_to_rows(rows)) == digest.hexdigest()


def test_the_plan_of_the_digits_is_cut_from_their_order():
    with making_plan(settings()) as plan, making_plan(settings(), limit=150) as pilot:
        rows = [entry for number in range(3) for entry in rows_to_entries(plan.files.read(number))]
        assert rows == reference(rows, 0)
        assert [shard.inputs for shard in plan.shards] == [100, 100, 70]
        assert [shard.inputs for shard in pilot.shards] == [100, 50]
        assert pilot.shards[0] == plan.shards[0]
        assert pilot.shards[1].plan == plan.hash_of_first(1, 50) != plan.shards[1].plan
        assert plan.hash_of_first(2, 70) == plan.shards[2].plan
        assert plan.fingerprint != pilot.fingerprint


def test_shards_of_older_versions_keep_their_hashes():
    """Computed by commit 8ef01c8: what later versions add must not make the folders of older ones unreadable."""
    source = SourceSettings(name="folder", url="photos", split="train", include="*.jpg")
    settings = ShardSettings(source=source, samples=ImageSamples(), seed=0, samples_per_shard=2, format_version=3)
    rows = [Entry("a", "x/a.jpg", 0, 10), Entry("b", "y/b.jpg", 1, None, text="words")]
    found = PlanHasher(settings, (ClassName(0, "x"), ClassName(1, "y"))).hash_of(entries_to_rows(rows))
    assert found == "d171740516239bddb4edae03fd992edf1c47087661dcaa29f0720c335bf061dd"


def test_plans_of_older_versions_can_be_read(tmp_path):
    rows = [Entry("a", "x/a.jpg", 0, 10), Entry("b", "y/b.jpg", 1, None, text="words")]
    pq.write_table(entries_to_rows(rows).drop_columns("original"), tmp_path / "part-00000.parquet")
    table = PlanFiles(str(tmp_path)).read(0)
    assert rows_to_entries(table) == rows
    assert table.schema == entries_to_rows(rows).schema


def test_what_a_source_says_else_is_hashed_where_it_says_something():
    rows = [Entry("a", "x", original="{}"), Entry("a", "x", original="[]"), Entry("a", "x")]
    assert len({PlanHasher(settings(), CLASSES).hash_of(entries_to_rows([row])) for row in rows}) == 3
