import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import duckdb
import pytest
import torch
from safetensors.torch import load_file

from pipelines.vocabulary import main
from spae.clip import imagenet_templates, load_clip, prompt_features, require_same_clip
from spae.vocabulary import Vocabulary
from tests.tiny_models import WORDS, causal_clip, hugging_face_clip, save_bert

LONG = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"  # one token of the model, 52 of CLIP's tower of 32
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    bert = save_bert(folder / "bert")
    (folder / "templates.txt").write_text("a photo of a {}.\n\n the {}\n")
    return {
        "llm": str(bert),
        "long": str(save_bert(folder / "long", [*WORDS, LONG])),
        "clip": hugging_face_clip(folder / "clip", bert),
        "causal": causal_clip(folder / "causal"),
        "templates": str(folder / "templates.txt"),
    }


def command(folders, output, *more, llm="llm", clip="clip"):
    names = ("--llm", folders[llm], "--clip", folders[clip], "--templates", folders["templates"])
    return [*names, "--output", str(output), *more]


@pytest.fixture
def finished(folders, tmp_path):
    assert main(command(folders, tmp_path / "vocabulary")) == 0
    return tmp_path / "vocabulary"


def test_the_folder_holds_what_the_model_and_clip_say(folders, finished):
    vocabulary = Vocabulary.load(str(finished))
    lines = (Path(folders["llm"]) / "vocab.txt").read_text().splitlines()
    assert all(lines[token].removeprefix("##") == word for token, word in _pairs(vocabulary))
    rows = next(v for k, v in load_file(Path(folders["llm"]) / "model.safetensors").items() if "word_embeddings" in k)
    exact = rows[vocabulary.llm_ids].double()
    exact = torch.nn.functional.normalize(exact - exact.mean(0), dim=1)
    torch.testing.assert_close(vocabulary.embeddings.double(), exact, atol=1e-6, rtol=0)
    guide = load_clip(folders["clip"])
    features = prompt_features(guide.model, guide.tokenizer, vocabulary.word_list, ["a photo of a {}.", "the {}"])
    torch.testing.assert_close(vocabulary.semantics, features, atol=1e-6, rtol=0)
    require_same_clip(guide, vocabulary.record.semantics)
    assert sum(vocabulary.record.counts.values()) == len(rows)
    assert vocabulary.record.counts["kept"] == len(vocabulary)
    assert sorted(file.name for file in finished.iterdir()) == [
        "embeddings.safetensors",
        "semantics.safetensors",
        "transform.safetensors",
        "vocabulary.json",
        "words.parquet",
    ], "no parts are left"
    assert duckdb.sql(f"select count(*) from '{finished}/words.parquet'").fetchall() == [(len(vocabulary),)]


def _pairs(vocabulary):
    return zip(vocabulary.llm_ids.tolist(), vocabulary.word_list, strict=True)


def test_batches_do_not_matter(folders, finished, tmp_path):
    one = Vocabulary.load(str(finished))
    assert main(command(folders, tmp_path / "other", "--words-per-batch", "3")) == 0
    other = Vocabulary.load(str(tmp_path / "other"))
    torch.testing.assert_close(other.semantics, one.semantics, atol=1e-6, rtol=0)
    assert other.words_fingerprint == one.words_fingerprint
    assert other.semantics_fingerprint == one.semantics_fingerprint


@pytest.mark.slow
def test_two_worker_processes_make_the_same_vocabulary(folders, finished, tmp_path):
    workers = ("--direct_running_mode=multi_processing", "--direct_num_workers=2", "--words-per-batch=4")
    code = subprocess.run(
        [sys.executable, "-m", "pipelines.vocabulary", *command(folders, tmp_path / "other", *workers)],
        cwd=ROOT,
        check=False,
    ).returncode
    assert code == 0
    one, other = Vocabulary.load(str(finished)), Vocabulary.load(str(tmp_path / "other"))
    torch.testing.assert_close(other.semantics, one.semantics, atol=1e-6, rtol=0)
    assert other.words_fingerprint == one.words_fingerprint


def test_without_a_clip_the_words_are_the_same_and_have_no_semantics(folders, finished, tmp_path):
    assert main(["--llm", folders["llm"], "--output", str(tmp_path / "words")]) == 0
    plain, judged = Vocabulary.load(str(tmp_path / "words")), Vocabulary.load(str(finished))
    assert plain.semantics is None
    assert plain.words_fingerprint == judged.words_fingerprint


