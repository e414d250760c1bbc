"""Training on clips of digits that move, in mp4 files."""

import dataclasses
import json

import pytest
import torch

from jobs import train
from jobs.training.image_model import ImageModel
from jobs.training.media import check_media
from jobs.training.run_folder import RunRecord, read_history
from spae.config import DataConfig, DiscriminatorConfig, ObjectiveConfig
from spae.data.loader import batches
from spae.data.mp4 import encode_mp4
from spae.data.records import load_index
from spae.model import SPAE
from spae.presets import PRESETS
from spae.training.adversary import Adversary
from spae.training.objective import Objective
from spae.training.state import TrainState
from spae.training.step import train_step
from spae.vocabulary import Vocabulary
from tests import tiny_shards, tiny_spae
from tests.jobs.training.test_loop import _own_logging, fit  # noqa: F401
from tests.videos import frames_of, moving_digit, tone

SMALL = ("--model.network.base-channels", "8", "--model.network.channel-multipliers", "1", "1", "1")
FRAMES = 12


def clips(count, rate=25, frames=FRAMES):
    return [
        (f"c{n}", encode_mp4(frames_of(moving_digit(frames, n, 32), rate), rate=rate, crf=18), n) for n in range(count)
    ]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Digits that move, and a vocabulary without semantics."""
    made = tmp_path_factory.mktemp("videos")
    tiny_shards.write_split(made / "train", [clips(3), clips(3)], "train", "mp4")
    tiny_shards.write_split(made / "images", [tiny_shards.samples(3)], "images")
    tiny_spae.vocabulary(words=60, width=24).save(str(made / "vocabulary"))
    return made


def arguments(videos, run, *more):
    own = ("--shards", f"{videos}/train", "--val-shards", f"{videos}/train", "--vocabulary", f"{videos}/vocabulary")
    own += ("--run", str(run), "--steps", "2", "--log-every", "1", "--data.batch-size", "4", "--data.streams", "4")
    return ["digits-video", *own, *SMALL, "--objective.semantic-weight", "0", *more]


def image_model(videos, **changes):
    """A random image model of the video model's networks and words; where it lies."""
    model = PRESETS["digits-32"].model
    network = dataclasses.replace(model.network, base_channels=8, channel_multipliers=(1, 1, 1))
    torch.manual_seed(1)
    config = dataclasses.replace(model, embedding_width=24, network=network, **changes)
    SPAE(config, Vocabulary.load(f"{videos}/vocabulary")).save_pretrained(f"{videos}/image-model")
    return f"{videos}/image-model"


def test_a_video_model_trains_on_mp4_shards_by_its_configuration_alone(videos, tmp_path):
    job = train.prepare(train.parse_flags(arguments(videos, tmp_path / "run", "--data.clips-per-video", "2")))
    fit(job)
    history = read_history(job.run)
    assert [row["step"] for row in history] == [1, 2]
    assert history[-1]["undecodable"] == 0
    assert history[-1]["validation_psnr"] > 5


def test_a_video_model_begins_with_what_the_image_model_knows(videos, tmp_path):
    url = image_model(videos)
    job = train.prepare(train.parse_flags(arguments(videos, tmp_path / "run", "--image-model", url)))
    assert RunRecord.load(job.run).image_model == f"{SPAE.from_pretrained(url).fingerprint} central"
    assert not json.loads((tmp_path / "run/config.json").read_bytes())["image_model"].startswith("/")
    fit(job)
    model = SPAE.from_pretrained(url).inflate(job.config.model)
    state = TrainState.create(job.config, model)
    first = train_step(state, Objective(job.config.objective), next(batches(job.plan(0, 1))), job.config)
    assert read_history(job.run)[0]["pixel"] == pytest.approx(float(first.terms["pixel"]))


