"""What is shipped is the demo's model, with a record that leads back to the demo."""

import hashlib
import io
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import spae
from jobs import evaluate
from jobs.demo import SPLIT_SEED
from jobs.demos import ship
from spae import SPAE
from spae.data.sources.digits import DigitsSource
from tests import tiny_models, tiny_spae

SHIPPED = Path(spae.__file__).parent / "pretrained/digits/record.json"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder as the demo leaves it, small."""
    root = tmp_path_factory.mktemp("demo")
    tiny_spae.model().save_pretrained(str(root / "model"))
    split = tiny_models.save_digit_split(root / "shards/test", "test", limit=12)
    flags = {"--model": str(root / "model"), "--shards": split, "--output": str(root / "score.json")}
    assert evaluate.main([part for flag in flags.items() for part in flag]) == 0
    (root / "metrics.json").write_text(json.dumps({"model": json.loads((root / "score.json").read_text())}))
    (root / "model-run").mkdir()
    (root / "model-run/config.json").write_text(json.dumps({"config": {"steps": 7}}))
    return root


def test_the_folder_is_the_model_and_its_record(demo, tmp_path):
    output = tmp_path / "made" / "digits"
    assert ship.main(["--demo", str(demo), "--output", str(output)]) == 0
    record = json.loads((output / "record.json").read_text())
    assert SPAE.from_pretrained(str(output)).fingerprint == record["model_fingerprint"] == tiny_spae.model().fingerprint
    assert record["command"] == "python -m jobs.demo --steps 7"
    assert record["scores"]["samples"] == 12
    files = {path.relative_to(output).as_posix(): path.read_bytes() for path in output.rglob("*") if path.is_file()}
    del files["record.json"]
    assert record["files"] == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    assert str(tmp_path) not in json.dumps(record)
    assert str(demo) not in json.dumps(record)
    before = (output / "record.json").read_bytes()
    assert ship.main(["--demo", str(demo), "--output", str(output)]) == 0
    assert (output / "record.json").read_bytes() == before


def test_scores_of_another_model_are_not_shipped(demo, tmp_path, caplog):
    shutil.copytree(demo, tmp_path / "demo")
    tiny_spae.model(seed=1).save_pretrained(str(tmp_path / "demo/model"))
    assert ship.main(["--demo", str(tmp_path / "demo"), "--output", str(tmp_path / "out")]) == 2
    assert "are the scores of" in caplog.text
    assert ship.main(["--demo", str(tmp_path / "none"), "--output", str(tmp_path / "out")]) == 2
    assert "in which `python -m jobs.demo` has finished" in caplog.text
    assert not (tmp_path / "out").exists()


@pytest.mark.nightly
def test_the_demo_made_anew_gives_the_shipped_model(tmp_path):
    """Bit for bit where the processor computes alike; elsewhere the words and the scores agree."""
    record = json.loads(SHIPPED.read_text())
    command = [sys.executable, *shlex.split(record["command"])[1:], "--output", str(tmp_path)]
    subprocess.run(command, check=True)
    shipped, made = SPAE.from_pretrained("digits"), SPAE.from_pretrained(str(tmp_path / "model"))
    assert made.vocabulary.words_fingerprint == record["words_fingerprint"]
    if made.fingerprint == record["model_fingerprint"]:
        return
    source = DigitsSource("test", SPLIT_SEED)
    pictures = [Image.open(io.BytesIO(source.read(entry, 1 << 20))) for entry in source.entries()]
    alike = shipped.encode(pictures).layers[0] == made.encode(pictures).layers[0]
    assert alike.double().mean() >= 0.99
    scores, recorded = json.loads((tmp_path / "metrics.json").read_text())["model"], record["scores"]
    assert scores["first_word"]["share"] == pytest.approx(recorded["first_word"]["share"], abs=0.02)
    assert scores["layers"][-1]["psnr"] == pytest.approx(recorded["layers"][-1]["psnr"], abs=0.5)
