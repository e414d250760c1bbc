"""Words as a step of a Ray Data pipeline, and of a real one."""

import subprocess
import sys

import duckdb
import numpy as np
import pytest
import torch
from PIL import Image

from jobs.tokens.ray_data import PicturesToWords
from spae.evaluation.pictures import channels_first
from spae.model import SPAE


@pytest.fixture
def threads():
    """Actors compute with one thread; the tests' own number comes back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def pixels(count):
    return np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("layers", [None, 2])
def test_columns_are_the_models_words_and_all_others(model, layers):
    names = np.array([f"{n}.png" for n in range(5)])
    columns = PicturesToWords(model, layers=layers, batch=5)({"image": pixels(5), "path": names})
    expected = SPAE.from_pretrained(model).encode(channels_first(pixels(5))).layers[:layers]
    assert set(columns) == {"path", *(f"layer_{n + 1}" for n in range(len(expected)))}
    assert (columns["path"] == names).all()
    for number, ids in enumerate(expected, 1):
        assert columns[f"layer_{number}"].dtype == np.int32
        assert (columns[f"layer_{number}"] == ids.flatten(1).numpy()).all()


@pytest.mark.usefixtures("threads")
def test_neither_neighbours_nor_the_pipelines_batch_change_words(model):
    step = PicturesToWords(model, batch=4)
    whole = step({"image": pixels(7)})["layer_4"]
    assert (np.concatenate([step({"image": pixels(7)[n : n + 1]})["layer_4"] for n in range(7)]) == whole).all()


@pytest.mark.usefixtures("threads")
def test_what_does_not_fit_says_what_would(model):
    with pytest.raises(ValueError, match=r"uint8 of \(8, 8, 3\), and the model takes uint8 of \(16, 16, 3\)"):
        PicturesToWords(model)({"image": pixels(2)[:, :8, :8]})
    with pytest.raises(ValueError, match="layers"):
        PicturesToWords(model, layers=9)


PIPELINE = """
import sys, ray
from jobs.tokens.ray_data import PicturesToWords
ray.init(num_cpus=2, include_dashboard=False)
images = ray.data.read_images(sys.argv[1], size=(16, 16), mode="RGB", include_paths=True)
words = images.map_batches(
    PicturesToWords, fn_constructor_kwargs={"model": sys.argv[2], "batch": 4}, batch_size=4, concurrency=1, num_cpus=1
)
words.write_parquet(sys.argv[3])
"""


@pytest.mark.slow
def test_a_real_pipeline_writes_them_as_parquet(model, tmp_path):
    (tmp_path / "photos").mkdir()
    for number, picture in enumerate(pixels(9)):
        Image.fromarray(picture).save(tmp_path / f"photos/{number}.png")
    places = [str(tmp_path / "photos"), model, str(tmp_path / "words")]
    subprocess.run([sys.executable, "-c", PIPELINE, *places], check=True, timeout=400)
    found = duckdb.sql(f"SELECT path, layer_1 FROM '{tmp_path}/words/*.parquet' ORDER BY path").fetchall()
    first = SPAE.from_pretrained(model).encode(channels_first(pixels(9))).layers[0].flatten().tolist()
    assert [(path.rsplit("/", 1)[-1], list(ids)) for path, ids in found] == [
        (f"{number}.png", [word]) for number, word in enumerate(first)
    ]