def test_the_discriminator_of_an_image_run_comes_too(videos, tmp_path):
    objective = ObjectiveConfig(discriminator=DiscriminatorConfig(base_channels=4, channel_multipliers=(2,)))
    config = dataclasses.replace(PRESETS["digits-video"], objective=objective)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, embedding_width=24))
    words = Vocabulary.load(f"{videos}/vocabulary")
    image = Adversary(objective.discriminator, (32, 32), (0.0, 0.99))
    model = SPAE(dataclasses.replace(PRESETS["digits-32"].model, embedding_width=24), words)
    state = {"average": model.state_dict(), "adversary": image.state_dict(), "step": 3}
    run = tmp_path / "run"
    (run / "step-00000003").mkdir(parents=True)
    torch.save(state, run / "step-00000003/state.pt")
    register = {"latest_checkpoint_result": {"checkpoint_dir_name": "step-00000003"}}
    (run / "checkpoint_manager_snapshot.json").write_text(json.dumps(register))
    record = RunRecord(PRESETS["digits-32"], words.words_fingerprint, None, "", f"{videos}/vocabulary")
    record = dataclasses.replace(record, config=dataclasses.replace(record.config, model=model.config))
    (run / "config.json").write_bytes(record.to_json())
    begun = TrainState.create(config, SPAE(config.model, words))
    ImageModel(str(run), "central").begin(begun)
    pictures = torch.rand(2, 3, 32, 32)
    still = pictures.unsqueeze(2).repeat(1, 1, 8, 1, 1)
    torch.testing.assert_close(
        begun.adversary.discriminator(still), image.discriminator(pictures), atol=1e-4, rtol=1e-4
    )
    assert torch.equal(begun.average.decoder.head.weight[:, :, 1], model.decoder.head.weight)


def test_an_image_model_that_does_not_suit_is_one_clear_error(videos, tmp_path, caplog):
    url = image_model(videos)
    tiny_spae.vocabulary(words=50, width=24).save(str(tmp_path / "words"))
    other = ("--image-model", url, "--vocabulary", str(tmp_path / "words"))
    assert train.main(arguments(videos, tmp_path / "run", *other)) == 2
    assert "has other words than --vocabulary" in caplog.text
    wider = ("--image-model", url, "--model.network.base-channels", "16")
    assert train.main(arguments(videos, tmp_path / "run", *wider)) == 2
    assert "in the image model and" in caplog.text
    assert not (tmp_path / "run").exists()


def split(tmp_path, samples, suffix="mp4"):
    return load_index(tiny_shards.write_split(tmp_path / "split", [samples], suffix=suffix))


def test_a_split_that_the_model_cannot_train_on_says_what_would_fit(videos, tmp_path):
    video, image = PRESETS["digits-video"], PRESETS["digits-32"]
    with pytest.raises(ValueError, match=r"holds videos, and the model takes pictures .* such as digits-video"):
        check_media(load_index(f"{videos}/train"), image)
    with pytest.raises(ValueError, match=r"is a video \(no video file.*use a preset for pictures"):
        check_media(load_index(f"{videos}/images"), video)
    far = dataclasses.replace(video, data=DataConfig(batch_size=4, frame_stride=2))
    with pytest.raises(
        ValueError, match=r"at most 12 frames; 8 at data\.frame_stride 2 need 15: frame_stride 1 would fit"
    ):
        check_media(load_index(f"{videos}/train"), far)
    with pytest.raises(ValueError, match=r"at most 6 frames; 8 at .* need 8: clips of 6 frames would fit"):
        check_media(split(tmp_path, clips(1, frames=6)), video)
    check_media(load_index(f"{videos}/images"), image)
    check_media(load_index(f"{videos}/train"), video)


def test_videos_of_two_rates_need_a_word_on_which_counts(tmp_path):
    mixed = split(tmp_path, clips(2) + [(f"fast{key}", media, label) for key, media, label in clips(1, rate=30)])
    config = PRESETS["digits-video"]
    with pytest.raises(
        ValueError, match=r"have 25 to 30 frames a second.*--data\.frame-rate 25, which leaves others out"
    ):
        check_media(mixed, config)
    for rate in (25.0, 0.0):
        check_media(mixed, dataclasses.replace(config, data=dataclasses.replace(config.data, frame_rate=rate)))


def test_sound_alone_among_videos_is_no_reason_to_stop(tmp_path):
    check_media(split(tmp_path, [("sound", tone(), 0), *clips(1)]), PRESETS["digits-video"])
    with pytest.raises(ValueError, match="no video stream"):
        check_media(split(tmp_path / "alone", [("sound", tone(), 0)]), PRESETS["digits-video"])


def test_settings_of_videos_are_refused_for_pictures():
    config = PRESETS["digits-32"]
    with pytest.raises(ValueError, match=r"are of videos, and the model takes \(32, 32\)"):
        dataclasses.replace(config, data=dataclasses.replace(config.data, frame_stride=2))
    with pytest.raises(ValueError, match=r"clips_per_video=0 must be at least 1"):
        DataConfig(clips_per_video=0)
