import json
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import torch

from jobs.demos.clip import CAPTIONS, Digits, jitter, main, read_digits
from spae.clip import load_clip, prompt_features
from tests.tiny_models import save_bert, save_digit_split

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    bert = save_bert(folder / "bert")
    return {
        "train": save_digit_split(folder / "train", "train", 200),
        "val": save_digit_split(folder / "val", "val", 60),
        "text": str(bert),
    }


@pytest.fixture(autouse=True)
def same_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def command(splits, output, *more):
    flags = [f"--{name}={value}" for name, value in splits.items()]
    return [*flags, f"--output={output}", "--steps=3", "--minimum-accuracy=0", *more]


def test_the_folder_loads_as_any_clip(splits, tmp_path):
    assert main(command(splits, tmp_path)) == 0
    name = f"local-dir:{tmp_path}"
    model, tokenizer = open_clip.create_model(name, require_pretrained=True).eval(), open_clip.get_tokenizer(name)
    guide = load_clip(name)
    assert guide.image_size == 32
    ids = tokenizer([caption.format("seven") for caption in CAPTIONS])
    with torch.no_grad():
        expected = model.encode_text(ids, normalize=True).mean(0)
    features = prompt_features(guide.model, guide.tokenizer, ["seven"], CAPTIONS)
    torch.testing.assert_close(features[0], expected, atol=1e-6, rtol=0)
    bert = save_bert(tmp_path / "again")
    frozen = open_clip.hf_model.HFTextEncoder(str(bert), 32, pooler_type="mean_pooler")
    ours = model.text.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in frozen.state_dict().items()), "no text weight moved"


def test_a_seed_decides_the_weights(splits, tmp_path):
    for output, seed in (("one", 0), ("same", 0), ("other", 1)):
        assert main(command(splits, tmp_path / output, f"--seed={seed}")) == 0
    one, same, other = (load_clip(f"local-dir:{tmp_path / name}").weights_sha256 for name in ("one", "same", "other"))
    assert one == same
    assert one != other


def test_training_sees_no_val_and_no_held_out_label(splits, tmp_path, monkeypatch, caplog):
    seen = []

    def record(model, digits, captions, config):
        seen.append((len(digits.labels), set(digits.labels.tolist())))

    monkeypatch.setattr("jobs.demos.clip.train_image_tower", record)
    assert main(command(splits, tmp_path / "all")) == 0
    assert main(command(splits, tmp_path / "fewer", "--hold-out=3,7")) == 0
    labels = read_digits(splits["train"]).labels
    assert seen[0] == (len(labels), set(range(10)))
    assert seen[1] == (int(((labels != 3) & (labels != 7)).sum()), set(range(10)) - {3, 7})
    val = read_digits(splits["val"]).labels
    assert f"of {int(((val != 3) & (val != 7)).sum())} digits" in caplog.text


def test_a_finished_clip_is_left_alone(splits, tmp_path, caplog):
    assert main(command(splits, tmp_path)) == 0
    weights = tmp_path / "open_clip_model.safetensors"
    before = weights.stat().st_mtime_ns
    assert main(command(splits, tmp_path)) == 0
    assert "holds this CLIP already" in caplog.text
    assert main(command(splits, tmp_path, "--seed=5")) == 2
    assert "give --replace" in caplog.text
    assert weights.stat().st_mtime_ns == before
    others = ("--seed=5", "--captions", "a scan of {}.")
    assert main(command(splits, tmp_path, *others, "--replace")) == 0
    assert main(command(splits, tmp_path, *others)) == 0, "captions of one's own are known again"
    assert json.loads((tmp_path / "open_clip_config.json").read_text())["training"]["seed"] == 5


@pytest.mark.parametrize(
    ("flags", "status", "reason"),
    [
        (["--train=/no/such/split"], 2, "/no/such/split/index.json does not exist"),
        (["--text=no_such_package"], 2, "text='no_such_package' is neither"),
        (["--hold-out=three"], 2, "three"),
        (["--hold-out=0,1,2,3,4,5,6,7,8,9"], 2, "nothing is left"),
        (["--minimum-accuracy=1.1"], 1, "below --minimum-accuracy 1.10"),
    ],
)
def test_what_does_not_work_is_named(splits, tmp_path, caplog, flags, status, reason):
    assert main(command(splits, tmp_path / "clip", *flags)) == status
    assert reason in caplog.text


def test_jitter_moves_pictures_a_little_and_each_in_its_own_way():
    picture = torch.zeros(1, 3, 32, 32)
    picture[..., 8:24, 12:20] = 1
    moved = jitter(picture.expand(64, 3, 32, 32), torch.Generator().manual_seed(0))
    assert moved.shape == (64, 3, 32, 32)
    assert 0 <= float(moved.min()) <= float(moved.max()) <= 1
    overlap = (moved * picture).sum((1, 2, 3)) / picture.sum()
    assert float(overlap.min()) > 0.5
    assert len({tuple(one.flatten().tolist()) for one in moved}) == 64


def test_digits_are_read_whole(splits):
    digits = read_digits(splits["train"])
    assert isinstance(digits, Digits)
    assert digits.pixels.shape == (200, 3, 32, 32)
    assert digits.pixels.dtype == torch.uint8
    assert digits.names[7] == "seven"


@pytest.mark.nightly
def test_the_demos_clip_knows_the_digits_in_a_fresh_process(tmp_path):
    splits = {split: save_digit_split(tmp_path / split, split) for split in ("train", "val")}
    flags = [f"--{name}={url}" for name, url in splits.items()]
    output = subprocess.run(
        [sys.executable, "-m", "jobs.demos.clip", *flags, f"--output={tmp_path / 'clip'}"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    accuracy = float(output.stderr.split("zero-shot accuracy on val: ")[1].split()[0])
    assert accuracy >= 0.96