def test_a_fixed_projection_is_stored_with_the_table_it_leads_to(folders, tmp_path):
    assert main(["--llm", folders["llm"], "--output", str(tmp_path / "words"), "--project-width", "3"]) == 0
    vocabulary = Vocabulary.load(str(tmp_path / "words"))
    assert (vocabulary.width, vocabulary.record.projected_width) == (3, 3)
    rows = next(v for k, v in load_file(Path(folders["llm"]) / "model.safetensors").items() if "word_embeddings" in k)
    led = (rows[vocabulary.llm_ids] - vocabulary.transform["mean"]) @ vocabulary.transform["projection"]
    expected = torch.nn.functional.normalize(led - led.mean(0), dim=1)
    torch.testing.assert_close(vocabulary.embeddings, expected, atol=1e-5, rtol=0)


def test_raw_rows_imagenet_prompts_and_a_store(folders):
    url = f"memory://{uuid.uuid4()}/vocabulary"
    flags = ["--table", "raw", "--templates", "imagenet-80", "--max-words", "3", "--include", "queen"]
    assert main([*command(folders, url, *flags, "--license", "Apache-2.0"), "--source-terms", "none"]) == 0
    vocabulary = Vocabulary.load(url)
    assert vocabulary.word_list == ("the", "cat", "queen")
    assert vocabulary.transform == {}
    assert vocabulary.record.license == "Apache-2.0"
    assert vocabulary.record.semantics.templates == imagenet_templates()
    guide = load_clip(folders["clip"])
    features = prompt_features(guide.model, guide.tokenizer, vocabulary.word_list)
    torch.testing.assert_close(vocabulary.semantics, features, atol=1e-6, rtol=0)


def test_a_word_that_clip_cannot_take_costs_itself_alone(folders, tmp_path, caplog):
    output = tmp_path / "vocabulary"
    flags = ("--whole-words", "--max-error-share", "0.2")
    assert main(command(folders, output, *flags, llm="long")) == 0
    vocabulary = Vocabulary.load(str(output))
    assert LONG not in vocabulary.word_list
    assert set(WORDS) <= set(vocabulary.word_list)
    assert vocabulary.record.counts["refused by CLIP"] == 1
    assert vocabulary.record.dropped_words["refused by CLIP"] == (LONG,)
    rows = [json.loads(line) for line in (output / "errors.jsonl").read_text().splitlines()]
    assert [row["key"] for row in rows] == [LONG]
    assert "more than 32 tokens" in rows[0]["reason"]
    assert main(command(folders, tmp_path / "strict", "--whole-words", llm="long")) == 1
    assert "over --max-error-share 0.01" in caplog.text
    assert not (tmp_path / "strict" / "vocabulary.json").exists()
    assert (tmp_path / "strict" / "errors.jsonl").exists()


def test_a_pilot_is_continued(folders, tmp_path, caplog):
    output = tmp_path / "vocabulary"
    assert main(command(folders, output, "--limit", "10", "--words-per-batch", "4")) == 0
    assert "pilot of 10 of" in caplog.text
    assert not (output / "vocabulary.json").exists()
    assert main(command(folders, output)) == 0
    assert "10 were there before" in caplog.text
    assert Vocabulary.load(str(output)).record.counts["kept"] == len(Vocabulary.load(str(output)))


def test_parts_of_another_clip_or_other_prompts_are_not_used(folders, tmp_path, caplog):
    output = tmp_path / "vocabulary"
    assert main(command(folders, output, "--limit", "10")) == 0
    other = tmp_path / "other.txt"
    other.write_text("{}")
    assert main([*command(folders, output, "--limit", "10"), "--templates", str(other)]) == 0
    assert main(command(folders, output, "--limit", "10", clip="causal")) == 0
    assert caplog.text.count("10 words encoded") == 3
    assert main(command(folders, output, "--limit", "10", "--table", "raw")) == 0
    assert "0 words encoded" in caplog.text, "the table has nothing to do with CLIP"


def test_a_damaged_part_is_made_anew(folders, tmp_path, caplog):
    output = tmp_path / "vocabulary"
    assert main(command(folders, output, "--limit", "10", "--words-per-batch", "5")) == 0
    part = next(output.glob("parts/*/*.safetensors"))
    part.write_bytes(part.read_bytes()[:-3])
    assert main(command(folders, output)) == 0
    assert "is damaged and made anew" in caplog.text
    assert " 5 were there before" in caplog.text


def test_a_finished_vocabulary_is_left_alone(folders, finished, caplog):
    before = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in finished.iterdir()}
    assert main(command(folders, finished)) == 0
    assert "holds this vocabulary" in caplog.text
    assert main(command(folders, finished, "--max-words", "5")) == 2
    assert "holds another vocabulary: max_words; give --replace" in caplog.text
    assert main(command(folders, finished, clip="causal")) == 2
    assert "CLIP weights_sha256" in caplog.text
    assert {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in finished.iterdir()} == before
    assert main(command(folders, finished, "--max-words", "5", "--replace")) == 0
    assert len(Vocabulary.load(str(finished))) == 5


