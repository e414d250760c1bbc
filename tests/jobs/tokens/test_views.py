"""Tables of several views of each picture."""

import dataclasses
import io
import logging

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from jobs import reconstruct_shards, remove_samples, tokenize_shards, verify_tokens
from jobs.tokens.views import SMALLEST_SIDE, cut_view, cut_views, view_box
from spae.data.media import decode_image, encode_png
from spae.data.publishing import publish
from spae.data.records import load_index
from spae.data.token_table import VOCABULARY_FILE, find_token_tables, open_token_table, publish_manifest
from spae.evaluation.pictures import encode_in_batches
from spae.model import SPAE
from tests.photographs import photographs
from tests.tiny_shards import write_split
from tests.tiny_tokens import token_job, tokenize_shard

NAME, VIEWS, SEED = "test-000000", 4, 7


@pytest.fixture(scope="module")
def pictures():
    """Photographs of several shapes, small, by key."""
    sizes = [(64, 48), (40, 70), (33, 33)]
    return {
        f"photo-{number}": encode_png(np.asarray(Image.fromarray(pixels).resize(size)))
        for number, (pixels, size) in enumerate(zip(photographs(), sizes, strict=True))
    }


@pytest.fixture(scope="module")
def photos(pictures, tmp_path_factory):
    """A split of these, with one that is none between them."""
    shard = [(key, data, number) for number, (key, data) in enumerate(pictures.items())]
    return write_split(tmp_path_factory.mktemp("photos"), [[shard[0], ("broken", b"broken", 1), *shard[1:]]])


