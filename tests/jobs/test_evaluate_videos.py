"""Scores of a video model on real clips of digits that move."""

import dataclasses
import json

import pytest
import torch

from jobs.evaluate import main as evaluate
from spae.data.augmentation import load_pictures
from spae.data.mp4 import encode_mp4
from spae.data.records import load_index
from spae.data.tar import read_samples
from spae.judges.catalogue import load_judge
from spae.judges.i3d import I3DNetwork
from spae.judges.tiny import FIGURES, TinyJudge
from spae.model import SPAE
from tests import tiny_spae
from tests.tiny_shards import write_split
from tests.videos import frames_of, moving_digit

CLIPS, FRAMES = 6, 12
CONFIG = dataclasses.replace(
    tiny_spae.CONFIG, input_size=(FRAMES, 16, 16), grids=((1, 1, 1), (1, 2, 2), (1, 4, 4), (3, 4, 4))
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random video model and a split of two shards."""
    made = tmp_path_factory.mktemp("videos")
    torch.manual_seed(0)
    SPAE(CONFIG, tiny_spae.vocabulary()).save_pretrained(str(made / "model"))
    clips = [
        (f"v{number}", encode_mp4(frames_of(moving_digit(FRAMES, number, 32), 12.5), rate=12.5, crf=18), number % 3)
        for number in range(CLIPS)
    ]
    write_split(made / "test", [clips[:4], clips[4:]], suffix="mp4")
    return made


def run(folder, *flags, batch=4):
    own = ["--model", str(folder / "model"), "--shards", str(folder / "test"), "--output", str(folder / "score.json")]
    return evaluate([*own, "--batch", str(batch), *flags])


@pytest.fixture(scope="module")
def score(folder):
    assert run(folder, "--judges", "tiny", "--examples", "2") == 0
    return json.loads((folder / "score.json").read_text())


@pytest.fixture(scope="module")
def rebuilt(folder):
    """Originals uint8 and what all words rebuild, rounded and not, of the whole split."""
    media = [one.media for shard in load_index(str(folder / "test")).shards for one in read_samples(shard.url)]
    originals, model = load_pictures(media, CONFIG.input_size), SPAE.from_pretrained(str(folder / "model"))
    pictures = model.decode(model.encode(originals))
    return originals, (pictures * 255).round().byte(), pictures


def frechet(one, other):
    """Of features (N, E): where S = A' A, the trace of (S1 S2)^(1/2) is the sum of the singular values of A1 A2'."""
    means = [part.double().mean(0) for part in (one, other)]
    first, second = (
        (part.double() - mean) / (len(part) - 1) ** 0.5 for part, mean in zip((one, other), means, strict=True)
    )
    shared = torch.linalg.svdvals(first @ second.T).sum()
    return float((means[0] - means[1]).square().sum() + first.square().sum() + second.square().sum() - 2 * shared)


def test_a_judge_of_pictures_sees_each_frame_by_itself(score, rebuilt):
    judge = TinyJudge()
    views = [judge(clips.transpose(1, 2).flatten(0, 1)) for clips in rebuilt[:2]]
    found = score["layers"][3]["judges"]["tiny"]
    assert found[FIGURES["distance"]] == pytest.approx(float(judge.distances(*views).mean()), rel=1e-5)
    expected = frechet(*(view.features for view in views))
    assert found[FIGURES["frechet"]] == pytest.approx(expected, rel=1e-3)
    assert score["layers"][3]["ssim"] is not None


def test_every_frame_has_its_psnr_in_every_number_of_layers(score, rebuilt):
    originals, _, pictures = rebuilt
    errors = (originals.double() / 255 - pictures.double()).square().mean((0, 1, 3, 4))
    assert score["layers"][3]["psnr_frames"] == pytest.approx((-10 * errors.log10()).tolist(), rel=1e-5)
    for layer in score["layers"]:
        squares = [10 ** (-value / 10) for value in layer["psnr_frames"]]
        assert len(squares) == FRAMES
        assert sum(squares) / FRAMES == pytest.approx(layer["mean_squared_error"])


def test_the_protocol_tells_which_clips_were_scored(score, folder):
    clips = score["protocol"]["clips"]
    assert clips["choice"] == "one a video, in its middle"
    assert (clips["frames"], clips["stride"], clips["frames_per_second"]) == (FRAMES, 1, [12.5, 12.5])
    assert "each frame by itself" in score["protocol"]["judged"]
    text = (folder / "score.md").read_text()
    assert "| layers | frame 1 |" in text
    assert "frames_per_second 12.5; 12.5" in text
    assert (folder / "score-pictures.png").read_bytes().startswith(b"\x89PNG")


def test_what_only_pictures_have_is_refused(folder, caplog):
    assert run(folder, "--codecs", "jpeg") == 2
    assert "--codecs jpeg code pictures, and the model takes clips" in caplog.text


@pytest.fixture(scope="module")
def i3d(tmp_path_factory):
    """A file of random weights under I3D's names."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("i3d") / "i3d.pt"
    torch.save(I3DNetwork().state_dict(), file)
    return f"i3d-kinetics-400={file}"


def test_a_judge_of_clips_refuses_pictures(folder, i3d, tmp_path, caplog):
    tiny_spae.model().save_pretrained(str(tmp_path / "model"))
    assert run(folder, "--judges", i3d, "--model", str(tmp_path / "model")) == 2
    assert "i3d-kinetics-400 judges clips, and the model takes pictures of (16, 16)" in caplog.text


@pytest.mark.slow
def test_fvd_is_the_frechet_distance_of_i3ds_logits(folder, i3d, rebuilt):
    assert run(folder, "--judges", i3d, "--layers", "4", "--limit", "1") == 0
    score = json.loads((folder / "score.json").read_text())
    judge = load_judge(i3d)
    features = [judge(clips[:4]).features for clips in rebuilt[:2]]
    found = score["layers"][3]["judges"]["i3d-kinetics-400"]
    assert found == {"FVD": pytest.approx(frechet(*features), rel=1e-3)}
    assert found["FVD"] > 0
