import html
import json
import re
import shutil

import duckdb
import pytest
from PIL import Image

from jobs import evaluate, incontext, report
from jobs.reporting.page import CAVEAT, SQL
from spae.incontext.episodes import read_episodes
from tests import tiny_spae
from tests.tiny_shards import CLASSES, samples, write_split
from tests.tiny_tokens import tokenize_split


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder as the demo leaves it, small."""
    root = tmp_path_factory.mktemp("demo")
    tiny_spae.model().save_pretrained(str(root / "model"))
    tiny_spae.model(seed=1).save_pretrained(str(root / "baseline"))
    split = write_split(root / "shards/test", [samples(7), samples(6, seed=1)])
    tokenize_split(str(root / "model"), split, root / "tokens")
    scores = {}
    for name in ("model", "baseline"):
        flags = {"--model": name, "--shards": "shards/test", "--output": f"scores/{name}.json"}
        paths = [part for flag, path in flags.items() for part in (flag, str(root / path))]
        assert evaluate.main([*paths, "--judges", "tiny", "--judged-layers", "4", "--examples", "1"]) == 0
        scores[name] = json.loads((root / f"scores/{name}.json").read_text())
    (root / "metrics.json").write_text(json.dumps({**scores, "seconds": {"Train <it>": 3.0, "Score": 1.5}}))
    (root / "model-run").mkdir()
    rows = [{"step": step, "pixel": 1 / step} for step in (1, 2, 3)]
    (root / "model-run/history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


@pytest.fixture(scope="module")
def reading(demo):
    """Answers of the reference without weights about the demo's pictures."""
    places = {"--model": "model", "--shards": "shards/test", "--support-shards": "shards/test", "--output": "incontext"}
    arguments = [part for flag, path in places.items() for part in (flag, str(demo / path))]
    cells = ("--settings", "2-way-1-shot", "2-way-1-shot+shuffled-words", "--episodes", "4")
    assert incontext.main([*arguments, "--llm", "nearest-context", *cells]) == 0
    return read_episodes(str(demo / "incontext/few-shot-made-up/2-way-1-shot/episodes-000000.parquet"))[0]


@pytest.fixture(scope="module")
def page(demo, reading):
    assert report.main(["--demo", str(demo), "--examples", "4"]) == 0
    return (demo / "report.html").read_text()


def test_the_picture_is_a_png(page, demo):
    with Image.open(demo / "report.png") as picture:
        assert picture.width > 1000
        darkest, lightest = picture.convert("L").getextrema()
        assert darkest < 40 < 250 < lightest


def test_the_page_needs_nothing_else(page):
    assert not re.search(r"<script|src=['\"](?!data:)|href=", page)
    assert page.count("data:image/png;base64,") == 4, "words, usage, the baseline's words, curves"


def test_models_stand_beside_each_other_with_the_caveat(page, demo):
    scores = json.loads((demo / "metrics.json").read_text())
    for name in ("model", "baseline"):
        assert f"{scores[name]['layers'][3]['psnr']:.2f} dB" in page
    assert "<th>with semantic loss</th><th>without semantic loss</th>" in page
    assert html.escape(CAVEAT) in page
    assert scores["model"]["protocol"]["model_fingerprint"] in page
    assert "layers 1 to 4: Frechet distance (random network) by tiny" in page
    assert "Judge tiny: random weights of seed 0; uint8, x / 127.5 - 1. Its figures compare with nothing." in page


def test_words_are_those_of_the_token_table(page, demo):
    keys = re.findall(r"<td class='key'>([^<]+)</td>", page)
    assert len(keys) == 4
    rows = duckdb.sql(SQL.format(tokens=demo / "tokens")).fetchall()
    first = {key: (label, word) for key, label, word in rows}
    assert len(first) == 13
    for key in keys:
        label, word = first[key]
        assert re.search(
            rf"<td>{CLASSES[label]}</td><td class='key'>{key}</td><td><table><tr><td( class=hit)?>{word}</td></tr>",
            page,
        )
    assert {first[key][0] for key in keys} == {0, 1, 2}, "as many classes as there are"


def test_what_the_language_model_read_is_shown_whole(page, demo, reading):
    summary = json.loads((demo / "incontext/summary.json").read_text())["few-shot-made-up"]
    assert all(f"<td>{name}</td><td>{one['mean']:.1%} [" in page for name, one in summary.items())
    shown = re.findall(r"<pre class='prompt'>(.*?) <b>(.*?)</b></pre>", page, re.DOTALL)
    assert [html.unescape(prompt) for prompt, _ in shown] == [row.prompt for row in reading if row.query == 0][:3]
    assert [answer for _, answer in shown] == [row.answer for row in reading if row.query == 0][:3]


def test_what_stages_are_called_cannot_break_the_page(page):
    assert "Train &lt;it&gt; 3 s; Score 2 s; 4 s in all" in page


def test_what_is_missing_is_said(demo, tmp_path, caplog):
    for name in ("model", "tokens", "shards"):
        shutil.copytree(demo / name, tmp_path / name)
    assert report.main(["--demo", str(tmp_path)]) == 0
    assert "metrics.json does not exist" in caplog.text
    assert "baseline holds no model" in caplog.text
    page = (tmp_path / "report.html").read_text()
    assert "metrics.json does not exist" in page
    assert page.count("data:image/png;base64,") == 2
    (tmp_path / "metrics.json").write_text('{"model": {"samples": 3}}')
    assert report.main(["--demo", str(tmp_path)]) == 0
    assert "holds no scores of the baseline" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(("missing", "message"), [("model", "neither a folder"), ("tokens", "does not exist")])
def test_without_model_or_tokens_there_is_no_report(demo, tmp_path, caplog, missing, message):
    for name in {"model", "tokens", "shards"} - {missing}:
        shutil.copytree(demo / name, tmp_path / name)
    assert report.main(["--demo", str(tmp_path)]) == 2
    assert message in caplog.text
    assert not (tmp_path / "report.html").exists()
