"""References that see pictures alone, on the episodes of everyone."""

import json

import numpy as np
import pytest

from jobs.episodes.pictures import SplitPictures
from jobs.episodes.references import REFERENCES, KMeansWords, RawPixels
from spae.data.media import decode_image
from tests.jobs.episodes.runs import SETTING, pictures, rows, run
from tests.tiny_shards import samples, write_split

TASK = "few-shot-made-up"


@pytest.mark.parametrize("name", REFERENCES)
def test_the_nearest_picture_says_the_name(folder, model, tmp_path, name):
    permuted = "2-way-3-shot+permuted-labels"
    flags = ("--llm", name, "--episodes", "30", "--settings", SETTING, permuted)
    assert run(folder, model, tmp_path / "one", *flags) == 0
    found = json.loads((tmp_path / "one/summary.json").read_text())
    assert found[TASK][SETTING]["mean"] == 1.0
    assert found[TASK][permuted]["low"] < 0.5 < found[TASK][permuted]["high"]
    assert run(folder, model, tmp_path / "two", *flags) == 0
    assert rows(tmp_path / "one") == rows(tmp_path / "two")
    assert run(folder, model, tmp_path / "words", *flags[2:]) == 0
    keys = ("episode", "query", "query_key", "support_keys", "prompt", "target")
    assert [[row[key] for key in keys] for row in rows(tmp_path / "one")] == [
        [row[key] for key in keys] for row in rows(tmp_path / "words")
    ]


def test_what_they_do_not_see_is_refused(folder, model, tmp_path, caplog):
    assert run(folder, model, tmp_path, "--llm", "raw-pixels", "--settings", f"{SETTING}+shuffled-words") == 2
    assert "raw-pixels sees pictures, and +shuffled-words changes words" in caplog.text
    with pytest.raises(SystemExit, match="2"):
        run(folder, model, tmp_path, "--llm", "raw-pixels", "--workers", "1")
    assert not list(tmp_path.iterdir())


def test_pictures_are_read_by_their_ranges(tmp_path):
    shards = [samples(5, 0), samples(4, 1)]
    split = SplitPictures(write_split(tmp_path, shards), (16, 16))
    everything = {key: decode_image(media) for shard in shards for key, media, _ in shard}
    assert split.keys == list(everything)
    keys = split.keys[::-2]
    assert np.array_equal(split.read(keys), np.stack([everything[key] for key in keys]))


def test_a_damaged_tar_is_named(tmp_path):
    write_split(tmp_path, [samples(5)])
    tar = tmp_path / "test-000000.tar"
    tar.write_bytes(b"x" * 2000)
    with pytest.raises(ValueError, match=r"test-000000.tar is damaged: .*--repair"):
        SplitPictures(str(tmp_path), (16, 16))


def test_pixels_and_words_have_the_stated_size(tmp_path):
    split = SplitPictures(write_split(tmp_path, [pictures(4, "a")]), (16, 16))
    pixels = split.read(split.keys)
    assert RawPixels().features(pixels).shape == (12, 16 * 16 * 3)
    histograms = KMeansWords(split, ((1, 1), (2, 2))).features(pixels)
    assert (histograms.sum(1) == 5).all(), "as many words a picture as two layers have"
    same = np.unique(histograms.reshape(4, 3, -1), axis=0)
    assert len(same) == 1, "the same picture has the same words"
    assert len(np.unique(same[0], axis=0)) == 3, "and other pictures others"
