"""Shards that others made, to tables: as they lie, without Ray."""

import dataclasses

import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.tokens.decoding import decode_shard
from jobs.tokens.encoding import ShardEncoder
from jobs.tokens.messages import FailedShard, LargeShard, TokenizedShard
from jobs.tokens.plan import footer_identity, make_plan, require_same_corpus
from jobs.tokens.reading import shard_keys
from spae.data.media import encode_png
from spae.data.sources import IMAGE_PATTERNS, find_shards
from spae.data.token_table import find_token_tables, read_token_table
from spae.model import SPAE
from spae.pyramid import TokenPyramid
from tests import tiny_spae
from tests.image_layouts import img2dataset, jpegs, tar_bytes, write_files
from tests.photographs import photographs
from tests.tiny_tokens import token_job, tokenize_shard
from tests.web_server import WebServer


def find(*urls, files=100):
    return find_shards([str(url) for url in urls], files, IMAGE_PATTERNS)


def tokenize(model, output, shard):
    """The table's rows and footer of a shard, and its dead letters by key."""
    outcome = tokenize_shard(token_job(model, output), shard)
    assert isinstance(outcome, TokenizedShard), outcome
    rows, footer = read_token_table(f"{output}/{shard.name}.parquet")
    errors = output / "errors" / f"{shard.name}.parquet"
    letters = pq.read_table(errors).to_pylist() if errors.exists() else []
    assert (footer.source_sha256, footer.samples) == (shard.sha256, len(rows.keys) + len(letters))
    assert (outcome.shard.samples, outcome.errors) == (footer.samples, len(letters))
    return rows, {letter["key"]: letter["reason"] for letter in letters}


@pytest.fixture
def pictures(tmp_path):
    """Real photographs as people have them, and what lies among them."""
    folder = tmp_path / "pictures"
    for number, pixels in enumerate(photographs()):
        (folder / "holiday").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / "holiday" / f"{number}.JPG", format="JPEG")
    return write_files(folder, {"cut.jpg": jpegs(1)[0][:200], "grey.png": encode_png(photographs()[0][:, :, 0])})


def test_a_folder_of_photographs_becomes_the_words_that_encode_gives(model, pictures, tmp_path):
    (shard,) = find(pictures)
    rows, errors = tokenize(model, tmp_path / "tokens", shard)
    assert rows.keys == ("grey.png", "holiday/0.JPG", "holiday/1.JPG", "holiday/2.JPG")
    assert set(rows.labels) == {None}
    assert list(errors) == ["cut.jpg"]
    opened = [Image.open(pictures / key) for key in rows.keys]
    assert TokenPyramid.from_arrays(rows.layers) == SPAE.from_pretrained(model).encode(opened)


def test_a_tar_of_img2dataset_is_read_as_it_is(model, tmp_path):
    write_files(tmp_path / "tars", {"00000.tar": tar_bytes(img2dataset(5)), "00000_stats.json": b"{}"})
    (shard,) = find(tmp_path / "tars")
    rows, errors = tokenize(model, tmp_path / "tokens", shard)
    assert (rows.keys, errors) == (tuple(f"{number:09d}" for number in range(5)), {})


def test_keys_with_folders_capitals_and_missing_members_keep_their_rows(model, tmp_path):
    one, two, three, four = jpegs(4)
    members = [
        *(("x/a.JPG", one), ("x/a.cls", b"7"), ("y/a.jpeg", two), ("y/a.json", b"{}")),
        *(("b.jpg", three), ("b.cls", b"dog"), ("c.txt", b"no image"), ("x/a.png", four), ("d.jpg", b"broken")),
    ]
    write_files(tmp_path, {"tars/00000.tar": tar_bytes(members)})
    rows, errors = tokenize(model, tmp_path / "tokens", find(tmp_path / "tars")[0])
    assert dict(zip(rows.keys, rows.labels, strict=True)) == {"x/a": 7, "y/a": None, "b": None}
    assert errors == {"c": "no image member", "x/a": "a key that came before", "d": "no image"}


def test_tars_joined_to_one_file_have_each_key_once(model, tmp_path):
    write_files(tmp_path, {"tars/00000.tar": tar_bytes(img2dataset(3)) + tar_bytes(img2dataset(4))})
    rows, errors = tokenize(model, tmp_path / "tokens", find(tmp_path / "tars")[0])
    assert rows.keys == ("000000000", "000000001", "000000002", "000000003")
    assert set(errors.values()) == {"a key that came before"}


