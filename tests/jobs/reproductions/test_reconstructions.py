"""Tables of reconstructions, of a small model on a small split."""

import dataclasses
import json

import pytest

from jobs import reproduce
from spae.model import SPAE
from tests import tiny_spae
from tests.tiny_shards import samples, write_split


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("reconstructions")
    tiny_spae.model().save_pretrained(str(root / "model"))
    return root, ("--model", str(root / "model"), "--shards", write_split(root / "test", [samples(6)]))


def cells(folder, name):
    document = json.loads((folder / f"{name}.json").read_text())
    return {(cell["layers"], cell["column"]): cell for cell in document["cells"]}


def test_own_judges_stand_under_their_own_names(places):
    root, flags = places
    judged = ("--judges", "tiny", "--examples", "1", "--batch", "4")
    assert reproduce.main(["tab2", "--layers", "2", "4", "--output", str(root / "paper"), *flags, *judged]) == 0
    found = cells(root / "paper", "tab2")
    assert {layers for layers, _ in found} == {2, 4}
    cell = found[4, "Frechet distance (random network), tiny"]
    assert (cell["count"], cell["published"]) == (6, {})
    assert cell["value"] > 0
    text = (root / "paper" / "tab2.md").read_text()
    assert "| judges | Inception-v3 of TensorFlow; LPIPS, its network not told | tiny (" in text
    assert "| SSIM | 0." in text


def test_the_papers_figures_stand_beside_figures_of_the_same_name():
    from jobs.reproductions import tab2, tab4

    row = {"layer": 6, "psnr": 20.0, "ssim": 0.5, "clip_score_so_far": 0.16}
    row["judges"] = {"inception-v3": {"FID": 5.0}, "lpips-vgg": {"LPIPS (VGG16)": 0.2}, "other": {"FID-like": 1.0}}
    for table in (tab2.TABLE, tab4.TABLE):
        document = {"samples": 9, "layers": [{"layer": 1}, row]}
        found = {cell.column: cell for cell in table.cells(table.runs(reproduce.Inputs())[0], document, "")}
        assert found["FID"].differences["SPAE, 128"] == pytest.approx(0.59)
        assert found["LPIPS (VGG16)"].published["SPAE, 128"] == 0.12
        assert not found["FID-like, other"].published
    assert found["CLIP score"].differences["SPAE, 128"] == pytest.approx(0.0023)


def test_figure_4_counts_the_words_of_the_first_layers_and_draws_them(places, tmp_path):
    _, flags = places
    assert reproduce.main(["fig4", "--output", str(tmp_path), "--batch", "4", *flags]) == 0
    found = cells(tmp_path, "fig4")
    assert sorted({layers for layers, _ in found}) == [1, 2, 3, 4]
    assert found[1, "words in use"]["value"] <= 6
    for name in ("scores-pictures.png", "scores-words.png"):
        assert (tmp_path / "scores" / name).read_bytes().startswith(b"\x89PNG")
        assert name in (tmp_path / "fig4.md").read_text()


def test_layers_that_the_model_lacks_are_told(places, tmp_path):
    _, flags = places
    assert reproduce.main(["tab4", "--output", str(tmp_path), *flags]) == 2


@pytest.fixture(scope="module")
def rows(places):
    """What `jobs.ablate` leaves of two rows: the pyramid's model, and one of two full layers."""
    root, flags = places
    tiny_spae.model().save_pretrained(str(root / "rows/models/pyramid-0"))
    config = dataclasses.replace(tiny_spae.CONFIG, grids=((4, 4), (4, 4)), quantizer="residual")
    SPAE(config, tiny_spae.vocabulary()).eval().save_pretrained(str(root / "rows/models/rq-2-0"))
    return ("--models", str(root / "rows"), *flags[2:], "--batch", "4")


def test_the_other_rows_of_table_4_are_other_models(rows, tmp_path):
    assert reproduce.main(["tab4", "--layers", "1", "4", "--output", str(tmp_path), *rows]) == 0
    document = json.loads((tmp_path / "tab4.json").read_text())["cells"]
    found = {(cell["row"], cell["layers"], cell["column"]): cell for cell in document}
    assert found["pyramid", 4, "PSNR, dB"]["value"] > 0
    assert found["rq-2", 1, "PSNR, dB"]["value"] != found["rq-2", 2, "PSNR, dB"]["value"]
    assert "vq-0" in found["vq", 1, "all"]["reason"], "a model that is not there leaves a cell that says so"
    assert "## rq-2, 2 layers" in (tmp_path / "tab4.md").read_text()


def test_every_row_of_table_4_that_the_paper_prints_is_a_model_that_can_be_trained():
    from jobs.reproductions import tab4
    from spae.ablations import PAPER_ROWS

    runs = tab4.TABLE.runs(reproduce.Inputs(models="rows"))
    assert [run.row for run in runs] == ["pyramid", *(row for row in PAPER_ROWS if row != "pyramid")]
    row = {"layer": 2, "psnr": 9.0, "ssim": None, "judges": {"inception-v3": {"FID": 6.0}}}
    (run,) = (run for run in runs if run.row == "rq-2")
    (cell,) = (one for one in tab4.TABLE.cells(run, {"samples": 9, "layers": [row]}, "") if one.column == "FID")
    assert cell.differences == {"the paper, 128": pytest.approx(-0.05)}


def test_figure_8_shows_every_row_that_is_there(rows, tmp_path):
    assert reproduce.main(["fig8", "--layers", "4", "--output", str(tmp_path), *rows]) == 0
    text = (tmp_path / "fig8.md").read_text()
    for row, layers in (("pyramid", 4), ("rq-2", 2)):
        assert f"## {row}, {layers} layers\n\n![{row}](scores-{row}/scores-pictures.png)" in text
        assert (tmp_path / f"scores-{row}/scores-pictures.png").read_bytes().startswith(b"\x89PNG")
    assert "scores-vq/" not in text


def test_one_model_or_those_of_all_rows(rows, places, tmp_path, caplog):
    assert reproduce.main(["tab4", "--output", str(tmp_path), *rows, *places[1][:2]]) == 2
    assert "--models and --model are two ways" in caplog.text
    assert reproduce.main(["tab2", "--output", str(tmp_path), *rows]) == 2
    assert "the table has one row" in caplog.text