def test_a_damaged_vocabulary_is_replaced_on_demand_only(folders, finished, caplog):
    (finished / "words.parquet").write_bytes(b"")
    assert main(command(folders, finished)) == 2
    assert "damaged" in caplog.text
    assert main(command(folders, finished, "--replace")) == 0
    assert Vocabulary.load(str(finished)).record.counts


def test_a_dry_run_tells_and_writes_nothing(folders, tmp_path, caplog):
    assert main(command(folders, tmp_path / "vocabulary", "--dry-run", "--max-words", "7")) == 0
    assert "7 words x 2 prompts to encode: 14 prompts" in caplog.text
    assert "5 tokens: special" in caplog.text
    assert not (tmp_path / "vocabulary").exists()


def test_an_unwritable_output_is_named_before_any_word_is_encoded(folders, caplog):
    assert main(command(folders, "/proc/nobody/vocabulary")) == 2
    assert "cannot write to" in caplog.text


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--tabel", "raw"], "unknown argument '--tabel'; did you mean --table?"),
        (["--direct_num_worker", "2"], "did you mean --direct_num_workers?"),
        (["--llm", "/no/such/folder"], "no such folder or package"),
        (["--clip", "local-dir:/no/such/folder"], "cannot be loaded"),
        (["--clip", "ViT-L-14"], "needs weights"),
        (["--templates", "/no/such/file"], "neither imagenet-80 nor a file"),
        (["--include", "elephant"], "--include elephant: no token"),
        (["--limit", "0"], "--limit 0 must be at least 1"),
        (["--words-per-batch", "0"], "--words-per-batch 0 must be at least 1"),
        (["--max-error-share", "2"], "must be between 0 and 1"),
        (["--project-width", "0"], "--project-width 0 must be at least 1"),
    ],
)
def test_unusable_arguments_are_named(folders, tmp_path, caplog, flags, reason):
    assert main([*command(folders, tmp_path / "vocabulary"), *flags]) == 2
    assert reason in caplog.text
    assert not (tmp_path / "vocabulary").exists()


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--table", "round"], "invalid choice"),
        (["--table", "learned"], "invalid choice"),
    ],
)
def test_values_that_are_no_choice_are_named(folders, tmp_path, capsys, flags, reason):
    with pytest.raises(SystemExit) as exit_of_parser:
        main([*command(folders, tmp_path / "vocabulary"), *flags])
    assert exit_of_parser.value.code == 2
    assert reason in " ".join(capsys.readouterr().err.replace("│", "").split())


def test_a_run_that_breaks_keeps_what_it_has(folders, tmp_path, monkeypatch, caplog):
    output = tmp_path / "vocabulary"
    publish = Path.write_bytes

    def broken(url, data):
        if url.endswith("vocabulary.json"):
            raise OSError("disk full")
        Path(url).parent.mkdir(parents=True, exist_ok=True)
        publish(Path(url), data)

    monkeypatch.setattr("spae.vocabulary.folder.publish", broken)
    assert main(command(folders, output)) == 1
    assert "give the same command again" in caplog.text
    monkeypatch.undo()
    with pytest.raises(ValueError, match="not a usable vocabulary folder"):
        Vocabulary.load(str(output))
    assert main(command(folders, output)) == 0
    assert any(line.startswith("0 words encoded") for line in caplog.messages), "only the folder had to be written"
    Vocabulary.load(str(output))


@pytest.mark.slow
@pytest.mark.parametrize("place", [(), ("--device=cpu",)], ids=["Beam", "one process"])
def test_a_killed_run_continues(folders, tmp_path, place):
    output = tmp_path / "vocabulary"
    flags = ("--words-per-batch=1", "--templates=imagenet-80", *place)
    line = [sys.executable, "-m", "pipelines.vocabulary", *command(folders, output, *flags)]
    process = subprocess.Popen(line, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        while process.poll() is None and len(list(output.glob("parts/*/*-1.safetensors"))) < 3:
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    kept = {part: hashlib.sha256(part.read_bytes()).digest() for part in output.glob("parts/*/*-1.safetensors")}
    assert len(kept) >= 3
    assert not (output / "vocabulary.json").exists()
    again = subprocess.run(line, cwd=ROOT, check=False, capture_output=True, text=True)
    assert again.returncode == 0
    assert f"{len(kept)} were there before" in again.stderr
    assert len(Vocabulary.load(str(output))) > len(kept)
    assert main(command(folders, tmp_path / "at once", *flags)) == 0
    for file in ("semantics.safetensors", "embeddings.safetensors", "words.parquet"):
        assert (output / file).read_bytes() == (tmp_path / "at once" / file).read_bytes()
