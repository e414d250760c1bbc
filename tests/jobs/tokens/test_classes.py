"""classes.parquet beside the tables."""

import pytest

from jobs.tokens.classes import publish_classes
from spae.data.records import ClassName, load_classes, save_classes
from spae.data.sources import IMAGE_PATTERNS, find_shards
from spae.data.token_table import find_token_tables
from tests.tiny_shards import CLASSES, samples, write_split


def publish(output, *urls):
    publish_classes(find_shards([str(url) for url in urls], 100, IMAGE_PATTERNS), str(output))


@pytest.fixture
def labelled(tmp_path):
    """A list with two classes, cat and dog."""
    (tmp_path / "list.csv").write_text("path,label\na.png,dog\nb.png,cat\n")
    return tmp_path / "list.csv"


def test_classes_of_splits_stand_beside_the_tables_and_are_no_table(split, tmp_path):
    other = write_split(tmp_path / "val", [samples(2, 9)], "val")
    publish(tmp_path / "tokens", f"{split}/*.tar", other)
    assert [row.name for row in load_classes(str(tmp_path / "tokens" / "classes.parquet"))] == list(CLASSES)
    assert find_token_tables(str(tmp_path / "tokens")) == {}


def test_classes_of_a_list_are_its_names(labelled, tmp_path):
    publish(tmp_path / "tokens", labelled)
    assert load_classes(str(tmp_path / "tokens" / "classes.parquet")) == (ClassName(0, "cat"), ClassName(1, "dog"))


@pytest.mark.parametrize("at_once", [True, False])
def test_a_label_of_two_meanings_is_told_and_changes_nothing(split, labelled, tmp_path, caplog, at_once):
    publish(tmp_path / "tokens", split)
    before = (tmp_path / "tokens" / "classes.parquet").read_bytes()
    publish(tmp_path / "tokens", *([split, labelled] if at_once else [labelled]))
    assert "label 0 is" in caplog.text
    assert (tmp_path / "tokens" / "classes.parquet").read_bytes() == before


def test_classes_of_a_later_run_are_added(split, tmp_path):
    (tmp_path / "tokens").mkdir()
    save_classes(str(tmp_path / "tokens"), [ClassName(7, "seven")])
    publish(tmp_path / "tokens", split)
    assert [row.label for row in load_classes(str(tmp_path / "tokens" / "classes.parquet"))] == [0, 1, 2, 7]


def test_where_nobody_tells_there_is_no_file(tmp_path):
    (tmp_path / "list.txt").write_text("a.png\n")
    publish(tmp_path / "tokens", tmp_path / "list.txt")
    assert not (tmp_path / "tokens").exists()