@pytest.fixture(scope="module")
def tables(model, photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    tokenize_shard(view_job(model, folder), load_index(photos).shards[0])
    publish(f"{folder}/{VOCABULARY_FILE}", SPAE.from_pretrained(model).vocabulary.words_parquet())
    publish_manifest(str(folder), find_token_tables(str(folder)))
    return folder


@pytest.fixture
def rows(tables):
    return pq.read_table(tables / f"{NAME}.parquet").to_pylist()


def view_job(model, folder, **changes):
    return dataclasses.replace(token_job(model, folder), views=VIEWS, seed=SEED, **changes)


def words(row):
    return [row[f"layer_{number}"] for number in range(1, 5)]


def test_every_picture_has_its_views_in_order(rows, pictures):
    assert [(row["key"], row["view"]) for row in rows] == [(key, view) for key in pictures for view in range(VIEWS)]
    assert len({(row["key"], row["clip"], row["view"]) for row in rows}) == len(rows)
    assert [row["crop"] for row in rows] == [view_box(SEED, row["key"], row["view"]).tolist() for row in rows]
    assert len({str(words(row)) for row in rows}) > len(pictures), "the views are alike"


def test_the_first_view_is_the_picture_as_in_a_table_without_views(rows, model, photos, tmp_path):
    tokenize_shard(token_job(model, tmp_path), load_index(photos).shards[0])
    plain = pq.read_table(tmp_path / f"{NAME}.parquet").to_pylist()
    assert [(row["key"], row["label"], words(row)) for row in rows if row["view"] == 0] == [
        (row["key"], row["label"], words(row)) for row in plain
    ]


def test_the_words_of_a_view_are_those_of_its_crop_alone(rows, model, pictures):
    """The crop is made of the column as the page says it."""
    spae = SPAE.from_pretrained(model)
    for row in rows:
        picture = Image.open(io.BytesIO(pictures[row["key"]]))
        side = min(picture.size)
        left, right = sorted((row["crop"][0], row["crop"][2]))
        edges = ((picture.width - side) / 2, (picture.height - side) / 2) * 2
        shares = (left, row["crop"][1], right, row["crop"][3])
        crop = picture.crop(tuple(round(edge + share * side) for edge, share in zip(edges, shares, strict=True)))
        if row["view"] == 0:
            crop = picture
        fitted = ImageOps.fit(crop, (16, 16), Image.Resampling.BICUBIC)
        if row["crop"][0] > row["crop"][2]:
            fitted = ImageOps.mirror(fitted)
        pyramid = encode_in_batches(spae, np.asarray(fitted)[None], 4)
        assert words(row) == [layer[0].ravel().tolist() for layer in pyramid.to_arrays()]


def test_samples_are_counted_once(tables, model, photos):
    footer = find_token_tables(str(tables))[NAME].footer
    assert (footer.samples, footer.errors, footer.rows, footer.views) == (4, 1, 3 * VIEWS, VIEWS)
    assert verify_tokens.main([str(tables), "--model", model, "--input", photos]) == 0


def test_parts_of_a_large_shard_give_the_same_table(tables, model, photos, tmp_path):
    tokenize_shard(view_job(model, tmp_path, block_bytes=4 * 16 * 16 * 3), load_index(photos).shards[0])
    assert (tmp_path / f"{NAME}.parquet").read_bytes() == (tables / f"{NAME}.parquet").read_bytes()


def test_readers_of_a_split_get_the_pictures_themselves(tables, model, photos, pictures, rows):
    found = open_token_table(str(tables), load_index(photos).shards[0], SPAE.from_pretrained(model).fingerprint)
    assert found.keys == tuple(pictures)
    assert [layer.ravel().tolist() for layer in found.layers] == [
        [word for row in rows if row["view"] == 0 for word in row[f"layer_{number}"]] for number in range(1, 5)
    ]


def test_reconstruction_refuses(tables, model, tmp_path, caplog):
    flags = ["--model", model, "--tokens", str(tables), "--output", str(tmp_path)]
    assert reconstruct_shards.main(flags) == 2
    assert "holds 4 views of each sample" in caplog.text


def test_views_and_their_seed_are_part_of_what_is_done(tables, model, photos, caplog):
    caplog.set_level(logging.INFO)
    flags = ["--model", model, "--input", photos, "--output", str(tables), "--dry-run", "--views"]
    assert tokenize_shards.main([*flags, str(VIEWS), "--seed", str(SEED)]) == 0
    assert "1 are done" in caplog.text
    for other, name in (([str(VIEWS)], "view_seed"), (["3", "--seed", str(SEED)], "views"), (["1"], "columns")):
        assert tokenize_shards.main([*flags, *other]) == 2
        assert f"has {name}" in caplog.text


def test_a_removed_sample_takes_all_its_views_with_it(tables, tmp_path):
    (tmp_path / "keys.txt").write_text("photo-1\n")
    for path in tables.rglob("*.*"):
        (tmp_path / path.relative_to(tables)).parent.mkdir(exist_ok=True)
        (tmp_path / path.relative_to(tables)).write_bytes(path.read_bytes())
    assert remove_samples.main([str(tmp_path), "--remove", f"{tmp_path}/keys.txt"]) == 0
    footer = find_token_tables(str(tmp_path))[NAME].footer
    assert (footer.removed, footer.rows, footer.samples) == (1, 2 * VIEWS, 4)
    assert verify_tokens.main([str(tmp_path)]) == 0


@given(st.integers(0, 9), st.text(), st.integers(1, 99))
def test_a_box_lies_in_the_picture_and_depends_on_seed_key_and_view(seed, key, view):
    box = view_box(seed, key, view)
    left, right = sorted((box[0], box[2]))
    assert box.dtype == np.float32
    assert 0 <= left < right <= 1
    assert 0 <= box[1] < box[3] <= 1
    assert right - left == pytest.approx(box[3] - box[1], abs=1e-6)
    assert right - left > SMALLEST_SIDE - 1e-6
    assert np.array_equal(box, view_box(seed, key, view))
    for other in ((seed + 1, key, view), (seed, f"{key}.", view), (seed, key, view + 1)):
        assert not np.array_equal(box, view_box(*other))


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 2)])
def test_pictures_of_a_few_pixels_have_views(shape):
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    views = cut_views("key", picture, (16, 16), 9, 0)
    assert {view.shape for view in views} == {(16, 16, 3)}


def test_a_mirrored_view_is_the_mirror_image_of_its_crop(pictures):
    picture = decode_image(pictures["photo-0"])
    box = np.array([0.1, 0.2, 0.8, 0.9], np.float32)
    mirrored = cut_view(picture, box[[2, 1, 0, 3]], (16, 16))
    assert np.array_equal(mirrored, cut_view(picture, box, (16, 16))[:, ::-1])