def test_a_tar_of_a_web_server_is_fetched_and_one_that_is_gone_is_named(model, tmp_path):
    data = tar_bytes(img2dataset(3))
    with WebServer({"00000.tar": data, "cut.tar": data[:5000]}).running() as server:
        outcome = tokenize_shard(token_job(model, tmp_path / "tokens"), find(f"{server.url}/cut.tar")[0])
        assert isinstance(outcome, FailedShard)
        assert outcome.reason.startswith(f"{server.url}/cut.tar cannot be read whole: truncated tar")
        gone, there = (find(f"{server.url}/{path}00000.tar")[0] for path in ("nowhere/{0..0}", ""))
        rows, errors = tokenize(model, tmp_path / "tokens", there)
        assert (len(rows.keys), errors) == (3, {})
        assert isinstance(tokenize_shard(token_job(model, tmp_path / "tokens"), gone), FailedShard)
    write_files(tmp_path, {"tars/00000.tar": b""})
    shards = find(tmp_path / "tars" / "{00000..00001}.tar")
    outcome = tokenize_shard(token_job(model, tmp_path / "tokens"), shards[1])
    assert isinstance(outcome, FailedShard)
    assert "00001.tar cannot be read whole: cannot be read" in outcome.reason


def test_links_are_followed_to_files_and_what_leads_nowhere_is_a_dead_letter(model, tmp_path):
    write_files(tmp_path / "elsewhere", {"one.jpg": jpegs(1)[0]})
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "linked.jpg").symlink_to(tmp_path / "elsewhere" / "one.jpg")
    (tmp_path / "photos" / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    rows, errors = tokenize(model, tmp_path / "tokens", find(tmp_path / "photos")[0])
    assert (rows.keys, list(errors)) == (("linked.jpg",), ["broken.jpg"])


def test_a_list_of_paths_and_urls_is_fetched(model, tmp_path):
    one, two, long = *jpegs(2), f"{'x' * 300}.jpg"
    write_files(tmp_path, {"one.jpg": one})
    with WebServer({"two.jpg": two}).running() as server:
        url = server.url
        (tmp_path / "list.txt").write_text(f"one.jpg\n{url}/two.jpg\n{url}/403/two.jpg\nnowhere.jpg\nfile::x\n{long}\n")
        rows, errors = tokenize(model, tmp_path / "tokens", find(tmp_path / "list.txt")[0])
        assert rows.keys == ("one.jpg", f"{url}/two.jpg")
        assert errors == {
            f"{url}/403/two.jpg": "cannot be read",
            "nowhere.jpg": "cannot be read",
            "file::x": "protocol not allowed",
            long: "cannot be read",
        }


def test_a_cut_tar_fails_by_name_and_writes_nothing(model, tmp_path):
    data = tar_bytes(img2dataset(5))
    write_files(tmp_path, {"tars/00000.tar": data[: len(data) // 2]})
    (shard,) = find(tmp_path / "tars")
    outcome = tokenize_shard(token_job(model, tmp_path / "tokens"), shard)
    assert isinstance(outcome, FailedShard)
    assert "00000.tar cannot be read whole: truncated tar" in outcome.reason
    assert not (tmp_path / "tokens").exists()


def test_what_is_too_large_or_of_unknown_length_gives_the_same_table_in_parts(model, tmp_path):
    write_files(tmp_path, {"tars/00000.tar": tar_bytes(img2dataset(9))})
    (shard,) = find(tmp_path / "tars")
    tokenize(model, tmp_path / "whole", shard)
    job = dataclasses.replace(token_job(model, tmp_path / "parts"), block_bytes=4 * 16 * 16 * 3)
    decoding = decode_shard(shard, job)
    assert decoding == LargeShard(dataclasses.replace(shard, samples=9))
    for shard_read in (decoding, LargeShard(shard)):
        outcome = ShardEncoder(job).tokenize(shard_read)
        assert (outcome.shard.samples, outcome.errors) == (9, 0)
        table = (tmp_path / "parts" / "00000.parquet").read_bytes()
        assert table == (tmp_path / "whole" / "00000.parquet").read_bytes()


def test_a_rerun_skips_what_is_done_and_refuses_what_changed(model, pictures, tmp_path):
    shards, identity = find(pictures, files=2), footer_identity(tiny_spae.model())
    for shard in shards[:2]:
        tokenize(model, tmp_path / "tokens", shard)
    plan = make_plan(shards, find_token_tables(str(tmp_path / "tokens")), identity, replace=False)
    assert (plan.done, plan.todo) == (tuple(shards[:2]), tuple(shards[2:]))
    (pictures / "grey.png").write_bytes(jpegs(1)[0])
    changed, tables = find(pictures, files=2), find_token_tables(str(tmp_path / "tokens"))
    with pytest.raises(ValueError, match=r"pictures-000000.parquet has source_sha256"):
        make_plan(changed, tables, identity, replace=False)
    assert [shard.name for shard in make_plan(changed, tables, identity, replace=True).todo] == [
        *("pictures-000000", "pictures-000002")
    ]
    require_same_corpus(changed, tables, str(tmp_path / "tokens"))


def test_replace_spares_the_tables_of_other_pictures(model, pictures, tmp_path):
    tokenize(model, tmp_path / "tokens", find(pictures)[0])
    write_files(tmp_path / "other" / "pictures", {"theirs.jpg": jpegs(1)[0]})
    shards = find(tmp_path / "other" / "pictures")
    assert shard_keys(shards[0]) == {"theirs.jpg"}
    with pytest.raises(ValueError, match="another corpus"):
        require_same_corpus(shards, find_token_tables(str(tmp_path / "tokens")), str(tmp_path / "tokens"))
