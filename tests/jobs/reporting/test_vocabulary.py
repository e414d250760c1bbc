import dataclasses
import re

import torch

from jobs import report
from spae.vocabulary import Vocabulary
from tests.tiny_spae import vocabulary


def test_the_page_and_the_text_tell_the_same(tmp_path, capsys):
    folder = tmp_path / "vocabulary"
    shown = vocabulary()
    shown.save(str(folder))
    words = shown.word_list[:2]
    assert report.main(["vocabulary", str(folder), "--words", *words]) == 0
    text, page = capsys.readouterr().out, (folder / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert not re.search(r"<script|src=['\"](?!data:)|href=", page)
    for fact in (shown.words_fingerprint, shown.record.llm, f"{len(shown)}, rows of width {shown.width}"):
        assert fact in text
        assert fact in page
    for word in words:
        assert f"<th>{word}</th>" in page
        assert re.search(rf"^{word} .*embedding: ", text, re.MULTILINE)
    Vocabulary.load(str(folder))


def test_words_that_were_dropped_are_named_by_reason(tmp_path, capsys):
    shown, folder = vocabulary(), tmp_path / "vocabulary"
    counts, lost = {"kept": len(shown), "norm outlier": 2, "special": 5}, {"norm outlier": ("ashton", "<b>")}
    record = dataclasses.replace(shown.record, counts=counts, dropped_words=lost)
    dataclasses.replace(shown, record=record).save(str(folder))
    assert report.main(["vocabulary", str(folder)]) == 0
    text, page = capsys.readouterr().out, (folder / "report.html").read_text()
    assert re.search(r"^tokens: norm outlier +2, as ashton, <b>$", text, re.MULTILINE)
    assert re.search(r"^tokens: special +5$", text, re.MULTILINE)
    assert "2, as ashton, &lt;b&gt;" in page


def test_neighbours_are_the_nearest_by_cosine(tmp_path, capsys):
    shown = vocabulary()
    unit = torch.nn.functional.normalize(shown.embeddings, dim=1)
    nearest = (unit @ unit[3]).argsort(descending=True)[1:4].tolist()
    folder, page = tmp_path / "vocabulary", tmp_path / "page.html"
    shown.save(str(folder))
    assert report.main(["vocabulary", str(folder), "--output", str(page), "--words", shown.word_list[3]]) == 0
    expected = ", ".join(shown.word_list[row] for row in nearest)
    assert f"embedding: {expected}" in capsys.readouterr().out
    assert page.is_file()
    assert not (folder / "report.html").exists()


def test_what_cannot_be_shown_is_named(tmp_path, caplog):
    assert report.main(["vocabulary", str(tmp_path / "none")]) == 2
    assert "not a usable vocabulary folder" in caplog.text
    vocabulary().save(str(tmp_path / "vocabulary"))
    assert report.main(["vocabulary", str(tmp_path / "vocabulary"), "--words", "no-such-word"]) == 2
    assert "--words no-such-word: the vocabulary's" in caplog.text
